"""`codex-space workspace ...`."""

import argparse
import json
import time

from codex_space.cli.opened import opened
from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.jobs.owner import is_owned
from codex_space.services import backup as archives
from codex_space.services import rebuild as rebuilding
from codex_space.services.context import make_hub
from codex_space.store.db import Database


def backup(args: argparse.Namespace) -> int:
    """Write the archive and say what is in it."""
    with opened(args) as ctx:
        told = archives.backup(ctx, args.file)
    print(
        json.dumps(told) if args.json else f"{args.file}: {told['runs']} runs, {told['files']:,} files, "
        f"{told['size_bytes'] / 1e6:.1f} MB; {told['left_out']} checkpoints that are on the Hub were left out"
    )  # fmt: skip
    return 0


def restore(args: argparse.Namespace) -> int:
    """Unpack an archive into an empty folder."""
    told = archives.restore(args.file, Workspace(read_settings(workspace=args.workspace).workspace))
    print(json.dumps(told) if args.json else f"{told['workspace']}: {told['runs']} runs, {told['files']:,} files")
    return 0


def rebuild(args: argparse.Namespace) -> int:
    """Set the database aside and make it again."""
    settings = read_settings(workspace=args.workspace)
    workspace = Workspace(settings.workspace).make()
    if (pid := is_owned(workspace)) is not None:
        raise WorkspaceError(
            f"another process (pid {pid}) owns this workspace", where=str(workspace.root), cure="End it."
        )
    now = time.time()
    aside = rebuilding.set_aside(workspace, now)
    db = Database.open(workspace.database)
    try:
        made = rebuilding.rebuild(db, workspace, lambda: make_hub(settings), now)
    finally:
        db.close()
    kept = f"; the old database is {aside.name}" if aside else ""
    lacking = "Evaluations are graded again by the next owner; the log of who did what stays in the old database."
    told = {"runs": made, "set_aside": str(aside) if aside else None}
    print(json.dumps(told) if args.json else f"{len(made)} runs brought back{kept}. {lacking}")
    return 0
