"""Read out of the database what a card tells of a run's evaluations."""

from codex_space.core.origin import Graded
from codex_space.grade.statistics import is_solved
from codex_space.store import evaluations
from codex_space.store.db import Database
from codex_space.store.evaluations import Evaluation


def read_graded(db: Database, run_id: str, step: int) -> list[Graded]:
    """Return what a run was asked up to a step, as far as it is graded."""
    rows = evaluations.of_writer(db, run_id)
    return [_graded(db, row) for row in rows if row.state == "done" and row.step <= step]


def _graded(db: Database, row: Evaluation) -> Graded:
    passed: dict[str, list[bool]] = {}
    for verdict in evaluations.list_verdicts(db, row):
        passed.setdefault(verdict["task_id"], []).append(all((verdict.get("passed") or {"": False}).values()))
    solved = {task: is_solved(each) for task, each in passed.items()}
    return Graded(row.step, row.benchmark, row.protocol, tuple(row.scores), solved)
