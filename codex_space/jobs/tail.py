"""The end of a log as a terminal would show it, never the whole file."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from codex_space.core import durable, scrub

READ_BYTES = 256 << 10
HELD_BACK_CHARS = 8192
"""More than any secret has."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def tail(path: Path, *, lines: int = 200, search: str = "") -> str:
    """Return the last lines, those that hold `search` where given; of a progress bar only its last state."""
    try:
        with durable.open_plain(path) as file:
            start = max(0, file.seek(0, 2) - READ_BYTES)
            file.seek(start)
            text = file.read(READ_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    if start:
        text = text.partition("\n")[2] or text  # the first line is cut, unless all of it is one line
    shown = [_fold(line) for line in scrub.clean(text).removesuffix("\n").split("\n")]
    if search:
        shown = [line for line in shown if search.lower() in line.lower()]
    return "\n".join(shown[-lines:]) if lines > 0 else ""


def iter_log(path: Path) -> Iterator[str]:
    """Yield a whole log in parts, for who wants the file; secrets are struck out as in `tail`."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    held = ""
    with durable.open_plain(path) as file:
        while part := file.readline(READ_BYTES):
            held = scrub.clean(held + decode(part))
            kept = 0 if part.endswith(b"\n") else HELD_BACK_CHARS  # a secret may go on in the next part of a long line
            ready = len(held) - min(kept, len(held))
            yield held[:ready]
            held = held[ready:]
    yield held + decode(b"", final=True)


def _fold(line: str) -> str:
    """Drop what a carriage return has overwritten, colours, and control characters."""
    states = [state for state in _ESCAPES.sub("", line).split("\r") if state]
    return _CONTROLS.sub("", states[-1]) if states else ""
