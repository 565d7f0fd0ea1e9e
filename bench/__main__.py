"""`python -m bench [NAME ...]`: measure all or some, then print one table."""

import importlib
import json
import sys

from bench.measure import RESULTS

NAMES = (
    "page_start",
    "million_points",
    "event_delay",
    "supervised",
    "throughput",
    "viewers",
    "grading",
    "fit",
    "export",
    "stdlib",
)
WHEN_NAMED = ("gpu", "soak", "chaos", "pretraining", "image", "people")
"""Wants a GPU; takes ten minutes; twenty; a quarter of an hour; wants root and debootstrap; seven minutes, and the tests' Hub."""


def main(names: list[str]) -> int:
    """Run the named measurements and print what bench/results holds."""
    unknown = set(names) - {*NAMES, *WHEN_NAMED}
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join((*NAMES, *WHEN_NAMED))}", file=sys.stderr)
        return 2
    for name in names or NAMES:
        print(f"measuring {name} ...", file=sys.stderr)
        importlib.import_module(f"bench.{name}").main()
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        skipped = {"name", "machine", "versions", "date"}
        for key, value in result.items():
            if key not in skipped:
                print(f"{result['name']:<16} {key:<26} {json.dumps(value, ensure_ascii=False)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
