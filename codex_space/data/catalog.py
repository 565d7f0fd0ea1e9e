"""The workspace's datasets: a checked copy of each file in a folder of its own, with what is known about it.

Covered: hostile names, `..`, symlinks, a source that changes while it is copied, a full disk, a crash half-way.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from codex_space.core import durable
from codex_space.core.errors import DataError, WorkspaceError, nearest
from codex_space.core.paths import Workspace
from codex_space.data.formats import Format, Row, Shape, normalize
from codex_space.data.inspection import Inspection, Problem, inspect_file
from codex_space.data.read import extension, iter_rows

__all__ = [
    "DatasetInfo", "Inspection", "Problem", "clean_name", "delete_dataset", "import_file", "inspect_file",
    "list_datasets", "preview", "read_dataset",
]  # fmt: skip

FACTS = "dataset.json"
SPARE_BYTES = 256 << 20
MAX_NAME_CHARS = 60
MAX_PREVIEW_ROWS = 200
STALE_AFTER_S = 86_400.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True)
class DatasetInfo:
    """One dataset.

    Attributes:
        path: The file of rows, as it was uploaded.
        columns: Those of the file.
        source: Where it came from: a file's name or a Hub id.
        mapping: Our column name to the file's.
    """

    name: str
    path: Path
    format: Format
    num_rows: int
    size_bytes: int
    sha256: str
    columns: list[str]
    source: str
    created_at: float
    mapping: dict[str, str]


_FACTS = TypeAdapter(DatasetInfo)


def import_file(
    workspace: Workspace,
    path: Path,
    name: str,
    now: float,
    *,
    columns: Mapping[str, str] | None = None,
    source: str = "",
) -> DatasetInfo:
    """Copy a file, check every row of the copy, and only then keep it; the same file again gives the same dataset.

    Raises:
        DataError: The first thing that is wrong with the file, or its name is taken.
        WorkspaceError: The disk is full.
    """
    name, ending = clean_name(name), extension(path)
    workspace.datasets.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_stale(workspace, now)
    staging = Path(tempfile.mkdtemp(prefix=".incoming-", dir=workspace.datasets))
    try:
        rows = staging / f"rows{ending}"
        size_bytes, sha256 = _copy(path, rows)
        found = inspect_file(rows, columns)
        if found.format is None or not found.is_good:
            raise _refusal(path.name, found)
        info = DatasetInfo(
            name=name,
            path=rows,
            format=found.format,
            num_rows=found.num_rows,
            size_bytes=size_bytes,
            sha256=sha256,
            columns=found.columns,
            source=source or path.name,
            created_at=now,
            mapping=found.mapping,
        )
        durable.write_json(staging / FACTS, {**asdict(info), "path": rows.name})
        return _keep(workspace, staging, info)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise _disk_full(path.name) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def list_datasets(workspace: Workspace) -> list[DatasetInfo]:
    """Return all datasets, newest first."""
    found = (_read(folder) for folder in workspace.datasets.glob("[!.]*"))
    return sorted((info for info in found if info), key=lambda info: (-info.created_at, info.name))


def read_dataset(workspace: Workspace, name: str) -> DatasetInfo:
    """Return one dataset.

    Raises:
        DataError: There is none of that name; the nearest is told.
    """
    info = _read(workspace.datasets / name) if _NAME.fullmatch(name) else None
    if info is None:
        known = [info.name for info in list_datasets(workspace)]
        cure = nearest(name, known) if known else "Upload a file on the Data tab first."
        raise DataError(f"there is no dataset {name[:80]!r}", where=f"dataset:{name[:80]}", cure=cure)
    return info


def delete_dataset(workspace: Workspace, name: str) -> None:
    """Remove one dataset: it is gone at once, its bytes a moment later.

    Raises:
        DataError: There is none of that name.
    """
    info = read_dataset(workspace, name)
    doomed = Path(tempfile.mkdtemp(prefix=".deleted-", dir=workspace.datasets))
    info.path.parent.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def preview(info: DatasetInfo, offset: int = 0, limit: int = 20) -> list[Row]:
    """Return some rows under our own column names, as a run would read them.

    Raises:
        DataError: The file was changed since it was checked.
    """
    shape = Shape(info.format, info.mapping)
    start, count = max(0, offset), min(max(0, limit), MAX_PREVIEW_ROWS)
    return [normalize(row, shape) for _, row in itertools.islice(iter_rows(info.path), start, start + count)]


def clean_name(name: str) -> str:
    """Return a name that is one harmless folder name, from any text such as a path or a file's name."""
    last = re.split(r"[/\\]", name.strip())[-1]
    stem = re.sub(r"(?i)(\.(jsonl|json|csv|parquet|txt|md))?(\.gz)?$", "", last, count=1)
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", stem)
    plain = re.sub(r"\.{2,}", ".", plain)[:MAX_NAME_CHARS].strip("-._")
    return plain or "dataset"


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a regular file; return its size and hash."""
    if ".." in source.parts:
        raise DataError("the path holds `..`", where=str(source), cure="Give the file's own path.")
    try:
        # Not followed even if it becomes a symlink between a check and the opening; a pipe must not block.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=source.name, cure="Check the path.") from error
    except OSError as error:
        if error.errno != errno.ELOOP and not isinstance(error, PermissionError):
            raise
        what = "this is a symlink" if error.errno == errno.ELOOP else "this file may not be read"
        raise DataError(what, where=source.name, cure="Choose the file itself.") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise DataError("this is not a file", where=source.name, cure="Choose one file of rows.")
    with os.fdopen(descriptor, "rb") as file:
        if shutil.disk_usage(target.parent).free < facts.st_size + SPARE_BYTES:
            raise _disk_full(source.name)
        return _copy_bytes(file, target)


def _copy_bytes(file: BinaryIO, target: Path) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    with target.open("wb") as copy:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
            size_bytes += copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return size_bytes, digest.hexdigest()


def _keep(workspace: Workspace, staging: Path, info: DatasetInfo) -> DatasetInfo:
    """Give a checked folder its name; an equal dataset of that name is returned, another one never replaced."""
    folder = workspace.datasets / info.name
    try:
        staging.rename(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        old = _read(folder)
        if old and (old.sha256, old.mapping) == (info.sha256, info.mapping):
            return old
        what = f"there is already a dataset {info.name!r}"
        raise DataError(what, where=info.name, cure="Give another name, or delete that one first.") from error
    return read_dataset(workspace, info.name)


def _read(folder: Path) -> DatasetInfo | None:
    """Read a folder's facts; the path is made from the folder, which may have been moved with its workspace."""
    facts = durable.read_json(folder / FACTS) if folder.is_dir() else None
    if facts is None:
        return None
    try:
        info = _FACTS.validate_python({**facts, "path": folder / Path(str(facts.get("path"))).name})
    except ValidationError:
        return None
    return info if info.path.is_file() else None


def _remove_stale(workspace: Workspace, now: float) -> None:
    """Remove what a killed import or delete left behind."""
    for pattern in (".incoming-*", ".deleted-*"):
        for folder in workspace.datasets.glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # another import beside this one has come to its end
                if now - folder.stat().st_mtime > STALE_AFTER_S:
                    shutil.rmtree(folder, ignore_errors=True)


def _refusal(file_name: str, found: Inspection) -> DataError:
    problem = found.problems[0]
    more = f" (and {found.num_problems - 1:,} more problems)" if found.num_problems > 1 else ""
    return DataError(f"{problem.what}{more}", where=f"{file_name} {problem.unit} {problem.line}", cure=problem.cure)


def _disk_full(file_name: str) -> WorkspaceError:
    return WorkspaceError(
        "there is not enough free disk space to keep this file",
        where=file_name,
        cure="Delete datasets or runs that are no longer needed.",
    )
