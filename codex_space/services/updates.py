"""What a copy of a Space can take over from its origin, and taking it over in one commit.

A copy is a repository of its own. Which version it has is read from its history: the newest commit that the origin has too
(a copy keeps the history), or the newest update made here, whose title names the origin's commit. A file that differs from
that version was changed in the copy and is never overwritten unasked; the README's front matter stays the copy's own.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codex_space.core import durable
from codex_space.core.errors import CodexError, WorkspaceError
from codex_space.core.yaml_text import parse_yaml
from codex_space.hub.records import Change, RemoteFile
from codex_space.hub.space_files import CommitLine, SpaceFiles
from codex_space.jobs.leaving import UPDATE, wish_path
from codex_space.services import space
from codex_space.services.context import Context

README = "README.md"
MAX_CHANGES = 1_000
MAX_BYTES = 200 << 20
SHOWN = 20
_TITLE = re.compile(r"Update from (?P<origin>[\w.-]+/[\w.-]+) at (?P<commit>[0-9a-f]{40})")
_DRAIN = (
    "`codex-space space update --drain` (on the page: Save and stop what runs) saves them; update once they have ended."
)

Kind = Literal["added", "changed", "deleted"]
Own = Literal["", "keep", "overwrite"]


@dataclass(frozen=True)
class FileChange:
    """What the origin did to a file; `is_own` where the copy had changed it too."""

    path: str
    kind: Kind
    size_bytes: int
    is_own: bool


@dataclass(frozen=True)
class Update:
    """What an update would do.

    Attributes:
        origin_commit: What it would bring the copy to.
        base_commit: Of the origin, on which the copy stands; empty where its history does not say.
        copy_commit: The copy's own newest.
        commits: The origin's since then, newest first.
        notes: Sentences for the person who decides.
    """

    space_id: str
    origin: str
    origin_commit: str
    base_commit: str
    copy_commit: str
    files: tuple[FileChange, ...]
    commits: tuple[CommitLine, ...]
    notes: tuple[str, ...]

    @property
    def own(self) -> tuple[str, ...]:
        """The files that both sides changed."""
        return tuple(one.path for one in self.files if one.is_own)


@dataclass(frozen=True)
class _Readme:
    """A README in two: `front` with its two lines of dashes, and what comes behind."""

    front: str
    body: str


def look(ctx: Context, *, space_id: str = "", origin: str = "") -> Update:
    """Compare a copy with its origin; nothing is changed.

    Raises:
        WorkspaceError: It is no Space, or not known to be a copy.
        HubError: As the Hub refuses; the origin is gone or private, or its list of files is not to be trusted.
    """
    found = space.find_space(ctx, space_id)
    hub = _hub(ctx)
    copy_commit = hub.head(found, "space")
    mine = hub.files(found, copy_commit)
    card = _read_readme(hub, found, copy_commit, mine)
    origin = _find_origin(ctx, found, origin, card)
    origin_commit = hub.head(origin, "space")
    theirs = hub.files(origin, origin_commit)
    base, lines = _find_base(hub, (found, copy_commit), (origin, origin_commit))
    before = hub.files(origin, base) if base else {}
    files = [*_compare(mine, theirs, before)]
    notes = (
        []
        if base
        else ["The history does not say which version this copy has: all that differs counts as changed here."]
    )
    if found != ctx.settings.space_id:
        notes.append("What runs in that Space ends with its restart; an update from its own Space tab saves it first.")
    if README in theirs:
        old = _read_readme(hub, origin, base, before) if base else _Readme("", "")
        new = _read_readme(hub, origin, origin_commit, theirs)
        files += _compare_readme(card, new, old, theirs[README].size)
        if base and new.front != old.front:
            notes.append(
                "The origin changed the README's front matter (how the Hub runs the Space); this copy's stays as it is."
            )
    files.sort(key=lambda one: one.path)
    return Update(found, origin, origin_commit, base, copy_commit, tuple(files), tuple(lines), tuple(notes))


def take(ctx: Context, update: Update, own: Own = "") -> str:
    """Commit what was looked at to the copy and return the commit; the Hub then builds and restarts it.

    Raises:
        WorkspaceError: There is nothing to do, a run is under way, files were changed on both sides and `own` does not
            say what becomes of them, or it is too much.
        HubError: As the Hub refuses; the copy or the origin changed since the look.
    """
    if update.own and not own:
        cure = "Say whether the copy's are kept or overwritten (--own keep, --own overwrite)."
        named = ", ".join(update.own[:SHOWN])
        raise WorkspaceError(f"these were changed in the copy too: {named}", where=update.space_id, cure=cure)
    wanted = [one for one in update.files if own == "overwrite" or not one.is_own]
    if not wanted:
        raise WorkspaceError("there is nothing to take over", where=update.space_id)
    if len(wanted) > MAX_CHANGES or sum(one.size_bytes for one in wanted) > MAX_BYTES:
        cure = "Update it with git instead."
        raise WorkspaceError("this is more than one commit takes (1,000 files, 200 MB)", where=update.origin, cure=cure)
    space.require_idle(ctx, update.space_id, _DRAIN)
    commit = _commit(_hub(ctx), update, wanted)
    short = update.origin_commit[:7]
    ctx.note("update the Space", f"{update.space_id} from {update.origin} at {short}, {len(wanted)} files")
    _forget_wish(ctx)
    return commit


def _commit(hub: SpaceFiles, update: Update, wanted: list[FileChange]) -> str:
    theirs = hub.files(update.origin, update.origin_commit)
    mine = hub.files(update.space_id, update.copy_commit)
    with tempfile.TemporaryDirectory(prefix="codex-space-") as temporary:
        files: dict[str, Path | bytes] = {}
        for one in wanted:
            if one.kind != "deleted":
                files[one.path] = hub.fetch(update.origin, theirs[one.path], update.origin_commit, Path(temporary))
        if README in files:
            new = _read_readme(hub, update.origin, update.origin_commit, theirs)
            old = _read_readme(hub, update.space_id, update.copy_commit, mine)
            files[README] = ((old.front or new.front) + new.body).encode()
        deleted = [one.path for one in wanted if one.kind == "deleted" and one.path in mine]
        title = f"Update from {update.origin} at {update.origin_commit}"
        return hub.commit_files(update.space_id, Change(title, update.copy_commit, files, deleted))


def _compare(
    mine: Mapping[str, RemoteFile], theirs: Mapping[str, RemoteFile], before: Mapping[str, RemoteFile]
) -> list[FileChange]:
    found = []
    for path in {*theirs, *before} - {README}:
        new, old, here = (_content(files.get(path)) for files in (theirs, before, mine))
        if new in {old, here}:
            continue
        kind: Kind = "deleted" if new is None else "added" if here is None else "changed"
        size_bytes = theirs[path].size if path in theirs else 0
        found.append(FileChange(path, kind, size_bytes, is_own=here != old))
    return found


def _compare_readme(mine: _Readme, new: _Readme, old: _Readme, size_bytes: int) -> list[FileChange]:
    if new.body in {old.body, mine.body}:
        return []
    return [FileChange(README, "changed", size_bytes, is_own=mine.body != old.body)]


def _content(file: RemoteFile | None) -> str | None:
    return None if file is None else file.sha256 or file.git_sha1


def _find_base(hub: SpaceFiles, copy: tuple[str, str], origin: tuple[str, str]) -> tuple[str, list[CommitLine]]:
    """Return the origin's commit that the copy stands on, or none, and the origin's commits since."""
    theirs = hub.history(*origin)
    known = {line.id: number for number, line in enumerate(theirs)}
    for line in hub.history(*copy):
        titled = _TITLE.fullmatch(line.title)
        base = titled["commit"] if titled and titled["origin"] == origin[0] else line.id
        if base in known:
            return base, theirs[: known[base]]
    return "", []


def _find_origin(ctx: Context, space_id: str, named: str, card: _Readme) -> str:
    own = ctx.settings.origin if space_id == ctx.settings.space_id else ""
    found = named or own or _read_origin(card)
    cure = "Name the Space it was copied from (--from owner/name), or set the variable CODEX_SPACE_ORIGIN to it."
    if not found:
        raise WorkspaceError("neither setting nor card says where this copy came from", where=space_id, cure=cure)
    if found == space_id:
        raise WorkspaceError("a Space is no copy of itself", where=space_id, cure=cure)
    return space.find_space(ctx, found)


def _read_origin(card: _Readme) -> str:
    text = "\n".join(card.front.splitlines()[1:-1])
    try:
        return str(parse_yaml(text, README).get("duplicated_from") or "") if text.strip() else ""
    except CodexError:  # a card that the Hub itself could not read names no origin
        return ""


def _read_readme(hub: SpaceFiles, space_id: str, commit: str, files: Mapping[str, RemoteFile]) -> _Readme:
    if README not in files:
        return _Readme("", "")
    text = hub.read_text(space_id, README, commit, "space")
    found = re.match(r"---\r?\n.*?^---[ \t]*(\r?\n|\Z)", text, re.DOTALL | re.MULTILINE)
    front = found[0] if found else ""
    return _Readme(front, text.removeprefix(front))


def _forget_wish(ctx: Context) -> None:
    path = wish_path(ctx.workspace.root)
    wish: Mapping[str, Any] = durable.read_json(path) or {}
    if wish.get("to") == UPDATE:
        path.unlink(missing_ok=True)


def _hub(ctx: Context) -> SpaceFiles:
    settings = ctx.settings
    token = settings.hf_token.reveal() if settings.hf_token else None
    return SpaceFiles(token, endpoint=settings.environ.get("HF_ENDPOINT"))
