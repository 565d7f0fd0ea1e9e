"""Checkpoints that leave this machine because the Hub has them: whole or gone after a kill, and known afterwards.

One rename takes the folder out of its place; its manifest becomes the note of what it was, and the rest is deleted. None
of that needs room on the disk, which may be full.
"""

import contextlib
import re
import shutil
from pathlib import Path

from codex_space.core.errors import RunError
from codex_space.core.paths import MANIFEST, JobDir, Workspace
from codex_space.store import checkpoints
from codex_space.store.db import Database

_REMOVED = re.compile(r"\.removed-checkpoint-(\d+)")


def take(job: JobDir, step: int) -> None:
    """Take a checkpoint out of its place; `delete_taken` is to follow."""
    shutil.rmtree(job.removed(step), ignore_errors=True)  # an earlier one, brought back since
    job.checkpoint(step).rename(job.removed(step))
    _keep_note(job, step)


def delete_taken(db: Database, job: JobDir, step: int) -> None:
    """Delete the files of a checkpoint that was taken, and say so in its row."""
    _keep_note(job, step)
    shutil.rmtree(job.removed(step), ignore_errors=True)
    checkpoints.set_on_disk(db, job.root.name, job.checkpoint_steps())


def settle(db: Database, workspace: Workspace) -> None:
    """Finish what a killed clean-up began: delete what it had taken, and let the rows follow the folders."""
    for path in workspace.runs.glob("*/.removed-checkpoint-*"):
        found = _REMOVED.fullmatch(path.name)
        if found and not path.is_symlink() and not path.parent.is_symlink():
            with contextlib.suppress(RunError):  # a folder of another name is none of ours
                delete_taken(db, workspace.job(path.parent.name), int(found[1]))
    for row in checkpoints.list_sent(db):
        if not (workspace.job(row.run_id).checkpoint(row.step) / MANIFEST).is_file():
            checkpoints.set_on_disk(db, row.run_id, workspace.job(row.run_id).checkpoint_steps())


def bring_note_back(job: JobDir, step: int) -> None:
    """Give a checkpoint that is here again its own manifest, which may say more than the one that was sent."""
    note: Path = job.away(step)
    if note.is_file():
        note.replace(job.checkpoint(step) / MANIFEST)


def _keep_note(job: JobDir, step: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        (job.removed(step) / MANIFEST).rename(job.away(step))
