"""What canonical solutions give, computed in the sandbox once and kept on disk by the hash of the problems."""

import gzip
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import GradeError
from codex_space.grade.problems import Problem, Reference, Tests, collecting_nothing
from codex_space.grade.sandbox import Job, Limits, Outcome, Sandbox, Suite, Verdict

FORMAT = 2
SLOW_CALL_S = 0.25
"""Four times less than this is within a call's least limit."""
_LIMITS = Limits(call_cpu_s=60.0, total_cpu_s=200.0, load_cpu_s=20.0)
References = dict[str, dict[str, Reference]]


def references(problems: list[Problem], sandbox: Sandbox, folder: Path) -> References:
    """Return task id -> suite name -> reference, from `folder` where it is there, else computed and kept there.

    Raises:
        GradeError: A canonical solution fails: the file is damaged, or the sandbox lacks something.
    """
    found = _read(_path(folder, problems))
    if found is None:
        found = _compute(problems, sandbox)
        write(folder, problems, found)
    return found


def _path(folder: Path, problems: list[Problem]) -> Path:
    return folder / f"reference-{_key(problems)}.json.gz"


def _key(problems: list[Problem]) -> str:
    version = f"{FORMAT} {sys.version_info[:3]}"
    return hashlib.sha256("\n".join([version, *(p.digest for p in problems)]).encode()).hexdigest()[:24]


def _compute(problems: list[Problem], sandbox: Sandbox) -> References:
    by_id = {problem.task_id: problem for problem in problems}
    jobs = (Job(p.task_id, (p.canonical,), tuple(_suite(tests) for tests in p.tests)) for p in problems)
    return {verdict.job_id: _of(by_id[verdict.job_id], verdict) for verdict in sandbox.grade(jobs)}


def _suite(tests: Tests) -> Suite:
    if tests.calls is not None:
        return Suite(tests.name, {"kind": "record", "calls": tests.calls}, tests.names, _LIMITS)
    judge = {"kind": "program", "setup": tests.setup, "test": tests.test}
    return Suite(tests.name, judge, tests.names, _LIMITS, tests.live)


def _of(problem: Problem, verdict: Verdict) -> dict[str, Reference]:
    for outcome in verdict.outcomes.values():
        if outcome.status != "pass":
            raise GradeError(
                f"the canonical solution fails ({outcome.why})",
                where=problem.task_id,
                cure="Nothing is graded; check that the problems file is whole.",
            )
    found = {tests.name: _reference(tests, verdict.outcomes[tests.name]) for tests in problem.tests}
    for tests in problem.tests:
        opaque = next((o for o in found[tests.name].outputs if isinstance(o, str) and '{"opaque":' in o), None)
        if opaque is not None and tests.oracle != "any":
            raise GradeError(
                f"the canonical solution returns what cannot be compared ({opaque[:80]})",
                where=f"{problem.task_id} {tests.name}",
                cure="Nothing is graded; such a problem needs a test program.",
            )
    return found


def _reference(tests: Tests, outcome: Outcome) -> Reference:
    outputs = outcome.found.get("outputs", [])
    if tests.oracle == "not none":
        outputs = ["false" if output == "null" else "true" for output in outputs]
    slow = [(place, cpu_s) for place, cpu_s in enumerate(outcome.found.get("times", [])) if cpu_s > SLOW_CALL_S]
    return Reference(outcome.cpu_s, tuple(outputs), tuple(slow))


def _read(path: Path) -> References | None:
    try:
        with collecting_nothing(), gzip.open(path, "rt", encoding="utf-8") as file:
            kept = json.load(file)
        return {task: {name: _parsed(value) for name, value in suites.items()} for task, suites in kept.items()}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or a damaged one
        return None


def _parsed(value: dict[str, Any]) -> Reference:
    slow = tuple((int(place), float(cpu_s)) for place, cpu_s in value["slow"])
    return Reference(float(value["cpu_s"]), tuple(value["outputs"]), slow)


def write(folder: Path, problems: list[Problem], found: References) -> None:
    """Keep references of exactly these problems."""
    path = _path(folder, problems)
    kept = {task: {name: asdict(value) for name, value in suites.items()} for task, suites in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(path, gzip.compress(json.dumps(kept).encode(), 1, mtime=0))
