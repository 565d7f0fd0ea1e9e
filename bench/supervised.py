"""(b) Wall time of a supervised run against the same TRL script run bare, in interleaved pairs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import REPO, clean_environ, quartiles, write_result
from bench.training import make_base, recipe_text, write_rows

PAIRS = int(os.environ.get("BENCH_PAIRS", "8"))
STEPS = 60


def main() -> dict[str, object]:
    """Time whole processes: `codex-space train` from its start to its end against `python bare_sft.py`."""
    ratios, bare_s = [], []
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, rows = make_base(folder / "base"), write_rows(folder / "rows.jsonl")
        ours = [sys.executable, "-m", "codex_space", "train", "-", "--json", "--workspace", str(folder / "workspace")]
        recipe = recipe_text(base, rows, "supervised", STEPS)
        for pair in range(PAIRS):
            theirs = [
                sys.executable,
                "-m",
                "bench.bare_sft",
                str(base),
                str(rows),
                str(folder / f"bare-{pair}"),
                str(STEPS),
            ]
            took = {}
            for which in ("ours", "bare") if pair % 2 else ("bare", "ours"):
                started = time.monotonic()
                done = subprocess.run(
                    ours if which == "ours" else theirs,
                    input=recipe if which == "ours" else None,
                    env={**clean_environ(), "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
                    capture_output=True,
                    text=True,
                    cwd=REPO,
                    check=True,
                )
                took[which] = time.monotonic() - started
                if which == "ours" and json.loads(done.stdout)["status"] != "succeeded":
                    raise RuntimeError(done.stdout)
            ratios.append(took["ours"] / took["bare"])
            bare_s.append(took["bare"])
    figures = {
        "steps": STEPS,
        "bare_s": quartiles(bare_s),
        "supervised_to_bare_ratio": quartiles(ratios),
        "goal": {"supervised_to_bare_ratio": 1.03},
    }
    write_result("supervised", figures)
    return figures
