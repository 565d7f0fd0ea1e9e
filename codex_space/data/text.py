"""Decode a text file piece by piece in bounded memory, and say where it is not the text it should be.

Covered: other encodings, binary files under a text name, NUL bytes, endless lines, cut-off or exploding gzip.
"""

import codecs
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

from codex_space.core.errors import DataError

CHUNK_BYTES = 1 << 20
MAX_LINE_CHARS = 20_000_000
GZIP_FREE_BYTES = 64 << 20
MAX_GZIP_RATIO = 100
"""Text and code shrink 3 to 20 times; past `GZIP_FREE_BYTES` a file that grows more than this is a bomb."""

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_OTHER_KINDS = (
    (b"PAR1", "a Parquet file", "Name it .parquet."),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV UTF-8."),
    (b"\x1f\x8b", "a gzip file", "Add .gz to its name."),
    (b"%PDF", "a PDF", "Copy its text into a .txt file."),
    (b"SQLite format 3", "a SQLite database", "Export the table as CSV or JSON lines."),
)


class BrokenFileError(DataError):
    """Reading cannot go on beyond this line."""

    def __init__(self, what: str, *, path: Path, line: int, cure: str) -> None:
        """Keep the line beside the sentence."""
        super().__init__(what, where=f"{path.name} line {line}", cure=cure)
        self.line = line


def iter_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, the line with its end); only \n ends a line, since JSON may hold U+2028.

    Raises:
        DataError: The file is not text in a known encoding, a line is too long, or its gzip is damaged.
    """
    return enumerate(itertools.chain.from_iterable(_blocks(path)), 1)


def _blocks(path: Path) -> Iterator[list[str]]:
    """Yield many whole lines at once, since entering a generator for every line takes longer than the line."""
    line, rest = 1, ""
    for chunk in iter_text(path):
        block = list(io.StringIO(rest + chunk, newline="\n"))
        if max(map(len, block)) > MAX_LINE_CHARS:
            raise _too_long(path, line + next(at for at, text in enumerate(block) if len(text) > MAX_LINE_CHARS))
        rest = "" if block[-1].endswith("\n") else block.pop()
        yield block
        line += len(block)
    if rest:
        yield [rest]


def iter_text(path: Path) -> Iterator[str]:
    """Yield the decoded text in pieces of about a megabyte.

    Raises:
        DataError: As in `iter_lines`.
    """
    line, seen_bytes = 1, 0
    decoder: codecs.IncrementalDecoder | None = None
    for chunk in _iter_bytes(path):
        start = 0
        if decoder is None:
            encoding, start = _sniff(path, chunk)
            decoder = codecs.getincrementaldecoder(encoding)()
        held_back = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk[start:])
        except UnicodeDecodeError as error:
            raise _not_unicode(path, error, seen_bytes + start - held_back, line) from error
        if "\0" in text:
            raise BrokenFileError(
                "there is a NUL byte, so this is not plain text",
                path=path,
                line=line + text[: text.index("\0")].count("\n"),
                cure="Save the file as UTF-8 text (UTF-16 needs its byte order mark).",
            )
        seen_bytes, line = seen_bytes + len(chunk), line + text.count("\n")
        if text:  # none where the chunk ends inside its first character; readers take "" for the end
            yield text
    if decoder is not None and decoder.getstate()[0]:
        raise BrokenFileError(
            "the file ends in the middle of a character", path=path, line=line, cure="It was cut off: copy it again."
        )


def _iter_bytes(path: Path) -> Iterator[bytes]:
    try:
        if path.suffix.lower() == ".gz":
            yield from _iter_unpacked(path)
            return
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}", where=path.name) from error


def _iter_unpacked(path: Path) -> Iterator[bytes]:
    allowed = max(GZIP_FREE_BYTES, MAX_GZIP_RATIO * path.stat().st_size)
    unpacked = line = 0
    try:
        with gzip.open(path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                unpacked += len(chunk)
                if unpacked > allowed:
                    raise BrokenFileError(
                        f"it unpacks to more than {allowed >> 20:,} MiB from {path.stat().st_size >> 10:,} KiB",
                        path=path,
                        line=line + 1,
                        cure="Unpack it yourself and upload the plain file, if you trust it.",
                    )
                yield chunk
                line += chunk.count(b"\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        what = "this is not a gzip file" if not unpacked else "the gzip file is damaged or cut off"
        raise BrokenFileError(what, path=path, line=line + 1, cure="Pack or copy it again.") from error


def _sniff(path: Path, start: bytes) -> tuple[str, int]:
    """Return the encoding and the length of its byte order mark."""
    for magic, kind, cure in _OTHER_KINDS:
        if start.startswith(magic):
            raise BrokenFileError(f"this is {kind}", path=path, line=1, cure=cure)
    found = ((encoding, len(mark)) for mark, encoding in _MARKS if start.startswith(mark))
    return next(found, ("utf-8", 0))


def _not_unicode(path: Path, error: UnicodeDecodeError, offset: int, line: int) -> BrokenFileError:
    byte = error.object[error.start]
    before = error.object[: error.start].decode(error.encoding, "ignore")
    return BrokenFileError(
        f"the byte 0x{byte:02X} at offset {offset + error.start:,} is not {error.encoding.upper()}",
        path=path,
        line=line + before.count("\n"),
        cure="Save the file as UTF-8 (Excel: `CSV UTF-8`), or convert it: iconv -f LATIN1 -t UTF-8.",
    )


def _too_long(path: Path, line: int) -> BrokenFileError:
    return BrokenFileError(
        f"a line is longer than {MAX_LINE_CHARS // 1_000_000} million characters",
        path=path,
        line=line,
        cure="One row a line; split long documents into several rows.",
    )
