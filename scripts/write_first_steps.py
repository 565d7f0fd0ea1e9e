"""Write data/benchmarks/first-steps.jsonl: our own problems, from completing a return to whole functions with edge cases.

All of it is our own. Each problem in first_steps_problems.txt is a line with its tier (1 easiest, 4 hardest), a request, the
documented function that solves it, and what must hold of it. Run this after editing it. The file lies in a folder of its
own so that no page offers it as a training set.
"""

import ast
import json
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "data" / "benchmarks" / "first-steps.jsonl"


def main() -> None:
    """Write the file anew."""
    rows = problems((HERE / "first_steps_problems.txt").read_text(encoding="utf-8"))
    TARGET.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    tiers = Counter(row["tier"] for row in rows)
    print(f"{TARGET.name}: {len(rows)} problems, {dict(sorted(tiers.items()))}, {TARGET.stat().st_size:,} bytes")


def problems(text: str) -> list[dict[str, str | int]]:
    """Return the rows in HumanEval's form, with the tier and the chat's request added."""
    blocks = text.split("=== ")[1:]
    return [problem(number, block.strip()) for number, block in enumerate(blocks)]


def problem(number: int, block: str) -> dict[str, str | int]:
    """Part one problem's function at the end of its docstring."""
    head, _, checks = block.partition("\n---\n")
    tier, request, code = head.split("\n", 2)
    (function,) = ast.parse(code).body
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"problem {number} is no function")
    lines = code.splitlines(keepends=True)
    end = function.body[0].end_lineno
    asserts = "".join(f"    assert {line}\n" for line in checks.splitlines())
    return {
        "task_id": f"FirstSteps/{number}",
        "tier": int(tier),
        "request": request,
        "prompt": "".join(lines[:end]),
        "entry_point": function.name,
        "canonical_solution": "".join(lines[end:]) + "\n",
        "test": f"def check(candidate):\n{asserts}",
    }


if __name__ == "__main__":
    main()
