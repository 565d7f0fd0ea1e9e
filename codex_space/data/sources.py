"""Open any dataset reference of a recipe as a stream of checked rows."""

import itertools
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from codex_space.core.errors import DataError, nearest
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.paths import Workspace, share_dir
from codex_space.core.sections import DatasetSection
from codex_space.data import catalog
from codex_space.data.formats import PEEK_ROWS, Format, Row, Shape, check_row, format_of, normalize, shape_of
from codex_space.data.read import iter_rows, unit

STDLIB = "builtin:python-stdlib"
MAX_STDLIB_FILE_BYTES = 1_000_000
"""Above it lies only generated code, such as codec tables."""

_NO_CODE_TO_LEARN = {"site-packages", "dist-packages", "test", "tests", "idlelib", "turtledemo", "lib2to3"}


def is_hub_id(ref: str) -> bool:
    """Return whether this is a bare `owner/name`: no scheme, no data file's name, nothing on this disk."""
    return looks_like_repo_id(ref) and not Path(ref).exists()


def fetch_key(section: DatasetSection) -> str:
    """Return the key under which a Hub source's downloaded files are handed to `open_source`."""
    return f"{section.path}:{section.name or ''}:{section.split}@{section.revision or ''}"


def open_source(section: DatasetSection, workspace: Path | None, fetched: Mapping[str, list[Path]]) -> Iterator[Row]:
    """Yield a source's rows under our own column names.

    Raises:
        DataError: It is not there, cannot be read, or a row does not fit; the line is named.
    """
    return (row for _, row in iter_keyed(section, workspace, fetched))


def iter_keyed(
    section: DatasetSection, workspace: Path | None, fetched: Mapping[str, list[Path]]
) -> Iterator[tuple[str, Row]]:
    """Yield as `open_source`, each row with the key that decides its side of the split ("" for its content).

    Raises:
        DataError: As in `open_source`.
    """
    if section.path == STDLIB:
        yield from _iter_stdlib()
        return
    paths, shape = _locate(section, workspace, fetched)
    for path in paths:
        rows = iter_rows(path)
        if shape is None:
            first = list(itertools.islice(rows, PEEK_ROWS))
            shape = shape_of([row for _, row in first], section.columns) if first else None
            rows = itertools.chain(first, rows)
        for number, row in rows:
            wrong = check_row(row, shape) if shape else None
            if wrong:
                raise DataError(wrong, where=f"{path.name} {unit(path)} {number}", cure="Mend or remove this row.")
            if shape:
                yield "", normalize(row, shape)


def peek_format(section: DatasetSection, workspace: Path | None) -> Format | None:
    """Return the format of a source on this machine from its first row, None where it has none.

    Raises:
        DataError: As in `open_source`.
    """
    return next((format_of(row) for _, row in iter_keyed(section, workspace, {})), None)


def stdlib_files() -> list[tuple[str, Path]]:
    """Return the running Python's own modules as (relative name, file), sorted by name; tests are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    found = ((path.relative_to(root), path) for path in root.rglob("*.py"))
    return sorted((name.as_posix(), path) for name, path in found if _NO_CODE_TO_LEARN.isdisjoint(name.parts))


def _iter_stdlib() -> Iterator[tuple[str, Row]]:
    empty = True
    for name, path in stdlib_files():
        if path.stat().st_size > MAX_STDLIB_FILE_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, PermissionError):
            continue
        if text.strip():
            empty = False
            yield f"{STDLIB}/{name}", {"text": text}
    if empty:
        raise DataError(
            "this Python has no readable source of its standard library",
            where=STDLIB,
            cure="Use a Python that is not packed into one zip, or name a file of text instead.",
        )


def _locate(
    section: DatasetSection, workspace: Path | None, fetched: Mapping[str, list[Path]]
) -> tuple[list[Path], Shape | None]:
    """Return the files of a source, and their shape where it is known without reading them."""
    ref = section.path
    scheme, colon, name = ref.partition(":")
    if scheme == "dataset" and colon:
        if workspace is None:
            raise DataError("there is no workspace to look in", where=ref, cure="Name a file instead.")
        info = catalog.read_dataset(Workspace(workspace), name)
        return [info.path], None if section.columns else Shape(info.format, info.mapping)
    if scheme == "sample" and colon:
        return [sample_file(name)], None
    if scheme == "builtin" and colon:
        raise DataError(f"there is no built-in source {name!r}", where=ref, cure=f"Known: {STDLIB}.")
    if files := fetched.get(fetch_key(section)) or fetched.get(ref):
        return files, None
    if is_hub_id(ref):
        raise DataError("this Hub dataset has not been downloaded", where=ref, cure="Start the run with a network.")
    if not Path(ref).is_file():
        raise DataError("there is no such file", where=ref, cure="Upload it on the Data tab, or check the path.")
    return [Path(ref)], None


def sample_file(name: str) -> Path:
    """Return the file of a sample set that ships with the program.

    Raises:
        DataError: There is none of that name; the nearest is told.
    """
    known = {path.stem: path for path in sorted(share_dir("data").glob("*.jsonl"))}
    if name not in known:
        raise DataError(f"there is no sample set {name!r}", where=f"sample:{name}", cure=nearest(name, list(known)))
    return known[name]
