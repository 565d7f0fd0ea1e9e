r"""The JSON lines a worker appends and the owner reads.

Every line holds `t` (seconds since the epoch) and `e` (its type):

    attempt     {attempt, resumed_from_step}         opens each start of the worker
    phase       {phase, detail}                      what the worker is busy with before it trains
    ready       {max_steps, num_rows, trained_tokens, total_tokens, ...}   preflight passed
    probe       {peak_gib, estimated_gib, rows}     a step on the longest rows was tried; estimated_gib may be null
    log         {step, epoch, metrics: {name: float}}
    checkpoint  {step, size_bytes, metrics}          complete on disk (manifest written)
    samples     {step, benchmark, num_samples, protocol}   answers begin to be written to the evaluation's folder
    warning     {text}
    failed      {what, where, cure}                  a sentence for a person
    done        {step, summary, reason}              the run reached its end or was asked to stop

`stopped: true` in `done` says that a stop was asked for; `reason` says why a run ended before its last step.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from codex_space.core import durable, scrub

Event = dict[str, Any]


class EventWriter:
    """Appends one event a line with a single write, so that lines never mix."""

    def __init__(self, path: Path) -> None:
        """Open for append; a torn last line of a killed attempt is closed first."""
        torn = path.is_file() and path.stat().st_size and not _ends_with_newline(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if torn:
            os.write(self._fd, b"\n")

    def write(self, e: str, t: float, /, **fields: Any) -> None:  # noqa: ANN401  # any JSON value
        """Append one event of type `e` at time `t`; NaN and infinity become null, half characters question marks."""
        line = scrub.clean(json.dumps({"t": t, "e": e, **_finite(fields)}, ensure_ascii=False))
        os.write(self._fd, line.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_events(path: Path, offset: int = 0, limit_bytes: int = 4 << 20) -> tuple[list[Event], int]:
    """Return the whole lines from byte `offset` on and the offset to continue from.

    A line without its newline is left for the next call; a line that is not a JSON object with
    `e` (torn by a kill) is passed over. At most `limit_bytes` are read, so that memory is bounded.
    """
    try:
        with durable.open_plain(path) as file:
            file.seek(offset)
            chunk = file.read(limit_bytes)
    except FileNotFoundError:
        return [], offset
    end = chunk.rfind(b"\n") + 1
    if not end and len(chunk) == limit_bytes:
        end = len(chunk)  # one line longer than the limit is garbage: step over it
    return list(_parse(chunk[:end].splitlines())), offset + end


def iter_events(path: Path) -> Iterator[Event]:
    """Yield all events there are, some megabytes in memory at a time."""
    offset, after = -1, 0
    while after != offset:
        offset = after
        events, after = read_events(path, offset)
        yield from events


def current_events(events: Iterable[Event]) -> list[Event]:
    """Drop what earlier attempts logged above the step the next one resumed from.

    A killed worker has logged steps beyond its last checkpoint that come again.
    """
    kept: list[Event] = []
    for event in events:
        if event["e"] == "attempt":
            resumed = event.get("resumed_from_step", 0)
            kept = [old for old in kept if old.get("step", 0) <= resumed]
        kept.append(event)
    return kept


def _parse(lines: Iterable[bytes]) -> Iterable[Event]:
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("e"), str):
            yield event


def _finite(value: Any) -> Any:  # noqa: ANN401  # walks any JSON value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
