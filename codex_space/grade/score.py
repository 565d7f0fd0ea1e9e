"""From samples to pass@1: canaries first, then every sample in the sandbox, then the unbiased estimate."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from codex_space.core.errors import GradeError
from codex_space.grade.problems import Benchmark, Problem, suite_of
from codex_space.grade.reference import References
from codex_space.grade.samples import Sample
from codex_space.grade.sandbox import Job, Sandbox, Verdict
from codex_space.grade.statistics import pass_rate

_LOOP = re.compile(r"^([ \t]*)(?:async )?(?:for|while)\b", re.MULTILINE)
CANARIES = 6
CANARY_CPU_S = 0.3
"""Canaries are taken from the problems whose canonical solution is quicker."""


@dataclass(frozen=True)
class Report:
    """Scores and the verdicts they come from.

    Attributes:
        task_ids: Sample id -> task id, in the order of the samples.
        verdicts: By sample id.
        live: Tasks whose tests held objects of the solution's own classes.
    """

    benchmark: Benchmark
    task_ids: dict[str, str]
    verdicts: dict[str, Verdict]
    live: tuple[str, ...] = ()

    def passed(self, suite: str) -> dict[str, list[bool]]:
        """Return task id -> whether each of its samples passed that suite."""
        found: dict[str, list[bool]] = {}
        for sample_id, task_id in self.task_ids.items():
            found.setdefault(task_id, []).append(self.verdicts[sample_id].passed(suite))
        return found

    def score(self, suite: str, k: int = 1) -> float:
        """Return the mean of pass@k over tasks."""
        return pass_rate(self.passed(suite), k).value


def grade_samples(
    benchmark: Benchmark,
    problems: list[Problem],
    samples: list[Sample],
    known: References,
    sandbox: Sandbox,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> Report:
    """Grade every sample, after the canaries; those likely to take longest first, so that no core is idle at the end.

    Raises:
        GradeError: A canary came out wrong.
    """
    run_canaries(problems, known, sandbox)
    verdicts = {}

    def likely(sample: Sample) -> tuple[int, float]:
        return _loops(sample.programs[-1]), sum(each.cpu_s for each in known[sample.task_id].values())

    for verdict in sandbox.grade(jobs_of(problems, sorted(samples, key=likely, reverse=True), known)):
        verdicts[verdict.job_id] = verdict
        on_verdict(verdict)
    live = tuple(problem.task_id for problem in problems if any(tests.live for tests in problem.tests))
    return Report(benchmark, {sample.sample_id: sample.task_id for sample in samples}, verdicts, live)


def jobs_of(problems: list[Problem], samples: Iterable[Sample], known: References) -> Iterable[Job]:
    """Return the job of each sample; `samples` may still be growing."""
    by_id = {problem.task_id: problem for problem in problems}
    for sample in samples:
        yield _job(by_id[sample.task_id], sample.sample_id, sample.programs, known)


def run_canaries(problems: list[Problem], known: References, sandbox: Sandbox) -> None:
    """See canonical solutions pass and the empty program fail, on a few quick problems spread over the benchmark.

    All canonical solutions ran when the references were made; this sees that grading itself still tells right from wrong.

    Raises:
        GradeError: It does not.
    """
    quick = [p for p in problems if sum(known[p.task_id][t.name].cpu_s for t in p.tests) < CANARY_CPU_S] or problems
    chosen = quick[:: max(1, len(quick) // CANARIES)]
    right = [_job(problem, f"canonical {problem.task_id}", (problem.canonical,), known) for problem in chosen]
    empty = [_job(problem, f"empty {problem.task_id}", ("",), known) for problem in chosen]
    verdicts = {verdict.job_id: verdict for verdict in sandbox.grade([*right, *empty])}
    wrong = [job.job_id for job in right if not verdicts[job.job_id].passed(job.suites[-1].name)]
    wrong += [job.job_id for job in empty if verdicts[job.job_id].passed(job.suites[0].name)]
    if wrong:
        raise GradeError(
            "a canary came out wrong, so no score is shown",
            where=", ".join(wrong[:3]),
            cure="Canonical solutions must pass and the empty program fail; try again on a machine that is less busy.",
        )


def _loops(program: str) -> int:
    """Return how deep loops stand inside loops, by their indentation: what takes long where the canonical solution does not."""
    inside, deepest = list[int](), 0
    for line in _LOOP.finditer(program):
        indent = len(line[1].expandtabs())
        while inside and indent <= inside[-1]:
            inside.pop()
        inside.append(indent)
        deepest = max(deepest, len(inside))
    return deepest


def _job(problem: Problem, job_id: str, programs: tuple[str, ...], known: References) -> Job:
    suites = tuple(suite_of(problem, tests, known[problem.task_id][tests.name]) for tests in problem.tests)
    return Job(job_id, programs, suites)
