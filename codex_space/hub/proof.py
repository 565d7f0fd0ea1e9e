"""Ask the Hub, at this moment, whether it holds the very bytes of a checkpoint that lies here.

Covered: a repository, commit, tag or file that is gone there, a file that differs there by a byte (its LFS SHA-256 or its
git blob against what lies here), a file here that differs from its manifest, one that only lies here, links. Not
covered: a Hub that names a hash and has lost the bytes behind it.
"""

import os
from pathlib import Path

from codex_space.core.errors import HubError, WorkspaceError
from codex_space.core.paths import MANIFEST
from codex_space.hub.client import Hub
from codex_space.hub.manifest import RESUME_PREFIX, check_file, differences, hash_file, parse_manifest, read_manifest


def prove(hub: Hub, repo_id: str, commit_id: str, folder: Path) -> bool:
    """Pass a checkpoint that can be had again from that commit; return whether its resume state can be as well.

    Raises:
        HubBusyError: No answer: nothing is known.
        HubError: The Hub does not hold it, or other bytes.
        WorkspaceError: What lies here is not what was saved, or holds something more.
    """
    if commit_id not in hub.tags(repo_id).values():
        raise HubError("no tag of the repository holds it any more", where=repo_id)
    remote = hub.tree(repo_id, commit_id)
    if MANIFEST not in remote:
        raise HubError("its manifest is not there", where=repo_id)
    here = read_manifest(folder)
    if not hash_file(folder / MANIFEST).equals(remote[MANIFEST]):  # it may have been amended here since
        there = parse_manifest(hub.read_text(repo_id, MANIFEST, commit_id), repo_id)
        if (here.run_id, here.step, here.files) != (there.run_id, there.step, there.files):
            raise HubError("the manifest there is of other files", where=repo_id)
    _require_nothing_more(folder, {*here.files, MANIFEST})
    wrong = differences({name: check_file(folder / name, fact) for name, fact in here.loadable_files.items()}, remote)
    if wrong:
        raise HubError(f"{wrong[0]} there is not the file here", where=repo_id)
    resume = [name for name in here.resume_files if (folder / name).is_file()]
    state = {RESUME_PREFIX + name: check_file(folder / name, here.files[name]) for name in resume}
    return len(state) == len(here.resume_files) and not differences(state, remote)


def _require_nothing_more(folder: Path, known: set[str]) -> None:
    """Refuse links, and files that the manifest does not name: they are nowhere else.

    Raises:
        WorkspaceError: There is one.
    """
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at) / name
            if path.is_symlink() or (name in files and path.relative_to(folder).as_posix() not in known):
                raise WorkspaceError(f"{name} lies in it, which is not the checkpoint's", where=folder.name)
