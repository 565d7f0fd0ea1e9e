"""Read the rows of a data file one by one in bounded memory, and name the place where one cannot be read."""

import csv
import itertools
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from codex_space.core.errors import DataError
from codex_space.data.formats import Row, kind_of
from codex_space.data.json_stream import iter_values
from codex_space.data.text import MAX_LINE_CHARS, BrokenFileError, iter_lines

EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".md", ".jsonl.gz", ".json.gz", ".csv.gz")
"""How the name of a file that can be read ends."""

DOCUMENT_CHARS = 16_000
"""A text file becomes rows of about this size, cut at empty lines."""
MAX_DOCUMENT_CHARS = 256_000
PARQUET_ROWS = 64
MAX_ROW_GROUP_BYTES = 4 << 30


@dataclass(frozen=True)
class Flaw:
    """Why a row cannot be read; `fatal` when nothing after it can be either.

    `unit` is what its number counts where that is not what the rows' numbers count.
    """

    what: str
    cure: str
    fatal: bool = False
    unit: str = ""


Scanned = Iterator[tuple[int, Row | Flaw]]


def iter_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line or row number from 1, row).

    Raises:
        DataError: The file or one of its rows cannot be read; file, line and cure are named.
    """
    for number, row in scan_rows(path):
        if isinstance(row, Flaw):
            raise DataError(row.what, where=f"{path.name} {row.unit or unit(path)} {number}", cure=row.cure)
        yield number, row


def scan_rows(path: Path) -> Scanned:
    """Yield as `iter_rows`, but a `Flaw` in the place of a row that cannot be read.

    Raises:
        DataError: There is no such file, or its name says that it holds no rows.
    """
    scan = _SCANS[extension(path)]
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise DataError("there is no such file", where=path.name, cure="Check the path.") from error
    if not regular:
        raise DataError("this is not a file", where=path.name, cure="Name one file of rows.")
    try:
        yield from scan(path)
    except BrokenFileError as error:
        yield error.line, Flaw(error.what, error.cure, fatal=True, unit="line")


def extension(path: Path) -> str:
    """Return the ending that says how to read a file, such as `.jsonl.gz`.

    Raises:
        DataError: It is none that can be read.
    """
    name = path.name.lower()
    found = [ending for ending in EXTENSIONS if name.endswith(ending)]
    if not found:
        raise DataError(
            f"files of type {path.suffix or 'unknown'!r} cannot be read",
            where=path.name,
            cure=f"Known: {', '.join(EXTENSIONS)}.",
        )
    return max(found, key=len)


def unit(path: Path) -> str:
    """Return what the numbers of `iter_rows` count: a JSON array may lie in one line."""
    return "row" if extension(path) in {".json", ".json.gz", ".parquet"} else "line"


def _scan_jsonl(path: Path) -> Scanned:
    for line, text in iter_lines(path):
        if not text.isspace():
            yield line, _parse_line(text)


def _parse_line(text: str) -> Row | Flaw:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Flaw(f"column {error.colno} is not JSON: {error.msg}", "Mend or remove this line.")
    except RecursionError:
        return Flaw("the value is nested too deeply", "Rows hold text or lists of messages.")
    except ValueError:  # an integer beyond what Python reads from text
        return Flaw("a number has thousands of digits", "Write it as text.")
    return _object(value)


def _scan_json(path: Path) -> Scanned:
    for number, value in enumerate(iter_values(path), 1):
        yield number, _object(value)


def _object(value: object) -> Row | Flaw:
    if isinstance(value, dict):
        return value
    return Flaw(f"this is {kind_of(value)} where an object is due", 'Write rows like {"text": "..."}.')


def _scan_csv(path: Path) -> Scanned:
    csv.field_size_limit(MAX_LINE_CHARS)
    numbered = itertools.dropwhile(lambda item: item[1].isspace(), iter_lines(path))
    begin, first = next(numbered, (1, ""))
    lines = map(itemgetter(1), numbered)
    delimiter = max(",;\t", key=first.count)  # a spreadsheet of a country with decimal commas writes semicolons
    header = next(csv.reader([first], delimiter=delimiter), [])
    if twice := next((name for name in header if header.count(name) > 1), None):
        yield begin, Flaw(f"two columns are named {twice!r}", "Rename one of them.", fatal=True)
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = begin + reader.line_num + 1  # the header is not among the reader's lines
        try:
            fields = next(reader, None)
        except csv.Error as error:
            what = f"this is not CSV: {error} (a quotation mark that is never closed?)"
            yield line, Flaw(what, "Put text in quotation marks, and double those inside it.", fatal=True)
            return
        if fields is None:
            return
        if len(fields) == len(header):
            yield line, dict(zip(header, fields, strict=True))
        elif fields:
            what = f"there are {len(fields)} fields where the header names {len(header)}"
            yield line, Flaw(what, "Put text that holds the separator in quotation marks.")


def _scan_text(path: Path) -> Scanned:
    piece: list[str] = []
    begin, length_chars = 1, 0
    for line, text in iter_lines(path):
        begin = begin if piece else line
        piece.append(text)
        length_chars += len(text)
        full = length_chars >= DOCUMENT_CHARS and text.isspace()
        if full or length_chars >= MAX_DOCUMENT_CHARS:
            yield from _document(begin, piece)
            piece, length_chars = [], 0
    yield from _document(begin, piece)


def _document(begin: int, piece: list[str]) -> Scanned:
    text = "".join(piece)
    if text.strip():
        yield begin, {"text": text}


def _scan_parquet(path: Path) -> Scanned:
    import pyarrow as pa  # noqa: PLC0415  # 0.3 s and 40 MB that the page does not need at its start
    import pyarrow.parquet as pq  # noqa: PLC0415  # as above

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > MAX_ROW_GROUP_BYTES:
                    cure = "Write it with smaller row groups."
                    yield number + 1, Flaw("a row group unpacks to more than 4 GiB", cure, fatal=True)
                    return
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0][:200].rstrip(".")
        yield number + 1, Flaw(f"this is not a whole Parquet file: {reason}", "Write or copy it again.", fatal=True)


_SCANS: dict[str, Callable[[Path], Scanned]] = {
    ".jsonl": _scan_jsonl,
    ".jsonl.gz": _scan_jsonl,
    ".json": _scan_json,
    ".json.gz": _scan_json,
    ".csv": _scan_csv,
    ".csv.gz": _scan_csv,
    ".parquet": _scan_parquet,
    ".txt": _scan_text,
    ".md": _scan_text,
}
