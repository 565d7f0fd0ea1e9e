"""A few facts by name that go where the database goes, and with it."""

from codex_space.store.db import Database


def read(db: Database, name: str) -> str | None:
    """Return a fact, None where it is not known."""
    rows = db.query("SELECT value FROM facts WHERE name = ?", (name,))
    return str(rows[0]["value"]) if rows else None


def keep(db: Database, name: str, value: str) -> str:
    """Note a fact that is not known yet; return what is known from then on."""
    with db.transaction() as cursor:
        cursor.execute("INSERT OR IGNORE INTO facts (name, value) VALUES (?, ?)", (name, value))
    return read(db, name) or value


def forget(db: Database, name: str) -> None:
    """Let go of a fact."""
    with db.transaction() as cursor:
        cursor.execute("DELETE FROM facts WHERE name = ?", (name,))
