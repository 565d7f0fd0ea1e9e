"""The facts that pass between the Hub and the rest of the program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["model", "dataset", "space"]


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to and what it may do; `can_write` is a hint, `check_writable` the proof.

    Attributes:
        role: Of an access token: read, write or fineGrained; "oauth" for one that a sign-in gave.
        writes_in: The organisations in which the account's own role is to write or to administer.
    """

    name: str
    orgs: tuple[str, ...]
    role: str
    can_write: bool
    writes_in: tuple[str, ...] = ()
    is_pro: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without downloading it."""

    sha: str
    private: bool
    gated: bool


@dataclass(frozen=True)
class ModelHit:
    """One line of a search."""

    id: str
    downloads: int
    likes: int
    gated: bool


@dataclass(frozen=True)
class RemoteFile:
    """A file of a revision; `sha256` is known for large files, `git_sha1` (of the content) for small ones."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True)
class Change:
    """What one commit does on top of `parent`."""

    message: str
    parent: str
    files: Mapping[str, Path | bytes]
    deleted: Sequence[str] = ()
    branch: str = "main"
