"""Read the log of who did what; `Context.note` writes it."""

from codex_space.services.context import Context
from codex_space.store import audit
from codex_space.store.audit import Deed


def read(ctx: Context, *, limit: int = 50, before: int | None = None) -> list[Deed]:
    """Return what was done, newest first, before that sequence number where given."""
    return audit.read(ctx.db, limit=limit, before=before)
