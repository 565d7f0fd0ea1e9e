"""What a complete checkpoint consists of: its manifest, read with care, since it also comes from the Hub."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from codex_space.core.errors import HubError, WorkspaceError
from codex_space.core.paths import MANIFEST
from codex_space.hub.records import RemoteFile

RESUME_PREFIX = "resume/"
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class FileFact:
    """Size and SHA-256 of one file, as the worker wrote it."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's content; `files` leaves the manifest itself out."""

    run_id: str
    step: int
    kind: str
    base_model: str
    metrics: dict[str, float]
    resume_files: tuple[str, ...]
    files: dict[str, FileFact]

    @property
    def loadable_files(self) -> dict[str, FileFact]:
        """The files that make a model: weights or adapter, tokenizer, configuration."""
        return {name: fact for name, fact in self.files.items() if name not in self.resume_files}


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest's JSON.

    Raises:
        HubError: It is not one, or names a file outside its folder.
    """
    try:
        value: dict[str, Any] = json.loads(text)
        files = {str(name): FileFact(int(row["size"]), str(row["sha256"])) for name, row in value["files"].items()}
        manifest = Manifest(
            run_id=str(value["run_id"]),
            step=int(value["step"]),
            kind=str(value["kind"]),
            base_model=str(value.get("base_model") or ""),
            metrics={str(k): float(v) for k, v in (value.get("metrics") or {}).items() if isinstance(v, int | float)},
            resume_files=tuple(str(name) for name in value.get("resume_files", [])),
            files={name: fact for name, fact in files.items() if name != MANIFEST},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise HubError(
            f"{MANIFEST} is not a manifest ({error})", where=where, cure="Use another checkpoint."
        ) from error
    if value.get("schema") != 1:
        cure = "Update this program."
        raise HubError(f"{MANIFEST} has the schema {value.get('schema')!r}, not 1", where=where, cure=cure)
    for name in (*manifest.files, *manifest.resume_files):
        if not _is_plain(name) or name not in manifest.files:
            raise HubError(f"{MANIFEST} names {name!r}, which is not a file of it", where=where)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint on disk.

    Raises:
        WorkspaceError: There is none: the checkpoint is not complete.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WorkspaceError("the checkpoint is gone or not complete", where=str(folder)) from error
    return parse_manifest(text, str(folder))


@dataclass(frozen=True)
class LocalFile:
    """Content that goes up, with the hashes to compare afterwards."""

    source: Path | bytes
    size: int
    sha256: str
    git_sha1: str

    def equals(self, remote: RemoteFile | None) -> bool:
        """Return whether the Hub holds the same bytes."""
        if remote is None or remote.size != self.size:
            return False
        return remote.sha256 == self.sha256 if remote.sha256 else remote.git_sha1 == self.git_sha1


def hash_file(source: Path | bytes) -> LocalFile:
    """Read content once and return its hashes."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    if isinstance(source, bytes):
        sha256.update(source)
        git.update(source)
    else:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
                git.update(chunk)
    return LocalFile(source, size, sha256.hexdigest(), git.hexdigest())


def check_file(path: Path, fact: FileFact) -> LocalFile:
    """Return the hashes of a file that is what its manifest says.

    Raises:
        WorkspaceError: It is missing or its bytes are others.
    """
    if not path.is_file() or path.is_symlink():
        raise WorkspaceError("a file of the checkpoint is missing", where=str(path), cure="Use another checkpoint.")
    local = hash_file(path)
    if local.size != fact.size or local.sha256 != fact.sha256:
        raise WorkspaceError("the file is not what was saved", where=str(path), cure="Use another checkpoint.")
    return local


def differences(wanted: Mapping[str, LocalFile], remote: Mapping[str, RemoteFile]) -> list[str]:
    """Return the paths whose bytes on the Hub are not the local ones."""
    return [path for path, local in wanted.items() if not local.equals(remote.get(path))]


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    safe = not path.is_absolute() and "\\" not in name and name.isprintable() and str(path) == name
    return safe and not any(part in {"", ".", ".."} or part.startswith(".") for part in path.parts)
