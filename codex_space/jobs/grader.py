"""Grade the answers that workers leave in their job folders, while they are still being written, one evaluation at a time.

Only the workspace's owner runs one. Verdicts and scores go into the database, which workers never open; the files beside
the answers are copies for people and for the worker's choice among its own checkpoints. Generated code runs in the sandbox alone; the sandbox is started with the first
answers (its escape battery runs then), and a machine where it does not hold gets a sentence instead of scores.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import CodexError, GradeError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import MEASURED, EvaluateRecipe, parse_recipe
from codex_space.grade import library
from codex_space.grade.jobs import Verdict
from codex_space.grade.library import PASS_RATE, PROTOCOL, RESULTS, SAMPLES, SCORES, VERDICTS
from codex_space.grade.reference import References, references
from codex_space.grade.samples import Sample
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.score import jobs_of, run_canaries
from codex_space.grade.statistics import pass_rate, wilson
from codex_space.jobs.answer_file import AnswerFile
from codex_space.jobs.measured import Measured
from codex_space.jobs.result_table import render_table
from codex_space.store import evaluations, metrics, runs
from codex_space.store.db import Database
from codex_space.store.evaluations import Evaluation
from codex_space.store.runs import FINAL

KS = (1, 10, 100)
_FIELDS = ("task_id", "sample", "passed", "status", "why", "cpu_s", "wall_s", "rule", "flaw", "num_tokens")
_log = logging.getLogger(__name__)


class Grader:
    """Owns the sandbox; `step` does what there is to do now and may take as long as that lasts."""

    def __init__(self, db: Database, workspace: Workspace, *, workers: int | None = None) -> None:
        """Start nothing yet. One core is left to whatever is training."""
        self._db, self._workspace = db, workspace
        self._workers = workers or max(1, len(os.sched_getaffinity(0)) - 1)
        self._sandbox: Sandbox | None = None
        self._open: dict[tuple[str, int, str, float], _Work | Measured] = {}
        self._is_closed = False

    def step(self, now: float) -> None:
        """Grade what was written since the last step, oldest evaluation first: a curve grows at its end."""
        waiting = evaluations.list_evaluations(self._db, state="waiting")[::-1]
        self._open = {key: self._open[key] for key in map(_key, waiting) if key in self._open}
        for row in waiting:
            try:
                self._grade(row, now)
            except Exception as error:  # noqa: BLE001  # one folder's content must not keep the others waiting
                if self._is_closed:
                    return  # the next owner begins this one again
                _log.warning("evaluation of %s step %d: %s", row.run_id, row.step, error)
                told = str(error) if isinstance(error, CodexError) else f"it cannot be graded: {error}"[:300]
                evaluations.fail(self._db, row, told.encode("utf-8", "replace").decode())
                self._open.pop(_key(row), None)

    def close(self) -> None:
        """End the sandbox; what is being graded is begun again by the next owner."""
        self._is_closed = True
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _grade(self, row: Evaluation, now: float) -> None:
        run = runs.read_run(self._db, row.run_id)
        is_over = run.state in FINAL  # asked before reading: what it wrote last is there then
        job = self._workspace.job(row.run_id)
        work = self._open.get(_key(row))
        if work is None:
            if not (job.evaluation(row.step, row.benchmark) / SAMPLES).is_file() and not is_over:
                return
            work = self._open[_key(row)] = self._begin(row, run.recipe, job)
        for told in work.graded(self._running):
            evaluations.add_verdict(self._db, row, told, **work.counts)
        if work.counts["num_graded"] >= row.num_samples:
            scores = work.scores()
            work.write_results(scores)
            points = [(PASS_RATE + score["name"], row.step, score["value"], now) for score in scores if score["k"] == 1]
            with self._db.transaction():
                evaluations.finish(self._db, row, scores)
                if row.target_run == row.run_id:  # what it was asked in training is one protocol, so one curve
                    metrics.add_points(self._db, row.run_id, points)
            del self._open[_key(row)]
        elif is_over:
            reason = f"it ended after {work.counts['num_graded']:,} of {row.num_samples:,} answers"
            evaluations.fail(self._db, row, reason)
            del self._open[_key(row)]

    def _begin(self, row: Evaluation, recipe_text: str, job: JobDir) -> "_Work | Measured":
        """Read the problems, see the canaries sing, and start counting."""
        recipe = parse_recipe(recipe_text)
        if isinstance(recipe, EvaluateRecipe) and recipe.benchmark in MEASURED:
            evaluations.drop_verdicts(self._db, row)
            return Measured(recipe, job.evaluation(row.step, row.benchmark), row.num_samples)
        path, limit = library.asked_of(recipe, row.benchmark, self._workspace.benchmarks)
        loaded = library.load(row.benchmark, path, limit)
        told = durable.read_json(job.evaluation(row.step, row.benchmark) / PROTOCOL) or {}
        if told.get("dataset_version", loaded.version) != loaded.version:
            what = "the problems file was changed after the model was asked"
            raise GradeError(what, where=path.name, cure="Evaluate again.")
        sandbox = self._running()
        known = references(loaded.problems, sandbox, self._workspace.benchmarks)
        run_canaries(loaded.problems, known, sandbox)
        per_task = recipe.num_samples if isinstance(recipe, EvaluateRecipe) else 1
        wanted = per_task * len(loaded.problems)
        if row.num_samples != wanted:
            raise GradeError(f"{row.num_samples:,} answers were announced, not {wanted:,}", where=row.benchmark)
        evaluations.drop_verdicts(self._db, row)
        return _Work(loaded, known, job.evaluation(row.step, row.benchmark), per_task)

    def _running(self) -> Sandbox:
        if self._is_closed:
            raise GradeError("grading is being closed")
        if self._sandbox is None:
            sandbox = Sandbox(self._workers)
            sandbox.__enter__()
            self._sandbox = sandbox
        return self._sandbox


class _Work:
    """One evaluation that is being graded; begun again from its first answer after a restart."""

    def __init__(self, loaded: library.Loaded, known: References, folder: Path, per_task: int) -> None:
        self._file = AnswerFile(folder, SAMPLES)
        self._per_task = per_task
        self.loaded, self.known, self._folder = loaded, known, folder
        self._task_ids = {problem.task_id for problem in loaded.problems}
        self._live = {problem.task_id for problem in loaded.problems if any(tests.live for tests in problem.tests)}
        self._rows: dict[str, dict[str, Any]] = {}
        self.passed: dict[str, Verdict] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How far it is."""
        last = list(self.loaded.benchmark.scores.values())[-1]
        return {
            "num_graded": len(self.passed),
            "num_passed": sum(verdict.passed(last) for verdict in self.passed.values()),
            "num_live": sum(self._rows[sample_id]["task_id"] in self._live for sample_id in self.passed),
        }

    def graded(self, sandbox: Callable[[], Sandbox]) -> Iterator[dict[str, Any]]:
        """Grade the answers written since the last call and yield all that is kept of each; other lines are passed over."""
        while samples := [sample for row in self._file.new_rows() if (sample := self._sample(row))]:
            for verdict in sandbox().grade(jobs_of(self.loaded.problems, samples, self.known)):
                yield self._take(verdict)

    def _sample(self, row: dict[str, Any]) -> Sample | None:
        task_id, number, program = row.get("task_id"), row.get("sample"), row.get("program")
        sample_id = f"{task_id}#{number}"
        if not (isinstance(task_id, str) and type(number) is int and isinstance(program, str)):
            return None
        if task_id not in self._task_ids or not 0 <= number < self._per_task or sample_id in self._rows:
            return None
        told = {key: row.get(key) for key in _FIELDS}
        self._rows[sample_id] = {**told, "program_sha256": library.program_hash(program)}
        return Sample(sample_id, task_id, (program,))

    def _take(self, verdict: Verdict) -> dict[str, Any]:
        self.passed[verdict.job_id] = verdict
        row = self._rows[verdict.job_id]
        failed = next((each for each in verdict.outcomes.values() if each.status != "pass"), None)
        row["passed"] = {suite: verdict.passed(suite) for suite in self.loaded.benchmark.scores.values()}
        row["status"], row["why"] = (failed.status, failed.why[:2000]) if failed else ("pass", "")
        row["cpu_s"] = round(sum(each.cpu_s for each in verdict.outcomes.values()), 4)
        row["wall_s"] = round(sum(each.wall_s for each in verdict.outcomes.values()), 4)
        return row

    def scores(self) -> list[dict[str, Any]]:
        """Return pass@k with its interval, for each k there are samples for, of each suite and of each tier of problems."""
        found = []
        for name, suite in self.loaded.benchmark.scores.items():
            by_task: dict[str, list[bool]] = {}
            for sample_id, verdict in self.passed.items():
                by_task.setdefault(self._rows[sample_id]["task_id"], []).append(verdict.passed(suite))
            least = min(map(len, by_task.values()))
            found += [_score(name, by_task, k) for k in KS if k <= least]
            for tier in sorted(set(self.loaded.tiers.values())):
                mine = {task: passed for task, passed in by_task.items() if self.loaded.tiers.get(task) == tier}
                if mine:
                    found.append(_score(f"{name} tier {tier}", mine))
        return found

    def write_results(self, scores: list[dict[str, Any]]) -> None:
        """Write for others what the store holds: the scores, and one line a sample as JSON and for a spreadsheet."""
        durable.write_json(self._folder / SCORES, {"schema": 1, "scores": scores, "version": self.loaded.version})
        told = ({**row, "passed": all((row["passed"] or {"": False}).values())} for row in self._rows.values())
        durable.write_text(self._folder / RESULTS, render_table(_FIELDS, told))
        lines = (json.dumps(row) + "\n" for row in self._rows.values())
        durable.write_text(self._folder / VERDICTS, "".join(lines))


def _score(name: str, by_task: dict[str, list[bool]], k: int = 1) -> dict[str, Any]:
    score = pass_rate(by_task, k)
    # where all problems score alike a bootstrap says nothing of the spread; Wilson's formula does
    interval = score.interval or wilson(round(score.value * score.num_rows), score.num_rows)
    return {
        "name": name if k == 1 else f"{name} pass@{k}",
        "k": k,
        "value": round(score.value, 6),
        "low": round(interval.low, 6),
        "high": round(interval.high, 6),
        "num_problems": score.num_rows,
    }


def _key(row: Evaluation) -> tuple[str, int, str, float]:
    return row.run_id, row.step, row.benchmark, row.started_at
