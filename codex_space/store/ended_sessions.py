"""Sign-ins that were ended before their time: the hash of each, until its token would have run out by itself."""

from codex_space.store.db import Database


def add(db: Database, key: str, *, over_at: float) -> None:
    """Note that a sign-in is over; after `over_at` nobody need know."""
    with db.transaction() as cursor:
        cursor.execute("INSERT OR REPLACE INTO ended_sessions (key, over_at) VALUES (?, ?)", (key, over_at))


def take(db: Database, now: float) -> set[str]:
    """Return the hashes of those still to be refused, and let the others go."""
    with db.transaction() as cursor:
        cursor.execute("DELETE FROM ended_sessions WHERE over_at < ?", (now,))
    return {str(row["key"]) for row in db.query("SELECT key FROM ended_sessions")}
