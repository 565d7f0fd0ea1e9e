"""Problems and benchmarks in the one form everything else here works with, and how a suite of tests is made of them."""

import contextlib
import gc
import hashlib
import json
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codex_space.core.errors import GradeError
from codex_space.grade.files import read_objects
from codex_space.grade.sandbox import Limits, Suite

LEAST_CALL_CPU_S, LEAST_TOTAL_CPU_S, TIME_FACTOR = 1.0, 15.0, 4.0
"""A call: EvalPlus 0.3.1's second, or four times the canonical solution's time. All of a suite: EvalPlus takes a minute by
the clock, so that a sample which needs about one passes on some machines; this is well below and well above the samples
seen, 4 and 60 seconds."""
PROGRAM_CALL_CPU_S = 3.0
MAX_MEMORY_BYTES = 4 << 30
Row = dict[str, Any]


@dataclass(frozen=True)
class Tests:
    """One suite of a problem: `cases` (calls whose outputs are compared with the canonical solution's) or `program`.

    Attributes:
        name: `base` or `plus`.
        names: What of the solution the tests use; the entry point first.
        calls: A list of each call's arguments, as `wire` text; None where a test program is run. A few MBPP+ tasks have none.
        oracle: A key of `compare.ORACLES`, or empty.
        atol: Absolute tolerance of numbers.
        setup: Run before the solution's names are there.
        test: Run with them.
        live: The tests hold objects of the solution's own classes.
    """

    name: str
    names: tuple[str, ...]
    calls: str | None = None
    oracle: str = ""
    atol: float = 0.0
    setup: str = ""
    test: str = ""
    live: bool = False


@dataclass(frozen=True)
class Problem:
    """One task.

    Attributes:
        task_id: As the benchmark spells it: `HumanEval/0`, `Mbpp/2`.
        prompt: What a base model continues.
        canonical: A whole program that solves it.
        tests: In the order they run.
    """

    task_id: str
    prompt: str
    canonical: str
    tests: tuple[Tests, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything a verdict depends on."""
        parts = [self.task_id, self.prompt, self.canonical, [list(vars(tests).values()) for tests in self.tests]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Reference:
    """What the canonical solution gave in one suite: its outputs (of `cases`), CPU time in all and of slow calls."""

    cpu_s: float
    outputs: tuple[Any, ...] = ()
    slow: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A kind of problems file.

    Attributes:
        name: As on the command line.
        scores: Score name -> the last suite a sample has to pass for it.
        load: Makes problems of the rows of a file; a `KeyError` says that a row lacks a field.
        files: Names of the files it reads, for a person.
    """

    name: str
    scores: dict[str, str]
    load: Callable[[list[Row]], list[Problem]]
    files: str


BENCHMARKS: dict[str, Benchmark] = {}


def register(benchmark: Benchmark) -> None:
    """Make a benchmark known; called by each module of `benchmarks`."""
    BENCHMARKS[benchmark.name] = benchmark


def load_problems(benchmark: Benchmark, path: Path) -> list[Problem]:
    """Read a problems file.

    Raises:
        GradeError: It cannot be read, or is not of this benchmark.
    """
    with collecting_nothing():
        return _load_problems(benchmark, path)


@contextlib.contextmanager
def collecting_nothing() -> Generator[None]:
    """Make the millions of small values of a benchmark without a search for cycles among them, a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load_problems(benchmark: Benchmark, path: Path) -> list[Problem]:
    rows = [row for _, row in read_objects(path)]
    try:
        problems = benchmark.load(rows)
    except (AttributeError, KeyError, SyntaxError, TypeError, ValueError, IndexError) as error:
        missing = f"a problem has no field {error}" if isinstance(error, KeyError) else str(error)
        raise GradeError(
            f"this is no problems file of {benchmark.name}: {missing}",
            where=path.name,
            cure=f"It reads {benchmark.files}.",
        ) from error
    if not problems:
        raise GradeError(
            f"there is no problem of {benchmark.name} in it", where=path.name, cure=f"It reads {benchmark.files}."
        )
    untested = [p.task_id for p in problems if all(t.calls == "[]" or not (t.calls or t.test) for t in p.tests)]
    if untested:
        raise GradeError(
            "no test of it calls anything", where=untested[0], cure="Anything would pass; mend or remove it."
        )
    if len({problem.task_id for problem in problems}) < len(problems):
        raise GradeError("two problems have the same task_id", where=path.name, cure="Each may come once.")
    return problems


def suite_of(problem: Problem, tests: Tests, reference: Reference) -> Suite:
    """Return the suite as the sandbox runs it, with limits from the canonical solution's time."""
    memory_bytes = min(MAX_MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    if tests.calls is None:
        call_s = max(PROGRAM_CALL_CPU_S, TIME_FACTOR * reference.cpu_s)
        limits = Limits(call_s, 4 * call_s, call_s, memory_bytes=memory_bytes)
        judge = {"kind": "program", "setup": tests.setup, "test": tests.test}
        return Suite(tests.name, judge, tests.names, limits, tests.live)
    slow = {place: TIME_FACTOR * cpu_s for place, cpu_s in reference.slow}
    total_s = max(LEAST_TOTAL_CPU_S, TIME_FACTOR * reference.cpu_s)
    judge = {
        "kind": "cases",
        "calls": tests.calls,
        "expected": reference.outputs,
        "slow": slow,
        "oracle": tests.oracle,
        "atol": tests.atol,
        "canonical": problem.canonical,
    }
    return Suite(tests.name, judge, tests.names, Limits(LEAST_CALL_CPU_S, total_s, memory_bytes=memory_bytes))
