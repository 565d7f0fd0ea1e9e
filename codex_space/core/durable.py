"""Files that are either the old or the new text after a crash, never half of one."""

import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any, BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """Open a file to read: no link is followed, no pipe waited for; what is no plain file counts as missing.

    Raises:
        FileNotFoundError: There is no plain file there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise FileNotFoundError(errno.ENOENT, "no plain file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file, flush to disk, rename over `path`; of two that write at once the last one's stays, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # never through a link
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Write one JSON document durably."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None where there is no readable one."""
    try:
        with open_plain(path) as file:
            value = json.loads(file.read())
    except (FileNotFoundError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None
