"""Texts of pretraining turned into tokens, which stay for the next run on them: what nobody reads now, taken away whole."""

import shutil
from pathlib import Path

from codex_space.core import scratch
from codex_space.core.paths import Workspace

IN_USE = "a run reads it"


def find(workspace: Workspace) -> list[tuple[Path, bool]]:
    """Return each folder and whether a run reads or writes it at this moment."""
    found = []
    for path in sorted(workspace.tokens.glob("*")):
        if path.is_dir() and not path.is_symlink():
            with scratch.held(path) as is_free:
                found.append((path, not is_free))
    return found


def remove(workspace: Workspace, path: Path, *, dry_run: bool) -> str:
    """Delete one, and return why not where it stays.

    It leaves its place in one rename, under a name that a later clean-up knows: half of it would stop the next run.
    """
    with scratch.held(path) as is_free:
        if not is_free:
            return IN_USE
        if not dry_run:
            taken = workspace.root / f"tokens-{path.name[:8]}"
            shutil.rmtree(taken, ignore_errors=True)
            try:
                path.rename(taken)
            except OSError as error:  # what an earlier clean-up left there may belong to another user
                return f"it cannot be moved ({error.strerror})"
            shutil.rmtree(taken, ignore_errors=True)
    return ""
