"""The evaluations' rows: which model was asked which benchmark, every verdict on its answers, and the scores."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codex_space.store.db import Database

State = Literal["waiting", "done", "failed"]


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to one benchmark.

    Attributes:
        step: Of the run that wrote the answers; 0 for a run of kind evaluate.
        target_run: The run whose checkpoint was asked; None for a model from elsewhere.
        target_step: Which of its checkpoints; 0 is the base it started from.
        started_at: When the answers began to be written; a second time makes all that was graded void.
        num_samples: Answers there will be.
        num_passed: Answers that passed every suite.
        num_live: Answers whose tests hold objects of the solution's own classes, by handle, which is weaker.
        scores: {name, value, low, high} each, once done.
    """

    run_id: str
    step: int
    benchmark: str
    target_run: str | None
    target_step: int
    state: State
    reason: str
    protocol: str
    started_at: float
    num_samples: int
    num_graded: int
    num_passed: int
    num_live: int
    scores: list[dict[str, Any]]


def start(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database,
    run_id: str,
    step: int,
    benchmark: str,
    *,
    target: tuple[str | None, int],
    num_samples: int,
    protocol: str,
    now: float,
) -> None:
    """Note that a model is being asked; answers written again (a resumed run) are graded again."""
    with db.transaction() as cursor:
        cursor.execute(
            "INSERT OR REPLACE INTO evaluations (run_id, step, benchmark, target_run, target_step, state, protocol, "
            "started_at, num_samples) VALUES (?, ?, ?, ?, ?, 'waiting', ?, ?, ?)",
            (run_id, step, benchmark, *target, protocol, now, num_samples),
        )


def add_verdict(
    db: Database, row: Evaluation, verdict: dict[str, Any], *, num_graded: int, num_passed: int, num_live: int
) -> None:
    """Keep what became of one answer (`task_id`, `sample`, and what else the verdict holds) and how many are graded."""
    with db.transaction() as cursor:
        if _update(db, row, "num_graded = ?, num_passed = ?, num_live = ?", (num_graded, num_passed, num_live)):
            cursor.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)",
                (*_name(row), verdict["task_id"], verdict["sample"], json.dumps(verdict)),
            )


def list_verdicts(db: Database, row: Evaluation, task_id: str | None = None) -> list[dict[str, Any]]:
    """Return the verdicts of an evaluation, or those on the answers to one problem, by problem and sample."""
    rows = db.query(
        "SELECT verdict FROM verdicts WHERE run_id = ?1 AND step = ?2 AND benchmark = ?3 AND (?4 IS NULL OR task_id = ?4)"
        " ORDER BY task_id, sample",
        (*_name(row), task_id),
    )
    return [json.loads(row["verdict"]) for row in rows]


def drop_verdicts(db: Database, row: Evaluation) -> None:
    """Forget the verdicts of an evaluation whose grading begins again."""
    with db.transaction() as cursor:
        cursor.execute("DELETE FROM verdicts WHERE run_id = ? AND step = ? AND benchmark = ?", _name(row))


def finish(db: Database, row: Evaluation, scores: Sequence[dict[str, Any]]) -> None:
    """Note the scores."""
    _update(db, row, "state = 'done', reason = '', scores = ?", (json.dumps(list(scores)),))


def fail(db: Database, row: Evaluation, reason: str) -> None:
    """Note why there is no score."""
    _update(db, row, "state = 'failed', reason = ?", (reason,))


def read_evaluation(db: Database, run_id: str, step: int, benchmark: str) -> Evaluation | None:
    """Return one evaluation, None where there is none."""
    rows = db.query(
        "SELECT * FROM evaluations WHERE run_id = ? AND step = ? AND benchmark = ?", (run_id, step, benchmark)
    )
    return _evaluation(rows[0]) if rows else None


def list_evaluations(
    db: Database, *, target_run: str | None = None, state: State | None = None, limit: int = 1000
) -> list[Evaluation]:
    """Return evaluations, newest first: all, those of one run's checkpoints, or those in a state."""
    rows = db.query(
        "SELECT * FROM evaluations WHERE (?1 IS NULL OR target_run = ?1) AND (?2 IS NULL OR state = ?2) "
        "ORDER BY started_at DESC, run_id, step DESC, benchmark LIMIT ?3",
        (target_run, state, limit),
    )
    return [_evaluation(row) for row in rows]


def of_writer(db: Database, run_id: str) -> list[Evaluation]:
    """Return the evaluations whose answers a run wrote, oldest step first."""
    rows = db.query("SELECT * FROM evaluations WHERE run_id = ? ORDER BY step, benchmark", (run_id,))
    return [_evaluation(row) for row in rows]


def _update(db: Database, row: Evaluation, what: str, values: Sequence[Any]) -> bool:
    """Change the row unless its answers were begun anew meanwhile; say whether it was changed."""
    with db.transaction() as cursor:
        cursor.execute(
            f"UPDATE evaluations SET {what} WHERE run_id = ? AND step = ? AND benchmark = ? AND started_at = ?",  # noqa: S608  # our own words
            (*values, *_name(row), row.started_at),
        )
        return cursor.rowcount == 1


def _name(row: Evaluation) -> tuple[str, int, str]:
    return row.run_id, row.step, row.benchmark


def _evaluation(row: sqlite3.Row) -> Evaluation:
    return Evaluation(**{**dict(row), "scores": json.loads(row["scores"])})
