"""What the Hub's client has downloaded and keeps: on a Space it is ours to delete, and is downloaded again when needed.

Covered: only where this program has the machine to itself (a Space; elsewhere other programs share the cache), while no
run waits or trains and nobody chats; a repository whose cached revision the Hub does not give any more stays. Not
covered: a program started by hand on the Space that reads the cache at that moment.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.scratch import YOUNG_S
from codex_space.hub.client import Hub
from codex_space.services.context import Context
from codex_space.store import runs
from codex_space.store.runs import ACTIVE

_NAME = re.compile(r"(model|dataset)s--([\w.-]+?)--([\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REMOVED = ".removed-"


@dataclass(frozen=True)
class Cached:
    """One repository in the cache, with the revisions of it that are here."""

    path: Path
    repo_id: str
    repo_type: str
    commits: tuple[str, ...]


def find(ctx: Context) -> list[Cached]:
    """Return what may go as far as this machine knows."""
    root = ctx.settings.hub_cache
    if ctx.settings.space_id is None or root.is_symlink() or not root.is_dir() or _is_needed(ctx):
        return []
    for half in root.glob(f"{_REMOVED}*"):  # of a clean-up that was killed
        if not half.is_symlink():
            shutil.rmtree(half, ignore_errors=True)
    found = []
    for path in sorted(root.iterdir()):
        named = _NAME.fullmatch(path.name)
        if not named or path.is_symlink() or not path.is_dir() or _is_young(path, ctx.clock()):
            continue
        commits = tuple(sorted(each.name for each in path.glob("snapshots/*") if _COMMIT.fullmatch(each.name)))
        if commits:
            found.append(Cached(path, f"{named[2]}/{named[3]}", named[1], commits))
    return found


def _is_needed(ctx: Context) -> bool:
    """Say whether somebody may be reading the cache."""
    waits = runs.count_runs(ctx.db, states=("queued", *sorted(ACTIVE)))
    return bool(waits) or any(ctx.workspace.root.glob("chatting-*.json"))


def remove(hub: Hub, cached: Cached, *, dry_run: bool) -> str:
    """Delete what the Hub, asked for each revision that is here, still gives; return why it stays where it does.

    Raises:
        HubBusyError: No answer.
    """
    try:
        for commit in cached.commits:
            hub.check_readable(cached.repo_id, commit, "dataset" if cached.repo_type == "dataset" else "model")
    except HubBusyError:
        raise
    except CodexError as error:
        return f"the Hub does not give it any more: {error.what}"
    doomed = cached.path.with_name(f"{_REMOVED}{cached.path.name}")
    if not dry_run:
        try:
            cached.path.rename(doomed)  # one step: whole or gone
        except OSError as error:
            return f"it cannot be moved ({error.strerror})"
        shutil.rmtree(doomed, ignore_errors=True)
    return ""


def _is_young(path: Path, now: float) -> bool:
    """Say whether something of it was downloaded just now."""
    return any(now - each.lstat().st_mtime < YOUNG_S for each in (path, *path.glob("*"), *path.glob("snapshots/*")))
