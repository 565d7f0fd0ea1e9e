"""Measure what each part of a workspace takes on the disk, now and then in the background, and keep it with its time.

Covered: links are not followed, other file systems not entered, a hard-linked file counts once (for the first part that
has it, in the order of names). At most `MAX_ENTRIES` are looked at; measuring takes a hundredth of the owner's time at most.
"""

import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from codex_space.core import durable, scratch
from codex_space.core.paths import Workspace
from codex_space.jobs import away
from codex_space.store.db import Database

EVERY_S = 600.0
REST = 100
MAX_ENTRIES = 1_000_000
PARTS = ("checkpoints", "exports", "datasets", "rows", "spool", "bases", "caches", "evaluations", "scratch", "trash", "other")  # fmt: skip

_OF_RUN = {
    "spool": "spool",
    "export": "exports",
    "rows": "rows",
    "base": "bases",
    "adapter": "bases",
    "cache": "caches",
    "merged": "caches",
    "tokens": "caches",
    "evaluations": "evaluations",
    "samples": "evaluations",
}
_CHECKPOINT = re.compile(r"checkpoint-\d+")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """What was found.

    Attributes:
        at: When, in seconds since the epoch.
        parts: Bytes on disk by part, of `PARTS`.
        hub_cache_bytes: What the Hub's client keeps of downloaded models, outside the workspace and shared with other programs.
        is_partial: There was more than is looked at.
    """

    at: float
    took_s: float
    parts: dict[str, int]
    hub_cache_bytes: int
    is_partial: bool

    @property
    def used_bytes(self) -> int:
        """The workspace's bytes."""
        return sum(self.parts.values())


class DiskWatch:
    """Measures in a thread of the owner."""

    def __init__(self, db: Database, workspace: Workspace, hub_cache: Path) -> None:
        """Measure nothing yet."""
        self._db, self._workspace, self._hub_cache = db, workspace, hub_cache
        self._is_settled = False

    def step(self, now: float) -> None:
        """Finish what a killed clean-up began, once; measure where the last time is long enough ago."""
        if not self._is_settled:
            away.settle(self._db, self._workspace)
            self._is_settled = True
        last = read(self._workspace)
        if last is None or not 0 <= now - last.at < max(EVERY_S, REST * last.took_s):
            measure(self._workspace, self._hub_cache, now)


def measure(workspace: Workspace, hub_cache: Path, now: float) -> Usage:
    """Look at every file's size, and keep the sums."""
    start, parts, left = time.monotonic(), dict.fromkeys(PARTS, 0), MAX_ENTRIES
    for path, size_bytes in _sizes(workspace.root, MAX_ENTRIES):
        parts[part_of(path)] += size_bytes
        left -= 1
    cache_bytes = 0
    if not hub_cache.is_relative_to(workspace.root):
        for _, size_bytes in _sizes(hub_cache, left):
            cache_bytes += size_bytes
            left -= 1
    found = Usage(now, round(time.monotonic() - start, 3), parts, cache_bytes, is_partial=left <= 0)
    durable.write_json(workspace.disk, asdict(found))
    return found


def read(workspace: Workspace) -> Usage | None:
    """Return what was found last, None where nothing was yet."""
    kept = durable.read_json(workspace.disk) or {}
    parts, numbers = kept.get("parts"), [kept.get(name) for name in ("at", "took_s", "hub_cache_bytes")]
    if not isinstance(parts, dict) or not all(isinstance(each, int | float) for each in (*parts.values(), *numbers)):
        return None
    at, took_s, cache_bytes = (float(each or 0) for each in numbers)
    known = {name: int(parts.get(name, 0)) for name in PARTS}
    return Usage(at, took_s, known, int(cache_bytes), bool(kept.get("is_partial")))


def part_of(path: PurePosixPath) -> str:
    """Return the part that a file belongs to, by its path in the workspace."""
    top, *rest = path.parts
    if scratch.NAMES.fullmatch(top):
        return "scratch"
    if top == "datasets" and rest:
        return {".deleted": "trash", ".incoming": "scratch"}.get(rest[0].partition("-")[0], "datasets")
    if top in {"benchmarks", "tokens"}:
        return {"benchmarks": "evaluations", "tokens": "caches"}[top]
    return _part_of_run(rest[1]) if top == "runs" and len(rest) > 1 else "other"


def _part_of_run(name: str) -> str:
    if _CHECKPOINT.fullmatch(name):
        return "checkpoints"
    if name.startswith(".removed-"):
        return "trash"
    if name.endswith(".fetch"):
        return "scratch"
    return _OF_RUN.get(name, "other")


def _sizes(root: Path, limit: int) -> Iterator[tuple[PurePosixPath, int]]:
    """Yield (path below `root`, bytes on disk) of about so many files and folders, in the order of their names."""
    seen: set[tuple[int, int]] = set()
    waiting = [PurePosixPath()]
    try:
        device = root.lstat().st_dev
    except OSError:
        return
    while waiting and limit > 0:
        folder = waiting.pop()
        below: list[PurePosixPath] = []
        for entry in _entries(root / folder):
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:  # a worker rotates its checkpoints while we look
                continue
            limit -= 1
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                if facts.st_dev != device:
                    continue
                below.append(path)
            elif facts.st_nlink > 1:
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
            yield path, facts.st_blocks * 512
        waiting += reversed(below)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        _log.debug("%s cannot be looked into: %s", folder, error)
        return []
