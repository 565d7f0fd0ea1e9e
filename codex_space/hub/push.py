"""Push one checkpoint as one commit and one tag, then prove by hashes that it arrived."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from codex_space.core.errors import CodexError, HubBusyError, HubError
from codex_space.core.paths import MANIFEST
from codex_space.hub.card_parts import CURVES
from codex_space.hub.client import Hub
from codex_space.hub.manifest import (
    RESUME_PREFIX,
    LocalFile,
    Manifest,
    check_file,
    differences,
    hash_file,
    parse_manifest,
    read_manifest,
)
from codex_space.hub.records import Change, RemoteFile

CARD = "README.md"
RECIPE = "recipe.yaml"


def push_checkpoint(  # noqa: PLR0913  # by keyword
    hub: Hub,
    folder: Path,
    *,
    repo_id: str,
    card: str,
    recipe_text: str,
    with_resume: bool,
    curves: str = "",
) -> str:
    """Push a complete checkpoint folder and return the commit that its tag step-N points at.

    Root: weights or adapter, tokenizer, card with its image, manifest, recipe. resume/: what an exact resume needs besides, of the
    newest checkpoint only. Safe to repeat after a crash at any point; an equal commit is not made twice.

    Raises:
        WorkspaceError: A local file is missing or damaged; nothing was sent.
        HubBusyError: Worth another try.
        HubError: Refused, or the Hub holds other bytes than were sent.
    """
    manifest = read_manifest(folder)
    texts = {CARD: card, RECIPE: recipe_text, **({CURVES: curves} if curves else {})}
    files = _collect(folder, manifest, texts, with_resume=with_resume)
    tag = f"step-{manifest.step}"
    tagged = hub.tags(repo_id).get(tag)
    if tagged and not differences(files, hub.tree(repo_id, tagged)):
        return tagged
    head = hub.head(repo_id)
    remote = hub.tree(repo_id, head)
    newest = _remote_manifest(hub, repo_id, head, remote)
    commit = head
    late = newest is not None and newest.run_id == manifest.run_id and newest.step > manifest.step
    stale = _stale(remote, files, newest)
    if stale or differences(files, remote):
        branch = f"late-{tag}" if late else "main"
        if late:
            hub.make_branch(repo_id, branch, head)
        sources = {path: local.source for path, local in files.items()}
        message = f"{manifest.kind} step {manifest.step}"
        commit = hub.commit(repo_id, Change(message, parent=head, files=sources, deleted=stale, branch=branch))
        _verify(hub, repo_id, commit, files)
    if tagged and tagged != commit:
        _keep_other_run(hub, repo_id, tag, tagged, manifest)
    hub.set_tag(repo_id, tag, commit)
    if late:
        hub.delete_branch(repo_id, f"late-{tag}")
    return commit


def push_card(hub: Hub, repo_id: str, run_id: str, render: Callable[[Manifest], tuple[str, str]]) -> bool:
    """Push a run's card anew where what it says has changed since its newest checkpoint; say whether it had.

    `render` returns card and curves for the checkpoint that the repository holds. Another run's is left alone.

    Raises:
        HubBusyError: Worth another try.
        HubError: Refused.
    """
    head = hub.head(repo_id)
    remote = hub.tree(repo_id, head)
    manifest = _remote_manifest(hub, repo_id, head, remote)
    if manifest is None or manifest.run_id != run_id:
        return False
    card, curves = render(manifest)
    files = {name: hash_file(text.encode()) for name, text in ((CARD, card), (CURVES, curves)) if text}
    if not differences(files, remote):
        return False
    changed = {path: local.source for path, local in files.items()}
    hub.commit(repo_id, Change(f"card of step {manifest.step}", parent=head, files=changed))
    return True


def _collect(folder: Path, manifest: Manifest, texts: Mapping[str, str], *, with_resume: bool) -> dict[str, LocalFile]:
    files = {name: check_file(folder / name, fact) for name, fact in manifest.loadable_files.items()}
    if with_resume:
        for name in manifest.resume_files:
            files[RESUME_PREFIX + name] = check_file(folder / name, manifest.files[name])
    files[MANIFEST] = hash_file((folder / MANIFEST).read_bytes())
    files |= {name: hash_file(text.encode()) for name, text in texts.items()}
    return files


def _stale(remote: Collection[str], files: Collection[str], newest: Manifest | None) -> list[str]:
    """Return what an earlier checkpoint left: its resume state, and weights under other names."""
    old = set(newest.files) if newest else set()
    return sorted(path for path in remote if path not in files and (path.startswith(RESUME_PREFIX) or path in old))


def _verify(hub: Hub, repo_id: str, commit: str, files: dict[str, LocalFile]) -> None:
    wrong = differences(files, hub.tree(repo_id, commit))
    if wrong:
        what = f"{len(wrong)} files on the Hub are not what was sent, the first is {wrong[0]}"
        raise HubError(what, where=repo_id, cure="Retry the upload.")


def _remote_manifest(hub: Hub, repo_id: str, commit: str, remote: dict[str, RemoteFile]) -> Manifest | None:
    """Return the manifest of a commit, None where there is none to be read (another program's repository)."""
    if MANIFEST not in remote:
        return None
    try:
        return parse_manifest(hub.read_text(repo_id, MANIFEST, commit), repo_id)
    except HubBusyError:
        raise
    except CodexError:
        return None


def _keep_other_run(hub: Hub, repo_id: str, tag: str, tagged: str, manifest: Manifest) -> None:
    """Give another run's checkpoint of the same step a name of its own before the tag moves on."""
    other = _remote_manifest(hub, repo_id, tagged, hub.tree(repo_id, tagged))
    if other is None or other.run_id != manifest.run_id:
        hub.set_tag(repo_id, f"{other.run_id if other else tagged[:12]}-{tag}", tagged)
