"""Read a JSON file value by value: an array of objects, or objects one after another, in bounded memory."""

import json
from collections.abc import Iterator
from pathlib import Path

from codex_space.data.text import MAX_LINE_CHARS, BrokenFileError, iter_text

_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()
# Past this many characters from the end of what was read, an error cannot come from a value cut in two.
_TAIL_CHARS = 64


def iter_values(path: Path) -> Iterator[object]:
    """Yield the items of a top-level array, or the values that follow one another.

    Raises:
        DataError: Not JSON; the line and column are named.
    """
    source = _Source(path)
    if source.peek() != "[":
        while source.peek():
            yield source.take_value()
        return
    source.skip()
    if source.peek() == "]":
        source.skip()
    else:
        yield source.take_value()
        while source.expect(",]") == ",":
            yield source.take_value()
    if source.peek():
        raise source.broken("there is more text after the end of the array", "Keep one array in the file.")


class _Source:
    """What was read of the file and not yet used, and where that begins."""

    def __init__(self, path: Path) -> None:
        self._path, self._chunks = path, iter_text(path)
        self._text, self._at, self._line = "", 0, 1

    def peek(self) -> str:
        """Return the next character that is no white space, "" at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def skip(self) -> None:
        """Step over the character that `peek` returned."""
        self._at += 1

    def expect(self, allowed: str) -> str:
        """Take one of these characters."""
        found = self.peek()
        if not found:
            raise self.broken("the file ends in the middle of the array", "It was cut off: copy it again.")
        if found not in allowed:
            raise self.broken(f"{found!r} stands where one of {' '.join(allowed)} is due", "Mend this place.")
        self.skip()
        return found

    def take_value(self) -> object:
        """Take the next value whole, reading on as far as it goes."""
        if not self.peek():
            raise self.broken("the file ends where a row is due", "It was cut off: copy it again.")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                self._read_on_or_raise(error)
                continue
            except RecursionError as error:
                raise self.broken("the value is nested too deeply", "Rows hold text or lists of messages.") from error
            except ValueError as error:  # an integer beyond what Python reads from text
                raise self.broken("a number has thousands of digits", "Write it as text.") from error
            # A bare number may go on in the next piece; objects, arrays and text end with their own mark.
            if end == len(self._text) and self._text[self._at] not in '{["' and self._read_more():
                continue
            self._at = end
            return value

    def broken(self, what: str, cure: str, at: int | None = None) -> BrokenFileError:
        """Return the error for this place."""
        at = self._at if at is None else at
        line = self._line + self._text.count("\n", 0, at)
        return BrokenFileError(what, path=self._path, line=line, cure=cure)

    def _read_on_or_raise(self, error: json.JSONDecodeError) -> None:
        """Read more where the value may only be cut in two, else raise.

        Each time as much is read as is held, so that a long value is not parsed from its start too often.
        """
        held = len(self._text) - self._at
        unterminated = error.msg.startswith("Unterminated string")
        if not unterminated and error.pos <= len(self._text) - _TAIL_CHARS:
            raise self._not_json(error) from error
        if held > MAX_LINE_CHARS:
            raise self.broken(
                f"a row is longer than {MAX_LINE_CHARS // 1_000_000} million characters", "Split it into several rows."
            ) from error
        grown = False
        while len(self._text) - self._at < 2 * held and self._read_more():
            grown = True
        if not grown and (unterminated or error.pos >= len(self._text.rstrip())):
            what = f"the file ends in the middle of a row ({error.msg})"
            raise self.broken(what, "It was cut off: copy it again.", error.pos) from error
        if not grown:
            raise self._not_json(error) from error

    def _not_json(self, error: json.JSONDecodeError) -> BrokenFileError:
        return self.broken(f"column {error.colno} is not JSON: {error.msg}", "Mend this place.", error.pos)

    def _read_more(self) -> bool:
        """Append one piece of the file, dropping what was used; False at the end."""
        chunk = next(self._chunks, "")
        if not chunk:
            return False
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return True
