"""Folders that a process needs for a while: known by a lock the kernel takes back when the process ends, however it ends."""

import contextlib
import fcntl
import os
import re
import tempfile
import weakref
from collections.abc import Generator
from pathlib import Path

NAMES = re.compile(r"(tokens|portable|check|import)-\w{8}|tmp\w{8}")
"""What `Scratch` and the standard library call them at the top of a workspace."""
YOUNG_S = 600.0
"""One that is younger may not have been locked yet, or is of an earlier version of this program."""


class Scratch(tempfile.TemporaryDirectory[str]):
    """A temporary folder in a workspace; what a killed process leaves is told from one in use."""

    def __init__(self, root: Path, name: str) -> None:
        """Make and lock `root/NAME-xxxxxxxx`."""
        super().__init__(dir=root, prefix=f"{name}-")
        self._lock = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._lock)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def held(folder: Path) -> Generator[bool]:
    """Hold a folder that exists while it is worked on; yield False where another process does already."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def share(folder: Path) -> int:
    """Make a folder and hold it beside others who do, so that `held` finds it in use; return what to close in the end."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # taken away between two of these lines
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.is_dir() and os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
            os.close(lock)


def is_left(folder: Path, now: float) -> bool:
    """Say whether a folder (no link to one) belongs to no live process and is old enough to be sure of that."""
    try:
        if folder.is_symlink() or now - folder.lstat().st_mtime < YOUNG_S:
            return False
        with held(folder) as is_free:
            return is_free
    except OSError:  # gone meanwhile, or no folder
        return False
