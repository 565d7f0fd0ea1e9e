"""Bring a run back from the Hub alone: its recipe, a checkpoint with its resume state, and its rows if they were kept."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_space.core import durable
from codex_space.core.errors import HubError, HubNotFoundError, WorkspaceError
from codex_space.core.paths import MANIFEST, JobDir, Workspace
from codex_space.core.scratch import held
from codex_space.hub.client import Hub
from codex_space.hub.dataset_files import fetch_dataset_files
from codex_space.hub.manifest import RESUME_PREFIX, FileFact, Manifest, check_file, hash_file, parse_manifest
from codex_space.hub.push import RECIPE
from codex_space.hub.records import Change, RemoteFile, RepoType

__all__ = [
    "FetchedRun", "fetch_dataset_files", "fetch_recipe", "fetch_rows", "fetch_run", "make_rows_repo", "push_rows",
    "rows_repo",
]  # fmt: skip
_TAG = re.compile(r"(?:(\d{8}-\d{6}-[a-z]+-[a-z0-9]{4})-)?step-(\d+)")
"""The run's id is there where another run's checkpoint of the same step has taken the plain name."""
_SPARE_BYTES = 256 << 20
_ROWS, TOKENIZERS, PARENTS = "rows/", "tokenizers/", "parents.json"
_BESIDE, _BESIDE_TAG = frozenset({RECIPE, PARENTS}), "-beside"


@dataclass(frozen=True)
class FetchedRun:
    """A run brought into the workspace."""

    run_id: str
    step: int
    recipe_text: str
    job: JobDir
    checkpoint: Path
    commit_id: str
    num_row_files: int


@dataclass(frozen=True)
class RemoteCheckpoint:
    """A revision of a repository that holds a complete checkpoint; `prefix` is the folder there that it lies in."""

    commit_id: str
    manifest: Manifest
    files: Mapping[str, RemoteFile]
    prefix: str = ""
    repo_type: RepoType = "model"

    @property
    def can_resume(self) -> bool:
        """Whether the resume state is there too."""
        return all(RESUME_PREFIX + name in self.files for name in self.manifest.resume_files)

    @property
    def wanted(self) -> dict[str, str]:
        """What is to be downloaded, name to path there: all that can be loaded, and the resume state that is kept."""
        resume = {name: RESUME_PREFIX + name for name in self.manifest.resume_files}
        return {name: self.prefix + name for name in self.manifest.loadable_files} | {
            name: path for name, path in resume.items() if path in self.files
        }


def fetch_run(hub: Hub, repo_id: str, workspace: Workspace, step: int | None = None, *, run_id: str = "") -> FetchedRun:
    """Download a run's newest checkpoint that can be resumed (or that step; of that run) into its job folder.

    Without `run_id` it is the run that the repository's newest checkpoint is of.

    The checkpoint folder appears only when every byte is proven; a repeated call uses what is there.

    Raises:
        HubNotFoundError: No repository, or no checkpoint of ours that can be resumed: a caller may begin anew then.
        HubError: A file of the checkpoint is gone, or is not the one the manifest names.
        WorkspaceError: Not enough disk space.
    """
    found = find_checkpoint(hub, repo_id, step, run_id=run_id)
    job = workspace.job(found.manifest.run_id)
    job.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        recipe_text = hub.read_text(repo_id, RECIPE, found.commit_id)
        fetch_checkpoint(hub, repo_id, found, job.checkpoint(found.manifest.step))
    except HubNotFoundError as error:  # no reason to throw away what is trained
        what = f"a file of step {found.manifest.step} is gone from the Hub ({error.what})"
        raise HubError(what, where=repo_id, cure="Put it back there, or go on from another step.") from error
    num_row_files = fetch_rows(hub, repo_id, found.manifest.run_id, job.rows)
    if not job.recipe.is_file():  # the run's own, where it is still here, has its full paths
        durable.write_text(job.recipe, recipe_text)
    return FetchedRun(
        run_id=found.manifest.run_id,
        step=found.manifest.step,
        recipe_text=recipe_text,
        job=job,
        checkpoint=job.checkpoint(found.manifest.step),
        commit_id=found.commit_id,
        num_row_files=num_row_files,
    )


def find_checkpoint(hub: Hub, repo_id: str, step: int | None = None, *, run_id: str = "") -> RemoteCheckpoint:
    """Return the newest checkpoint with its resume state, or the one of that step; with `run_id` only of that run.

    Raises:
        HubNotFoundError: There is none.
    """
    for number, named, commit in checkpoint_tags(hub, repo_id):
        if (step is not None and number != step) or named not in {"", run_id}:
            continue
        found = read_checkpoint(hub, repo_id, commit)
        if found is None or found.manifest.step != number or not found.can_resume:
            continue
        if not run_id or found.manifest.run_id == run_id:
            return found
    what = f"there is no checkpoint of step {step} to resume from" if step is not None else "no checkpoint to resume"
    raise HubNotFoundError(what, where=repo_id, cure="Only the newest checkpoints carry their resume state.")


def checkpoint_tags(hub: Hub, repo_id: str) -> list[tuple[int, str, str]]:
    """Return (step, the run's id where the tag names it, commit), newest step first.

    Raises:
        HubNotFoundError: There is no such repository.
    """
    tags = hub.tags(repo_id).items()
    return sorted(
        ((int(found[2]), found[1] or "", commit) for tag, commit in tags if (found := _TAG.fullmatch(tag))),
        reverse=True,
    )


def fetch_checkpoint(hub: Hub, repo_id: str, remote: RemoteCheckpoint, target: Path) -> None:
    """Download a checkpoint so that `target` is either absent or complete and proven; resume state where the Hub has it.

    Raises:
        HubError: A file is not the one the manifest names.
        WorkspaceError: Not enough disk space, or another process downloads it.
    """
    if (target / MANIFEST).is_file():
        return
    staging = target.with_name(f".{target.name}.fetch")
    wanted = remote.wanted
    facts = remote.manifest.files
    for name, path in wanted.items():  # a manifest may say little of a file that would fill the disk
        if path in remote.files and remote.files[path].size != facts[name].size:
            raise HubError(f"{path} is not the file that was saved", where=repo_id, cure="Use another checkpoint.")
    _require_space(staging.parent, sum(facts[name].size for name in wanted))
    staging.mkdir(parents=True, exist_ok=True)
    with held(staging) as is_free:
        if not is_free:
            raise WorkspaceError("it is being downloaded already", where=target.name, cure="Wait until it is here.")
        for name, path in wanted.items():
            _fetch_checked(hub, repo_id, remote, path, facts[name], staging)
            _move(staging / path, staging / name)
        for folder in filter(None, (RESUME_PREFIX, remote.prefix)):
            shutil.rmtree(staging / folder.partition("/")[0], ignore_errors=True)
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the client's bookkeeping
        manifest = hub.read_text(repo_id, remote.prefix + MANIFEST, remote.commit_id, remote.repo_type)
        durable.write_text(staging / MANIFEST, manifest)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)


def rows_repo(repo_id: str) -> str:
    """Return the name of the private dataset that keeps a repository's rows."""
    return f"{repo_id}-rows"


def make_rows_repo(hub: Hub, repo_id: str) -> str:
    """Make the dataset for a repository's rows, prove that it is private and writable, and return its name.

    Raises:
        HubError: The dataset exists and is public: rows never go there.
        HubAuthError: The token may not write to it.
        HubBusyError: Worth another try.
    """
    target = rows_repo(repo_id)
    hub.check_writable(target, private=True, repo_type="dataset")
    if not hub.is_private(target, "dataset"):
        cure = "Make it private in its settings, or set hub.keep_rows: false."
        raise HubError("this dataset is public, so the rows are not pushed to it", where=target, cure=cure)
    return target


def push_rows(
    hub: Hub, folder: Path, *, repo_id: str, run_id: str, beside: Mapping[str, str | Path] | None = None
) -> str:
    """Push a run's prepared rows to the private dataset `owner/name-rows`, tagged with the run's id.

    What lies `beside` them, path to text or file, is what else another machine needs to start the run; where it has
    changed since, a commit on top of that one has it, with a tag of its own. What an earlier run left in that dataset
    and this one has not is no part of the tagged commit.

    Raises:
        HubError: As in `make_rows_repo`.
        HubBusyError: Worth another try.
    """
    target = make_rows_repo(hub, repo_id)
    told: dict[str, Path | bytes] = {
        path: what.encode() if isinstance(what, str) else what for path, what in (beside or {}).items()
    }
    tags = hub.tags(target, "dataset")
    if tagged := tags.get(run_id):
        _bring_up_to_date(hub, target, run_id, tags, told)
        return tagged
    files = {f"{_ROWS}{path.name}": path for path in sorted(folder.iterdir()) if _is_row_file(path)}
    parent = hub.head(target, "dataset")
    there = hub.tree(target, parent, "dataset")
    others = sorted(path for path in there if path not in {*files, *told} and _is_of_a_run(path))
    commit = hub.commit(target, Change(f"rows of {run_id}", parent, {**files, **told}, others), "dataset")
    hub.set_tag(target, run_id, commit, "dataset")
    return commit


def _bring_up_to_date(
    hub: Hub, target: str, run_id: str, tags: Mapping[str, str], told: Mapping[str, Path | bytes]
) -> None:
    """Commit what has changed beside a run's rows on top of them, whatever other run's rows have come after.

    The tag of the rows stays where it is: the Hub has no way to move one, and a crash between two calls would lose them.
    """
    known = str(_beside(tags, run_id))
    there = hub.tree(target, known, "dataset") if told else {}
    changed = {path: source for path, source in told.items() if not hash_file(source).equals(there.get(path))}
    if not changed:
        return
    branch = f"beside-{run_id}"
    hub.make_branch(target, branch, known, "dataset")
    change = Change(f"what {run_id} needs beside its rows", known, changed, branch=branch)
    commit = hub.commit(target, change, "dataset")
    hub.set_tag(target, run_id + _BESIDE_TAG, commit, "dataset")
    hub.delete_branch(target, branch, "dataset")


def find_beside(hub: Hub, repo_id: str, run_id: str) -> str | None:
    """Return the commit of the rows dataset that has what lies beside a run's rows, None where none were kept.

    Raises:
        HubBusyError: No answer.
    """
    try:
        return _beside(hub.tags(rows_repo(repo_id), "dataset"), run_id)
    except HubNotFoundError:
        return None


def _beside(tags: Mapping[str, str], run_id: str) -> str | None:
    return tags.get(run_id + _BESIDE_TAG) or tags.get(run_id)


def fetch_rows(hub: Hub, repo_id: str, run_id: str, into: Path) -> int:
    """Download a run's kept rows into `into`; return the number of files, 0 where none were kept.

    Raises:
        HubBusyError: Worth another try.
        WorkspaceError: Not enough disk space.
    """
    if (into / "prepared.json").is_file():  # written last: these rows are complete
        return sum(_is_row_file(path) for path in into.iterdir())
    source = rows_repo(repo_id)
    try:
        commit = hub.tags(source, "dataset").get(run_id)
    except HubNotFoundError:
        return 0
    if commit is None:
        return 0
    tree = hub.tree(source, commit, "dataset")
    names = [path for path in tree if re.fullmatch(r"rows/[\w.-]+\.(parquet|json)", path)]
    _require_space(into.parent, sum(tree[path].size for path in names))
    staging = into.with_name(f".{into.name}.fetch")
    for path in names:
        hub.download(source, path, commit, staging, "dataset")
    (staging / "rows").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(into, ignore_errors=True)
    (staging / "rows").rename(into)
    shutil.rmtree(staging, ignore_errors=True)
    return len(names)


def fetch_recipe(hub: Hub, repo_id: str, run_id: str) -> str:
    """Return the recipe that was pushed with a run's rows.

    Raises:
        HubNotFoundError: There is none.
    """
    source, commit = rows_repo(repo_id), find_beside(hub, repo_id, run_id)
    if commit is None:
        raise HubNotFoundError("this run was not sent here", where=source, cure=f"Submit {run_id} again.")
    return hub.read_text(source, RECIPE, commit, "dataset")


def read_checkpoint(hub: Hub, repo_id: str, commit: str) -> RemoteCheckpoint | None:
    """Return what a revision holds, None where it is no checkpoint of ours.

    Raises:
        HubError: Its manifest is damaged.
    """
    files = hub.tree(repo_id, commit)
    if MANIFEST not in files or RECIPE not in files:
        return None
    manifest = parse_manifest(hub.read_text(repo_id, MANIFEST, commit), repo_id)
    return RemoteCheckpoint(commit, manifest, files)


def _fetch_checked(hub: Hub, repo_id: str, remote: RemoteCheckpoint, path: str, fact: FileFact, staging: Path) -> None:
    """Download one file and compare it; a damaged one is tried once more, then refused."""
    for _ in range(2):
        file = hub.download(repo_id, path, remote.commit_id, staging, remote.repo_type)
        try:
            check_file(file, fact)
        except WorkspaceError:
            file.unlink(missing_ok=True)
            continue
        return
    raise HubError(f"{path} is not the file that was saved", where=repo_id, cure="Resume from another step.")


def _move(source: Path, target: Path) -> None:
    if source != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)


def _is_of_a_run(path: str) -> bool:
    return path.startswith((_ROWS, TOKENIZERS)) or path in _BESIDE


def _is_row_file(path: Path) -> bool:
    return path.suffix in {".parquet", ".json"} and path.is_file()


def _require_space(folder: Path, size_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size_bytes + _SPARE_BYTES:
        what = f"{size_bytes / 2**20:,.0f} MiB are to be downloaded and {free / 2**20:,.0f} MiB of disk are free"
        raise WorkspaceError(what, where=str(folder), cure="Free some space, then try again.")
