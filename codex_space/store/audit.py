"""The log of who did what: one row for each thing a person changed, only ever added to."""

from dataclasses import dataclass

from codex_space.store.db import Database

KEPT_ROWS = 100_000
"""At some 100 bytes a row; older ones go."""


@dataclass(frozen=True)
class Deed:
    """One thing somebody did.

    Attributes:
        at: Seconds since the epoch.
        who: The account, or "this machine", "password", "command line".
        verb: What was done, such as "stop a run".
        what: To what: a run's id, a dataset's name.
    """

    sequence: int
    at: float
    who: str
    verb: str
    what: str


def add(db: Database, *, at: float, who: str, verb: str, what: str) -> None:
    """Write one row and let the oldest go."""
    with db.transaction() as cursor:
        cursor.execute("INSERT INTO audit (at, who, verb, what) VALUES (?, ?, ?, ?)", (at, who, verb, what))
        cursor.execute("DELETE FROM audit WHERE sequence <= ?", ((cursor.lastrowid or 0) - KEPT_ROWS,))


def read(db: Database, *, limit: int = 50, before: int | None = None) -> list[Deed]:
    """Return rows, newest first, older than `before` where given."""
    last = before if before is not None else 1 << 62
    rows = db.query("SELECT * FROM audit WHERE sequence < ? ORDER BY sequence DESC LIMIT ?", (last, limit))
    return [Deed(**dict(row)) for row in rows]
