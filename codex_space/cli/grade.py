"""`codex-space grade`."""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from codex_space.core.errors import GradeError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.grade import benchmarks
from codex_space.grade.prepared import load_prepared
from codex_space.grade.problems import Benchmark, Problem
from codex_space.grade.reference import references
from codex_space.grade.samples import Sample, read_samples
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.score import Report, grade_samples
from codex_space.grade.statistics import pass_rate, wilson


def grade(args: argparse.Namespace) -> int:
    """Grade samples made elsewhere; print scores, with --json verdicts too."""
    benchmark = benchmarks.find(args.benchmark)
    folder = Workspace(read_settings(workspace=args.workspace).workspace).benchmarks
    file: Path = args.problems or _cached(benchmark, folder)
    if not file.is_file() and args.problems is None:
        raise GradeError(f"{benchmark.name} needs --problems", cure=f"It reads {benchmark.files}.")
    sys.setswitchinterval(0.0005)  # one thread parses megabytes; those that serve the sandbox have short turns and many
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(_read, benchmark, file, args.samples, folder)
        with Sandbox(args.workers) as sandbox:
            return _grade(args, benchmark, *reading.result(), sandbox, folder)


def _cached(benchmark: Benchmark, folder: Path) -> Path:
    from codex_space.grade import library  # noqa: PLC0415  # it reads recipes, whose import takes a tenth of a second

    return library.find(benchmark.name).file(folder)


def _read(benchmark: Benchmark, file: Path, samples: Path, folder: Path) -> tuple[list[Problem], list[Sample]]:
    problems = load_prepared(benchmark, file, folder)
    return problems, read_samples(samples, problems)


def _grade(
    args: argparse.Namespace,
    benchmark: Benchmark,
    problems: list[Problem],
    samples: list[Sample],
    sandbox: Sandbox,
    folder: Path,
) -> int:
    known = references(problems, sandbox, folder)
    report = grade_samples(benchmark, problems, samples, known, sandbox, _Progress(len(samples)).step)
    if args.json:
        print(json.dumps(_as_json(report)))
        return 0
    for name, suite in benchmark.scores.items():
        right = sum(map(sum, report.passed(suite).values()))
        score = pass_rate(report.passed(suite))
        interval = score.interval or wilson(round(score.value * score.num_rows), score.num_rows)
        claim = f"95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"
        print(f"{name:<12} pass@1 {100 * score.value:5.1f} %   {claim}   {right} of {len(samples)} samples")
    timeouts = sum(_timed_out(report, sample_id) for sample_id in report.verdicts)
    print(f"{'':<12} {timeouts} ran into a time limit, twice", file=sys.stderr)
    return 0


def _as_json(report: Report) -> dict[str, Any]:
    suites = report.benchmark.scores.values()
    passed = {suite: report.passed(suite) for suite in suites}
    single = all(len(values) == 1 for values in passed["base"].values())
    verdicts = {
        task_id: {suite: passed[suite][task_id][0] if single else passed[suite][task_id] for suite in suites}
        for task_id in passed["base"]
    }
    scores = {name: {"pass@1": round(report.score(suite), 3)} for name, suite in report.benchmark.scores.items()}
    timeouts = [sample_id for sample_id in report.verdicts if _timed_out(report, sample_id)]
    return {**scores, "verdicts": verdicts, "timeouts": sorted(timeouts), "live": list(report.live)}


def _timed_out(report: Report, sample_id: str) -> bool:
    return any(outcome.status == "timeout" for outcome in report.verdicts[sample_id].outcomes.values())


class _Progress:
    """A line on standard error where a person looks at it."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def step(self, _: object) -> None:
        self._done += 1
        if sys.stderr.isatty():
            print(f"\r{self._done}/{self._total} graded", end="" if self._done < self._total else "\n", file=sys.stderr)
