"""The checkpoints of other runs that a run builds on: noted by repository and commit beside its rows, fetched where it trains.

A tokenizer run has no repository and is small: its files lie beside the rows themselves.

Covered: a note that is none, or speaks of what is no run, repository or commit; a repository that holds another
checkpoint there than is meant; bytes that are not those that were saved.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codex_space.core.errors import HubError, HubNotFoundError
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.paths import MANIFEST, Workspace
from codex_space.hub.client import Hub
from codex_space.hub.fetch import (
    PARENTS,
    TOKENIZERS,
    RemoteCheckpoint,
    fetch_checkpoint,
    find_beside,
    read_checkpoint,
    rows_repo,
)
from codex_space.hub.manifest import RESUME_PREFIX, parse_manifest, read_manifest
from codex_space.hub.records import RemoteFile

FILE = PARENTS
MAX_PARENTS = 16
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZER = re.compile(rf"({TOKENIZERS}([\w-]+)/checkpoint-(\d{{1,9}})/){re.escape(MANIFEST)}")


@dataclass(frozen=True)
class Parent:
    """One checkpoint."""

    run_id: str
    step: int
    repo_id: str
    commit_id: str


def render(parents: Sequence[Parent]) -> str:
    """Return the note."""
    return json.dumps([asdict(parent) for parent in parents], indent=1)


def parse(text: str, where: str) -> list[Parent]:
    """Read a note with care: it also comes from the Hub.

    Raises:
        HubError: It is none.
    """
    try:
        rows: Any = json.loads(text)
        found = [
            Parent(str(row["run_id"]), int(row["step"]), str(row["repo_id"]), str(row["commit_id"])) for row in rows
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise HubError(f"{FILE} does not say what the run builds on", where=where, cure="Submit it again.") from error
    sane = all(looks_like_repo_id(one.repo_id) and _COMMIT.fullmatch(one.commit_id) and one.step >= 0 for one in found)
    if not sane or len(found) > MAX_PARENTS:
        raise HubError(f"{FILE} names what is no checkpoint on the Hub", where=where, cure="Submit the run again.")
    return found


def read_parents(hub: Hub, repo_id: str, run_id: str) -> list[Parent]:
    """Return what was noted beside a run's rows, nothing where it builds on no other run.

    Raises:
        HubError: It cannot be read.
    """
    source, commit = rows_repo(repo_id), find_beside(hub, repo_id, run_id)
    try:
        return parse(hub.read_text(source, FILE, commit, "dataset"), source) if commit else []
    except HubNotFoundError:
        return []


def tokenizer_files(checkpoint: Path) -> dict[str, Path]:
    """Return what of a tokenizer run's checkpoint goes beside the rows of a run that uses it, path there to file.

    Raises:
        WorkspaceError: It is gone, or not complete.
        HubError: Its manifest is damaged.
    """
    manifest = read_manifest(checkpoint)
    prefix = f"{TOKENIZERS}{manifest.run_id}/checkpoint-{manifest.step}/"
    return {prefix + name: checkpoint / name for name in (*manifest.loadable_files, MANIFEST)}


def fetch_tokenizers(hub: Hub, workspace: Workspace, repo_id: str, run_id: str, *, known: Collection[str] = ()) -> None:
    """Download the tokenizers beside a run's rows to where their runs would have them, but none of the `known` runs.

    Raises:
        HubError: One is not what its manifest says, or there are more than any run uses.
        RunError: A run id is none.
        WorkspaceError: Not enough disk space.
    """
    source, commit = rows_repo(repo_id), find_beside(hub, repo_id, run_id)
    files = hub.tree(source, commit, "dataset") if commit else {}
    there = [found for path in sorted(files) if (found := _TOKENIZER.fullmatch(path))]
    if len(there) > MAX_PARENTS:
        what = f"more than {MAX_PARENTS} tokenizers lie beside the rows of {run_id}"
        raise HubError(what, where=source, cure="Submit the run again.")
    for found in there:
        target = workspace.job(found[2]).checkpoint(int(found[3]))
        if found[2] not in known and not (target / MANIFEST).is_file():
            _fetch_tokenizer(hub, source, str(commit), files, found, target)


def _fetch_tokenizer(
    hub: Hub, source: str, commit: str, files: Mapping[str, RemoteFile], found: re.Match[str], target: Path
) -> None:
    manifest = parse_manifest(hub.read_text(source, found[0], commit, "dataset"), source)
    if (manifest.kind, manifest.run_id, manifest.step) != ("tokenizer", found[2], int(found[3])):
        what = f"what lies there is not the tokenizer of {found[2]}"
        raise HubError(what, where=f"{source} {found[1]}", cure="Submit the run again.")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remote = RemoteCheckpoint(commit, manifest, files, prefix=found[1], repo_type="dataset")
    fetch_checkpoint(hub, source, remote, target)


def fetch_parents(hub: Hub, workspace: Workspace, parents: Sequence[Parent], *, with_resume: bool = False) -> None:
    """Download each checkpoint that is not here to where its run would have it.

    Raises:
        HubError: It is not there, or another one.
        RunError: A run id is none.
        WorkspaceError: Not enough disk space.
    """
    for parent in parents:
        target = workspace.job(parent.run_id).checkpoint(parent.step)
        if (target / MANIFEST).is_file():  # a run that goes on needs no Hub for it
            continue
        remote = require_checkpoint(hub, parent)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        weights = {
            path: file for path, file in remote.files.items() if with_resume or not path.startswith(RESUME_PREFIX)
        }
        fetch_checkpoint(hub, parent.repo_id, replace(remote, files=weights), target)


def require_checkpoint(hub: Hub, parent: Parent) -> RemoteCheckpoint:
    """Return the checkpoint at that commit.

    Raises:
        HubError: It is not there, or another one.
    """
    remote = read_checkpoint(hub, parent.repo_id, parent.commit_id)
    if remote is None or (remote.manifest.run_id, remote.manifest.step) != (parent.run_id, parent.step):
        what = f"what lies there is not step {parent.step:,} of {parent.run_id}"
        raise HubError(what, where=parent.repo_id, cure="Choose another step of the run it builds on.")
    return remote
