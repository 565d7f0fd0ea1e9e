"""Read a file of JSON values, plain or gzip, one line each or one array, and name the line that is wrong."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_space.core.errors import GradeError

MAX_LINE_BYTES = 64 << 20
MAX_FILE_BYTES = 2 << 30
"""After unpacking; a benchmark of 164 problems with its inputs is 8 MB, its largest problem 300 kB."""
_GZIP = b"\x1f\x8b"


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or item number from 1, object).

    Raises:
        GradeError: There is no such file, it is empty or too large, or a line is not a JSON object.
    """
    try:
        with path.open("rb") as file:
            if not file.peek(2).startswith(_GZIP):
                yield from _objects(file, path.name)
                return
            with gzip.open(file) as unpacked:
                yield from _objects(unpacked, path.name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GradeError("the gzip data is damaged", where=path.name, cure="Download or copy it again.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise GradeError(f"it cannot be read: {reason}", where=path.name, cure="Check the path.") from error


def _objects(lines: io.BufferedReader | gzip.GzipFile, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = total = 0
    if lines.peek(64).lstrip()[:1] == b"[":
        items = _parse(lines.read(MAX_LINE_BYTES + 1), name, 1)
        for number, item in enumerate(items, 1):
            yield number, _object(item, f"{name} item {number}")
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number, total = number + 1, total + len(line)
        if total > MAX_FILE_BYTES:
            raise GradeError("the file is larger than 2 GiB", where=f"{name} line {number}", cure="Split it.")
        if not line.isspace():
            yield number, _object(_parse(line, name, number), f"{name} line {number}")
    if not number:
        raise GradeError("the file is empty", where=name, cure="It holds one JSON object a line.")


def _parse(line: bytes, name: str, number: int) -> Any:  # noqa: ANN401  # any JSON value
    where = f"{name} line {number}"
    if len(line) > MAX_LINE_BYTES:
        raise GradeError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB", where=where, cure="One object a line.")
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        raise GradeError("this is not UTF-8 text", where=where, cure="Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        what = f"this is not JSON: {error.msg.lower()} at column {error.colno}"
        raise GradeError(what, where=where, cure="Mend or remove the line.") from error
    except (RecursionError, ValueError) as error:
        raise GradeError("a value is nested too deeply or has too many digits", where=where) from error


def _object(value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
    if not isinstance(value, dict):
        raise GradeError("this is not a JSON object", where=where, cure='One object a line, such as {"task_id": ...}.')
    return value
