"""Keep the problems of a file as they are worked with, so that the next grading need not make them again.

A file of EvalPlus holds its inputs as JSON inside JSON lines; parsing and writing 7 MB of them takes longer than grading
thirty samples. What is kept is of one file's content and of this code, and is made again where either is another.
"""

import contextlib
import functools
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.grade.problems import Benchmark, Problem, Tests, collecting_nothing, load_problems


def load_prepared(benchmark: Benchmark, path: Path, folder: Path) -> list[Problem]:
    """Return what `load_problems` does; `folder` keeps them.

    Raises:
        GradeError: As there.
    """
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return load_problems(benchmark, path)  # it says what is wrong
    kept, version = folder / f"problems-{benchmark.name}-{content[:24]}.json", f"{content} {_code()}"
    found = _read(kept, version)
    if found is None:
        found = load_problems(benchmark, path)
        with contextlib.suppress(OSError):  # a full disk costs time, no verdict
            _write(kept, version, found)
    return found


@functools.cache
def _code() -> str:
    """Return what tells this code from another that would make other problems of the same file."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), *here.glob("benchmarks/*.py")])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def _read(path: Path, version: str) -> list[Problem] | None:
    try:
        with collecting_nothing(), path.open("rb") as file:
            if file.readline().decode().rstrip() != version:
                return None
            return [_problem(row) for row in json.load(file)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none yet, or damaged
        return None


def _problem(row: dict[str, Any]) -> Problem:
    tests = tuple(Tests(names=tuple(each.pop("names")), **each) for each in row["tests"])
    problem = Problem(row["task_id"], row["prompt"], row["canonical"], tests)
    problem.__dict__["digest"] = str(row["digest"])  # of a cached property: a fifth of the time
    return problem


def _write(path: Path, version: str, problems: list[Problem]) -> None:
    rows = [{**asdict(problem), "digest": problem.digest} for problem in problems]
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, f"{version}\n{json.dumps(rows)}")
