"""(a) Time until the page answers and its memory then, warm, from an empty workspace."""

import tempfile
from pathlib import Path

from bench.measure import quartiles, served_page, write_result

RUNS = 7


def main() -> dict[str, object]:
    """Start the page one time to warm the disk cache, then RUNS times."""
    seconds, mebibytes = [], []
    for run in range(RUNS + 1):
        with tempfile.TemporaryDirectory() as folder, served_page(Path(folder)) as (_, process, took_s):
            if run:
                seconds.append(took_s)
                mebibytes.append(process.memory_info().rss / (1 << 20))
    figures = {
        "seconds_until_page": quartiles(seconds),
        "memory_mib": quartiles(mebibytes),
        "goal": {"seconds_until_page": 3.5, "memory_mib": 300},
        "peer": "LLaMA-Factory 0.9.5's page: 7 to 13 s, 910 MiB on the same kind of machine",
    }
    write_result("page_start", figures)
    return figures
