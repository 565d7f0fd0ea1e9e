"""The note in the Hub by which an empty machine finds runs that another one left unfinished: `OWNER/codex-space-runs`.

A private dataset with one file a run, under `unfinished/` until the run ends and under `ended/` from then on, so that a
machine that knows nothing but its token finds all it needs with one listing of a repository whose name it knows. A list
of the author's repositories would not do: it comes from the Hub's search index, late, and a note in the target
repository would race with its checkpoints and use up their commits an hour. Every change names the commit it builds on,
so of two machines that take up the same run one is refused (412) and reads again.

Covered: a public repository of that name is never written to; notes that are no notes, are too large, or speak of
another account's repository are passed over. Not covered: whoever may write to the account's repositories may change
a note; the run is then fetched from the repository it names, which he may change as well.
"""

import gzip
import json
import logging
import math
import re
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codex_space.core.errors import CodexError, HubBusyError, HubError, HubNotFoundError
from codex_space.hub.client import Hub
from codex_space.hub.records import Change

NAME = "codex-space-runs"
MAX_ENTRIES = 500
MAX_ENTRY_BYTES = 200_000
MAX_EVENTS_BYTES = 20_000_000
"""Compressed; a longer history stays on the machine, and only the run's curves from before are lost with it."""
MAX_PLAIN_BYTES = 100_000_000
STALE_BEATS = 3
"""Somebody who has not been heard of for so many heartbeats is taken to be gone."""

_UNFINISHED = re.compile(r"unfinished/(\d{8}-\d{6}-[a-z]+-[a-z0-9]{4})\.json")
_REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The machine that trains a run.

    Attributes:
        name: The Space's id, or what else the machine is called; several workspaces may share it.
        workspace: Random, made with the workspace; gone with its disk.
        is_space: A Space has one container: where a second one starts, the first is at its end.
        at: When it was last heard of, by its own clock, in seconds since the epoch.
        beat_s: How often it says so.
        is_released: It has let go of the run: anybody may take it up.
    """

    name: str
    workspace: str
    is_space: bool = False
    at: float = 0.0
    beat_s: float = 300.0
    is_released: bool = False

    def is_live(self, now: float) -> bool:
        """Say whether it holds what it held, as far as can be known from its silence."""
        return not self.is_released and now - self.at < STALE_BEATS * self.beat_s

    def keeps_from(self, other: "Holder", now: float) -> bool:
        """Say whether `other` must leave this holder's runs alone."""
        if self.workspace == other.workspace:
            return False
        is_same_space = self.is_space and other.is_space and self.name == other.name
        return self.is_live(now) and not is_same_space


@dataclass(frozen=True)
class Entry:
    """What an empty machine needs to know of a run.

    Attributes:
        step: Of the newest checkpoint that is proven to be on the Hub; 0 before the first.
        num_threads: An exact resume needs the same number.
        attempt: How often its worker was started.
        rises: [step, times]: how often it was taken up by itself at that step without getting further.
    """

    run_id: str
    name: str
    kind: str
    repo_id: str
    state: str
    step: int
    keep_rows: bool
    recipe: str
    holder: Holder
    queued_at: float
    num_threads: int | None = None
    attempt: int = 0
    rises: tuple[int, int] = (0, 0)


@dataclass
class Snapshot:
    """The notes of one account at one commit; `paths` are all files there."""

    head: str
    entries: dict[str, Entry] = field(default_factory=dict)
    paths: frozenset[str] = frozenset()


