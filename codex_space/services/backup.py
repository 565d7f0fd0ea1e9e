"""One archive of a workspace, and a workspace from one archive.

In it: the database, copied consistently while its owner goes on; datasets; job folders without what can be made or fetched
again (the spool, merged models, and all but the newest of the checkpoints that the Hub is proven to hold).

Covered, since an archive may come from anybody: names that lead out of the folder, links, devices, pipes, files by which a
run is in hand here, and a database with code of its own are refused before anything is kept; owner and mode of a file are ours; an archive may unpack to no more than the disk has free, nor hold a million files; nothing
appears in the workspace until all of it is unpacked and its database opens (an older one is upgraded). Not covered: what
a recipe or a model in it says is not vetted; a run in it is started only by a person or where it was queued. A copy that
opens while the workspace it is of still lives follows the same Jobs beside it, and counts what they cost once
(store/costs.py); a run that trains at the other is ended here (jobs/announce.py) where it pushes to the Hub.
"""

import contextlib
import os
import secrets
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import Workspace
from codex_space.services.context import Context
from codex_space.services.signed_out import SINCE
from codex_space.store import facts, runs
from codex_space.store.checkpoints import list_checkpoints
from codex_space.store.db import Database

MAX_FILES = 1_000_000
MAX_NAME_CHARS = 1000
MAX_HEADER_BYTES = 1 << 20
SPARE_BYTES = 64 << 20
_LEFT_OUT = {"spool", "merged", "asked", "worker.json", "stop.request", "save.request", "announced.json"}
_TOP = {"datasets", "runs"}
_CHUNK_BYTES = 1 << 20


def backup(ctx: Context, target: Path) -> dict[str, Any]:
    """Write the archive, whole or not at all; return what is in it.

    Raises:
        WorkspaceError: Its name ends in neither .tar.zst nor .tar.gz, it exists, or cannot be written.
    """
    kind = _kind(target)
    if target.exists():
        raise WorkspaceError("this file exists already", where=str(target), cure="Choose another name.")
    if target.absolute().is_relative_to(ctx.workspace.root):
        raise WorkspaceError(
            "the archive would be part of what it holds", where=str(target), cure="Write it elsewhere."
        )
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")  # another may be writing one of that name
    left_out = _on_hub(ctx)
    num_files = 0
    try:
        with _writing(part, kind) as tar, tempfile.TemporaryDirectory(prefix="codex-space-") as folder:
            copy = Path(folder) / "copy.db"
            ctx.db.copy_to(copy)  # first: what the folders gain after it is read from their events
            tar.add(copy, ctx.workspace.database.name)
            for path in _files(ctx.workspace, left_out):
                with contextlib.suppress(FileNotFoundError):  # the worker rotated it away meanwhile
                    _add(tar, path, str(path.relative_to(ctx.workspace.root)))
                    num_files += 1
        part.replace(target)
    except OSError as error:
        raise WorkspaceError(f"the archive cannot be written ({error.strerror or error})", where=str(target)) from error
    finally:
        part.unlink(missing_ok=True)
    size_bytes, num_runs = target.stat().st_size, runs.count_runs(ctx.db)
    return {
        "file": str(target),
        "runs": num_runs,
        "files": num_files,
        "size_bytes": size_bytes,
        "left_out": len(left_out),
    }


def restore(source: Path, workspace: Workspace) -> dict[str, Any]:
    """Unpack an archive into a folder that is missing or empty; return what came.

    Raises:
        WorkspaceError: The folder is not empty, the archive is damaged, hostile or no archive of ours, or too large.
    """
    root = workspace.root
    if root.is_dir() and any(root.iterdir()):
        raise WorkspaceError("this folder is not empty", where=str(root), cure="Restore into an empty --workspace.")
    if not source.is_file():
        raise WorkspaceError("there is no such archive", where=str(source))
    kind = _kind(source)
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.restore-", dir=root.parent))
    try:
        with _reading(source, kind) as tar:
            num_files = _unpack(tar, staging)
        if not (staging / workspace.database.name).is_file():
            raise WorkspaceError("it holds no workspace of this program", where=str(source))
        with contextlib.closing(Database.open(staging / workspace.database.name)) as db:
            _require_plain_database(db, source)
            num_runs = runs.count_runs(db)
            facts.forget(db, SINCE)
        Workspace(staging).make()
        if root.is_dir():
            root.rmdir()
        staging.rename(root)
    except RecursionError:  # tarfile follows a header that only leads to the next one inside itself
        raise WorkspaceError("it holds headers without end", where=str(source), cure="It is not unpacked.") from None
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError, ValueError, OverflowError) as error:
        raise WorkspaceError(
            f"the archive is damaged ({error})", where=str(source), cure="Use another copy."
        ) from error
    except OSError as error:
        raise WorkspaceError(f"it cannot be unpacked ({error.strerror or error})", where=str(source)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {"workspace": str(root), "runs": num_runs, "files": num_files}


def _on_hub(ctx: Context) -> set[Path]:
    """Return the checkpoint folders that can be fetched again; a run's newest stays, since a resume begins with it."""
    found: set[Path] = set()
    for run in runs.list_runs(ctx.db, limit=100_000):
        job = ctx.workspace.job(run.id)
        uploaded = {row.step for row in list_checkpoints(ctx.db, run.id) if row.upload == "uploaded"}
        found |= {job.checkpoint(step) for step in job.checkpoint_steps()[:-1] if step in uploaded}
    return found


def _files(workspace: Workspace, left_out: set[Path]) -> Iterator[Path]:
    for top in sorted(_TOP):
        for folder, names, files in os.walk(workspace.root / top):
            here = Path(folder)
            in_job = here.parent == workspace.runs
            names[:] = sorted(
                n
                for n in names
                if here / n not in left_out and not (in_job and n in _LEFT_OUT) and not n.startswith(".")
            )
            for name in sorted(files):
                path = here / name
                if not (in_job and name in _LEFT_OUT) and path.is_file() and not path.is_symlink():
                    yield path


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file as long as it is now: a log may grow while it is read."""
    with path.open("rb") as file:
        member = tarfile.TarInfo(name)
        facts = os.fstat(file.fileno())
        member.size, member.mtime, member.mode = facts.st_size, int(facts.st_mtime), 0o600
        tar.addfile(member, cast("IO[bytes]", _AsLong(file)))


class _AsLong:
    """Reads a file to the length it had: the log of a Job is cut and written anew while it is followed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size).ljust(size, b"\0")


