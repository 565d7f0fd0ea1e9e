"""Read the lines that a worker adds to a file of its evaluation's folder: whole lines, no link followed, bounded in size."""

from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import GradeError
from codex_space.grade import library

MAX_CHUNK_BYTES = 8 << 20


class AnswerFile:
    """One file and how far it has been read."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read nothing yet.

        Raises:
            GradeError: The folder is reached over a link.
        """
        if folder.resolve() != folder.parents[2].resolve() / folder.relative_to(folder.parents[2]):
            raise GradeError("the folder of its answers is a link", where=str(folder))
        self._path, self._offset = folder / name, 0

    def new_rows(self) -> list[dict[str, Any]]:
        """Return the objects written since the last call, those of 8 MiB at most; the last line may still be being written."""
        try:
            with durable.open_plain(self._path) as file:
                file.seek(self._offset)
                chunk = file.read(MAX_CHUNK_BYTES)
        except FileNotFoundError:
            return []
        whole = chunk[: chunk.rfind(b"\n") + 1] or (chunk if len(chunk) == MAX_CHUNK_BYTES else b"")
        self._offset += len(whole)
        return list(library.read_lines(whole))
