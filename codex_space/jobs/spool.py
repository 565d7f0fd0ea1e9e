"""The folder of hard links that waits for the Hub: what is in it, and what may go when it grows too large."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from codex_space.core import durable
from codex_space.core.paths import MANIFEST, JobDir

_STEP = re.compile(r"step-(\d+)")


def spooled_steps(job: JobDir) -> list[int]:
    """Return the steps whose complete folders wait, oldest first."""
    if not job.spool.is_dir():
        return []
    steps = [int(match[1]) for path in job.spool.iterdir() if (match := _STEP.fullmatch(path.name))]
    return sorted(step for step in steps if (job.spooled(step) / MANIFEST).is_file())


def has_resume_state(folder: Path) -> bool:
    """Return whether all that an exact resume needs is still in a checkpoint's folder."""
    names = _resume_files(folder)
    return bool(names) and all((folder / name).is_file() for name in names)


def lacks_resume_state(folder: Path) -> bool:
    """Return whether a checkpoint had resume state when it was saved and has not all of it now."""
    return not all((folder / name).is_file() for name in _resume_files(folder))


def remove_spooled(job: JobDir, step: int) -> None:
    """Delete a spooled checkpoint that the Hub is proven to hold."""
    shutil.rmtree(job.spooled(step), ignore_errors=True)


def thin(next_steps: Mapping[JobDir, int], budget_bytes: int) -> None:
    """Keep the spool small without ever touching weights.

    Resume state older than the step that is uploaded next (`next_steps`, of each run) is never sent, so it goes at once;
    past the budget the oldest of what is left goes too. What the worker has linked meanwhile, and the uploader does not
    know of yet, overtakes nothing: it would take away the state that is about to be sent. The checkpoint folders, of
    which these are hard links, lose nothing.
    """
    waiting = [(job, step) for job in next_steps for step in spooled_steps(job)]
    for job, step in waiting:
        if step < next_steps[job]:
            _drop_resume_state(job.spooled(step))
    size_bytes = sum(_size_bytes(job.spooled(step)) for job, step in waiting)
    for job, step in sorted(waiting, key=lambda row: (row[0].spooled(row[1]) / MANIFEST).stat().st_mtime):
        if size_bytes <= budget_bytes:
            return
        size_bytes -= _drop_resume_state(job.spooled(step))


def _resume_files(folder: Path) -> list[str]:
    manifest = durable.read_json(folder / MANIFEST) or {}
    names = manifest.get("resume_files")
    listed = [str(name) for name in names] if isinstance(names, list) else []
    return [name for name in listed if not Path(name).is_absolute() and ".." not in Path(name).parts]


def _drop_resume_state(folder: Path) -> int:
    freed = 0
    for name in _resume_files(folder):
        path = folder / name
        if path.is_file():
            freed += path.stat().st_size
            path.unlink()
    return freed


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