def _unpack(tar: tarfile.TarFile, into: Path) -> int:
    left_bytes = shutil.disk_usage(into).free - SPARE_BYTES
    num_files = 0
    for member in tar:
        num_files += 1
        left_bytes -= member.size
        _require_plain(member)
        if left_bytes < 0:
            raise WorkspaceError("it unpacks to more than the disk has free", where=member.name)
        if num_files > MAX_FILES:
            raise WorkspaceError(f"it holds more than {MAX_FILES:,} files", where=member.name)
        target = into / member.name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = tar.extractfile(member)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(cast("IO[bytes]", content), file, _CHUNK_BYTES)
        if target.stat().st_size != member.size:
            raise WorkspaceError("the archive is cut off", where=member.name, cure="Use another copy.")
    return num_files


def _require_plain(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    parts = member.name.split("/")
    plain = not path.is_absolute() and not {"", ".", ".."} & set(parts) and "\\" not in member.name
    printable = member.name.isprintable() and len(member.name) <= MAX_NAME_CHARS
    if not member.isreg() or not plain or not printable or member.issparse() or member.size < 0:
        raise WorkspaceError(
            f"it holds {member.name[:200]!r}, which is no plain file inside it", cure="It is not unpacked."
        )
    if parts[0] not in _TOP and (len(parts) > 1 or parts[0] != Workspace(Path()).database.name):
        raise WorkspaceError(f"it holds {member.name[:200]!r}, which no backup does", cure="It is not unpacked.")
    if parts[0] == "runs" and len(parts) > 2 and parts[2] in _LEFT_OUT:  # which process a worker is, what goes up
        raise WorkspaceError(f"it holds {member.name[:200]!r}, which no backup does", cure="It is not unpacked.")


def _require_plain_database(db: Database, source: Path) -> None:
    """Refuse a database that would do something by itself when this program writes to it."""
    found = db.query("SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view') OR sql LIKE 'CREATE VIRTUAL%'")
    if found:
        what = f"its database holds {str(found[0]['name'])[:200]!r}, which no database of this program does"
        raise WorkspaceError(what, where=str(source), cure="It is not unpacked.")


class _Member(tarfile.TarInfo):
    """A header of an archive; one that holds a name of gigabytes is refused before it is read into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isreg() and self.size > MAX_HEADER_BYTES:
            raise WorkspaceError("it holds a header that no backup has", cure="It is not unpacked.")
        return super()._proc_member(tar)  # ty: ignore[missing-attribute]  # tarfile names no other place


def _kind(path: Path) -> str:
    for ending, kind in ((".tar.zst", "zstd"), (".tar.gz", "gzip")):
        if path.name.endswith(ending):
            return kind
    raise WorkspaceError("an archive's name ends in .tar.zst or .tar.gz", where=str(path))


@contextlib.contextmanager
def _writing(path: Path, kind: str) -> Generator[tarfile.TarFile]:
    import pyarrow  # noqa: PLC0415  # slow import

    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    with (
        pyarrow.CompressedOutputStream(pyarrow.OSFile(str(path), "wb"), kind) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        yield tar


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Generator[tarfile.TarFile]:
    import pyarrow  # noqa: PLC0415  # slow import

    with (
        pyarrow.CompressedInputStream(pyarrow.OSFile(str(path), "rb"), kind) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Member) as tar,
    ):
        yield tar