class Registry:
    """The notes in one account's name."""

    def __init__(self, hub: Hub, owner: str) -> None:
        """Ask nothing yet."""
        self._hub, self.owner, self.repo_id = hub, owner, f"{owner}/{NAME}"
        self._known: dict[str, tuple[str, Entry | None]] = {}  # path -> the file's hash and what it says

    def make(self) -> None:
        """Make the dataset where it is missing, and see that it is private.

        Raises:
            HubError: It is public; or as the Hub refuses.
        """
        try:
            private = self._hub.is_private(self.repo_id, "dataset")
        except HubNotFoundError:
            self._hub.make_repo(self.repo_id, private=True, repo_type="dataset")
            private = self._hub.is_private(self.repo_id, "dataset")
        if not private:
            cure = "Make it private in its settings: a recipe may say what is nobody else's business."
            raise HubError("this dataset is public, so no runs are noted in it", where=self.repo_id, cure=cure)

    def read(self) -> Snapshot:
        """Return the unfinished runs.

        Raises:
            HubNotFoundError: Nothing was ever noted here.
            HubBusyError: Worth another try.
        """
        head = self._hub.head(self.repo_id, "dataset")
        tree = self._hub.tree(self.repo_id, head, "dataset")
        found = sorted((path for path in tree if _UNFINISHED.fullmatch(path)), reverse=True)[:MAX_ENTRIES]
        self._known = {path: self._known[path] for path in found if path in self._known}
        for path in found:
            if self._known.get(path, ("",))[0] != tree[path].git_sha1:
                text = self._text(path, head) if tree[path].size <= MAX_ENTRY_BYTES else ""
                self._known[path] = (tree[path].git_sha1, parse_entry(text, self.owner))
        entries = {entry.run_id: entry for path in found if (entry := self._named(path))}
        return Snapshot(head, entries, frozenset(tree))

    def write(
        self,
        seen: Snapshot,
        entries: Iterable[Entry] = (),
        ended: Iterable[Entry] = (),
        events: Mapping[str, bytes] | None = None,
    ) -> str:
        """Note runs as they are now, on top of what was seen; return the commit.

        Args:
            seen: What `read` returned.
            entries: Unfinished runs.
            ended: Runs to be looked for no more.
            events: Run id -> its compressed events.

        Raises:
            HubBusyError: Also where another machine wrote meanwhile: read again.
            HubError: As the Hub refuses.
        """
        files: dict[str, Path | bytes] = {}
        deleted: list[str] = []
        for folder, other, rows in (("unfinished", "ended", entries), ("ended", "unfinished", ended)):
            for entry in rows:
                files[f"{folder}/{entry.run_id}.json"] = json.dumps(asdict(entry), indent=1).encode()
                old = f"{other}/{entry.run_id}.json"
                deleted += [old] if old in seen.paths else []
        files |= {_events_path(run_id): content for run_id, content in (events or {}).items()}
        names = sorted({Path(path).name.partition(".")[0] for path in files})
        message = f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}"
        return self._hub.commit(self.repo_id, Change(message, seen.head, files, deleted), "dataset")

    def fetch_events(self, run_id: str, into: Path) -> bool:
        """Write the events that were kept of a run; False where there are none to be read."""
        try:
            head = self._hub.head(self.repo_id, "dataset")
            file = self._hub.tree(self.repo_id, head, "dataset").get(_events_path(run_id))
            if file is None or file.size > MAX_EVENTS_BYTES:
                return False
            with tempfile.TemporaryDirectory(prefix="codex-space-") as folder:
                path = self._hub.download(self.repo_id, _events_path(run_id), head, Path(folder), "dataset")
                content = _unpack(path.read_bytes())
        except HubBusyError:
            raise
        except (CodexError, OSError, EOFError, zlib.error) as error:
            _log.warning("the events of %s cannot be read: %s", run_id, error)
            return False
        into.write_bytes(content)
        return True

    def _named(self, path: str) -> Entry | None:
        entry = self._known[path][1]
        return entry if entry and path == f"unfinished/{entry.run_id}.json" else None

    def _text(self, path: str, head: str) -> str:
        with tempfile.TemporaryDirectory(prefix="codex-space-") as folder:
            data = self._hub.download(self.repo_id, path, head, Path(folder), "dataset").read_bytes()
        return data.decode("utf-8", "replace")


def parse_entry(text: str, owner: str) -> Entry | None:
    """Return what a note says, None where it is none or speaks of a repository that is not the account's."""
    try:
        value: dict[str, Any] = json.loads(text)
        holder = value["holder"]
        entry = Entry(
            run_id=str(value["run_id"]),
            name=str(value["name"])[:80],
            kind=str(value["kind"])[:20],
            repo_id=str(value["repo_id"]),
            state=str(value["state"])[:20],
            step=int(value["step"]),
            keep_rows=value["keep_rows"] is True,
            recipe=str(value["recipe"]),
            holder=Holder(
                name=str(holder["name"])[:200],
                workspace=str(holder["workspace"])[:80],
                is_space=holder["is_space"] is True,
                at=float(holder["at"]),
                beat_s=min(3600.0, max(0.1, float(holder["beat_s"]))),
                is_released=holder["is_released"] is True,
            ),
            queued_at=float(value["queued_at"]),
            num_threads=int(value["num_threads"]) if value.get("num_threads") else None,
            attempt=int(value.get("attempt", 0)),
            rises=(int(value["rises"][0]), int(value["rises"][1])),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
    numbers = (entry.step, entry.queued_at, entry.holder.at, entry.attempt, *entry.rises)
    sane = all(math.isfinite(number) and 0 <= number < 1 << 53 for number in numbers)
    threads_are_sane = entry.num_threads is None or 0 < entry.num_threads <= 1024
    is_ours = bool(_REPO_ID.fullmatch(entry.repo_id)) and entry.repo_id.split("/")[0] == owner
    return entry if sane and threads_are_sane and is_ours else None


def pack_events(path: Path) -> bytes | None:
    """Return a run's events compressed, None where there are none or they are too long to be kept."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_PLAIN_BYTES:
        return None
    packed = gzip.compress(path.read_bytes(), 6, mtime=0)
    return packed if len(packed) <= MAX_EVENTS_BYTES else None


def _unpack(content: bytes) -> bytes:
    engine = zlib.decompressobj(wbits=31)
    plain = engine.decompress(content, MAX_PLAIN_BYTES)
    if not engine.eof:
        raise zlib.error("it is cut off, or larger than events are")
    return plain


def _events_path(run_id: str) -> str:
    return f"events/{run_id}.jsonl.gz"
