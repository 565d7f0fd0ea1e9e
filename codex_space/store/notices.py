"""Which ends of runs people were told of, by which way, and what is still to be told."""

from collections.abc import Mapping
from dataclasses import dataclass

from codex_space.store.db import Database


@dataclass(frozen=True)
class Notice:
    """One end of a run to be told by one way."""

    run_id: str
    attempt: int
    way: str
    tries: int


def add_missing(db: Database, ways: Mapping[str, bool]) -> None:
    """Make a notice for each end that has none: waiting for a way that is used, settled for one that is not (yet)."""
    with db.transaction() as cursor:
        for way, is_used in ways.items():
            cursor.execute(
                "INSERT OR IGNORE INTO notices (run_id, attempt, way, state) SELECT id, attempt, ?, ? FROM runs"
                " WHERE state IN ('succeeded', 'failed', 'stopped', 'lost')",
                (way, "waiting" if is_used else "sent"),
            )


def due(db: Database, now: float) -> list[Notice]:
    """Return what is to be told now, oldest first."""
    rows = db.query(
        "SELECT run_id, attempt, way, tries FROM notices WHERE state = 'waiting' AND next_try_at <= ? ORDER BY run_id",
        (now,),
    )
    return [Notice(**dict(row)) for row in rows]


def put(db: Database, notice: Notice, state: str, *, next_try_at: float = 0.0, error: str = "") -> None:
    """Store what became of a try."""
    with db.transaction() as cursor:
        cursor.execute(
            "UPDATE notices SET state = ?, tries = ?, next_try_at = ?, error = ? WHERE run_id = ? AND attempt = ? AND way = ?",
            (state, notice.tries + 1, next_try_at, error, notice.run_id, notice.attempt, notice.way),
        )
