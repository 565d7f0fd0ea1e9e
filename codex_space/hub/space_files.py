"""The files of a Space and of the Space it was copied from: their lists, their history, and one commit that takes some over.

Covered, since an origin may be anybody's: names that are no plain paths, lists and files past a bound, content that is not
what the list said. Not covered: what the files do once the Hub has built them; that is the origin's to answer for.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from codex_space.core.errors import HubBusyError, HubError
from codex_space.hub.client import Hub
from codex_space.hub.manifest import hash_file
from codex_space.hub.records import Change, RemoteFile
from codex_space.hub.refusals import hub_errors
from codex_space.hub.space import space_errors

MAX_FILES = 20_000
MAX_COMMITS = 2_000
MAX_PATH_CHARS = 300
_PLAIN = re.compile(r"[^\\\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class CommitLine:
    """One commit of a history."""

    id: str
    title: str


class SpaceFiles(Hub):
    """A Hub account that reads Spaces and changes the files of its own."""

    def history(self, space_id: str, commit: str) -> list[CommitLine]:
        """Return the commits that led to one, newest first; the newest 2,000 where there are more.

        Raises:
            HubNotFoundError: There is no such Space or commit, or it is hidden from this token.
        """
        with hub_errors(space_id):
            rows = self._api.list_repo_commits(space_id, repo_type="space", revision=commit)
        return [CommitLine(row.commit_id, row.title) for row in rows[:MAX_COMMITS]]

    def files(self, space_id: str, commit: str) -> dict[str, RemoteFile]:
        """Return the files of a commit by path.

        Raises:
            HubNotFoundError: There is no such Space or commit, or it is hidden from this token.
            HubError: There are more than 20,000, or one has a name that is no plain path.
        """
        found = self.tree(space_id, commit, "space", max_files=MAX_FILES)
        for path in found:
            _require_plain(space_id, path)
        return found

    def fetch(self, space_id: str, file: RemoteFile, commit: str, into: Path) -> Path:
        """Download one file and see that it is what the list said.

        Raises:
            HubNotFoundError: It is not there any more.
            HubError: Its content is another.
        """
        path = self.download(space_id, file.path, commit, into, "space")
        if not hash_file(path).equals(file):
            cure = "Nothing was taken over; try again."
            raise HubError(f"the content of {file.path} is not what the Hub's list says", where=space_id, cure=cure)
        return path

    def commit_files(self, space_id: str, change: Change) -> str:
        """Make the commit, after which the Hub builds and restarts the Space; return its id.

        Raises:
            HubAuthError: The token may not change the Space.
            HubBusyError: The Hub did not answer, and the commit was not made.
            HubError: Somebody else changed it since.
        """
        with space_errors(space_id, "change its files"):
            try:
                return self.commit(space_id, change, "space")
            except HubBusyError as error:
                return self._find_commit(space_id, change, error)
            except HubError as error:
                if getattr(getattr(error.__cause__, "response", None), "status_code", 0) == 409:
                    raise _changed_meanwhile(space_id) from None
                raise

    def _find_commit(self, space_id: str, change: Change, error: HubBusyError) -> str:
        """Return the commit where only its answer was lost.

        Raises:
            HubBusyError: It was not made.
            HubError: Another one was.
        """
        head = self.head(space_id, "space")
        if head == change.parent:
            raise HubBusyError(error.what, where=space_id, cure="Nothing was taken over; try again later.") from error
        newest = self.history(space_id, head)[0]
        if newest.title != change.message:
            raise _changed_meanwhile(space_id) from error
        return head


def _changed_meanwhile(space_id: str) -> HubError:
    cure = "Nothing was taken over. Look again: what would change is worked out anew."
    return HubError("somebody else changed it at the same moment", where=space_id, cure=cure)


def _require_plain(space_id: str, path: str) -> None:
    parts = path.split("/")
    strange = {"", ".", ".."} & set(parts) or any(part.lower() == ".git" for part in parts)
    if strange or len(path) > MAX_PATH_CHARS or not _PLAIN.fullmatch(path):
        cure = "Nothing is taken over from there."
        raise HubError(f"the file name {path[:100]!r} is no plain path", where=space_id, cure=cure)
