"""Keep copies of the newest backup outside this machine, on a mounted bucket or another disk, while no run is active.

Covered: a copy appears under its name only when it is whole; the older ones go after that, all but three; a folder that is
gone or full is said in the log and on the page, and tried again. `codex-space workspace restore` makes a workspace of one.
Not covered: what changed after the last copy.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import CodexError, WorkspaceError
from codex_space.services import backup
from codex_space.services.context import Context
from codex_space.store import checkpoints, runs
from codex_space.store.runs import ACTIVE

KEPT = 3
EVERY_S = 600.0
"""A copy holds the datasets and the newest checkpoints: not at each small change."""
_PREFIX, _SUFFIX = "codex_space-", ".tar.zst"

_log = logging.getLogger(__name__)


def status_of(ctx: Context) -> dict[str, Any]:
    """Return {at, file, size_bytes, error} of the last copy, empty where there was none."""
    return durable.read_json(ctx.workspace.root / "copies.json") or {}


class Copies:
    """The owner's copyist."""

    def __init__(self, ctx: Context, folder: Path) -> None:
        """Copy nothing yet.

        Raises:
            WorkspaceError: The folder lies in the workspace that it is to survive.
        """
        if folder.resolve().is_relative_to(ctx.workspace.root.resolve()):
            cure = "Set it to a folder elsewhere, such as a mounted bucket."
            raise WorkspaceError("copies inside the workspace go with it", where="CODEX_SPACE_COPIES", cure=cure)
        self._ctx, self._folder = ctx, folder
        self._next_at = 0.0

    def step(self, now: float) -> None:
        """Make a copy where something has changed since the last one and nothing trains."""
        if now < self._next_at or runs.count_runs(self._ctx.db, states=tuple(ACTIVE)):
            return
        state, last = self._state(), status_of(self._ctx)
        if last.get("state") == state and not last.get("error"):
            return
        self._next_at = now + EVERY_S
        try:
            told = {**self._copy(now), "error": ""}
        except (CodexError, OSError) as error:
            _log.warning("no copy was made: %s", error)
            told = {**last, "error": str(error)}
        durable.write_json(self._ctx.workspace.root / "copies.json", {**told, "at": now, "state": state})

    def _copy(self, now: float) -> dict[str, Any]:
        if not self._folder.is_dir():  # a bucket that is not mounted: made here, it would be a folder of the container
            raise WorkspaceError("this folder is not there", where=str(self._folder), cure="Mount the bucket there.")
        name = f"{_PREFIX}{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}{_SUFFIX}"
        for half in self._folder.glob(f".{_PREFIX}*{_SUFFIX}.*part"):  # of a process that was killed
            half.unlink(missing_ok=True)
        told = backup.backup(self._ctx, self._folder / name)
        for old in sorted(self._folder.glob(f"{_PREFIX}*{_SUFFIX}"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return {"file": told["file"], "size_bytes": told["size_bytes"]}

    def _state(self) -> str:
        """Return what changes with everything worth a copy: runs, uploads, deeds, datasets."""
        db = self._ctx.db
        ended = db.query("SELECT max(ended_at), max(queued_at), count(*) FROM runs")[0]
        deeds = db.query("SELECT max(sequence) FROM audit")[0]
        return f"{tuple(ended)} {tuple(deeds)} {sorted(checkpoints.count_uploads(db).items())}"
