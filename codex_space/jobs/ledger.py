"""Keep what this Space has spent in the Hub as well, so that a cap holds where a new container starts with an empty disk.

One file a Space beside the notes of unfinished runs (hub/registry.py), with a part for each database that ever counted: a
new one leaves the parts of others as they are, and counts them too. Not covered: what was spent after the last word, which
is a heartbeat at most while runs train and an hour while none does; what Jobs cost after this machine was lost, where no
Space came back; and those who may write to the account's private dataset.
"""

import json
import logging
import math
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from codex_space.core.errors import CodexError, HubBusyError, HubError
from codex_space.core.settings import Settings
from codex_space.hub.client import Hub
from codex_space.hub.records import Change
from codex_space.hub.registry import Registry
from codex_space.store import costs, facts, runs
from codex_space.store.costs import Sums
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE

ID, READ = "ledger", "ledger_read"
"""Facts: the name of this database's part, and that the others' were read, or never can be."""
MAX_RUN_ID_CHARS = 80
IDLE_EVERY_S, BUSY_WAIT_S, REFUSED_WAIT_S = 3600.0, 30.0, 600.0
_MONTH = re.compile(r"\d{4}-\d{2}")

_log = logging.getLogger(__name__)


class Ledger:
    """The owner's second set of books."""

    def __init__(self, db: Database, hub_factory: Callable[[], Hub], settings: Settings) -> None:
        """Ask nothing yet."""
        self._db, self._hub_factory, self._settings = db, hub_factory, settings
        self._told: Sums | None = None
        self._told_at = self._next_at = 0.0
        self._was_active = False

    @property
    def is_kept(self) -> bool:
        """Whether there is something to keep and somewhere to keep it: a Space with a token."""
        return self._settings.space_id is not None and self._settings.hf_token is not None

    def is_read(self) -> bool:
        """Whether all is known here that was spent before this database was made."""
        return not self.is_kept or facts.read(self._db, READ) is not None

    def step(self, now: float) -> None:
        """Read what others have counted, once, then tell what is new here."""
        if not self.is_kept or now < self._next_at:
            return
        is_active = runs.count_runs(self._db, states=tuple(ACTIVE)) > 0
        if not self._is_due(is_active, now):
            return
        try:
            self._exchange()
        except HubBusyError as error:
            self._next_at = now + BUSY_WAIT_S
            _log.info("what is spent is told to the Hub later: %s", error)
        except _DamagedError as error:
            self._next_at = now + REFUSED_WAIT_S
            _log.warning("%s", error)
        except CodexError as error:
            self._next_at = now + REFUSED_WAIT_S
            facts.keep(self._db, READ, "never")
            _log.warning("what is spent is known on this disk alone: %s", error)
        else:
            self._told_at, self._was_active = now, is_active

    def _is_due(self, is_active: bool, now: float) -> bool:
        if self._told is None:
            return True
        every_s = self._settings.heartbeat_s if is_active else IDLE_EVERY_S
        has_changed = is_active != self._was_active or now - self._told_at >= every_s
        return has_changed and costs.own(self._db) != self._told

    def _exchange(self) -> None:
        hub, path = self._hub_factory(), f"spent/{str(self._settings.space_id).replace('/', '--')}.json"
        registry = Registry(hub, self._owner(hub))
        registry.make()
        head = hub.head(registry.repo_id, "dataset")
        there = path in hub.tree(registry.repo_id, head, "dataset")
        parts = _read(hub, registry.repo_id, path, head) if there else {}
        mine = facts.keep(self._db, ID, secrets.token_hex(8))
        for name, sums in parts.items():
            if name != mine:
                costs.count_earlier(self._db, name, sums)
            elif self._told is None:  # this database was brought back from a copy that is older than its own word
                costs.catch_up(self._db, sums)
        facts.keep(self._db, READ, "yes")
        sums = costs.own(self._db)
        if parts.get(mine, {}) != sums:
            content = render({**parts, mine: sums}).encode()
            hub.commit(registry.repo_id, Change("spent", head, {path: content}), "dataset")
        self._told = sums

    def _owner(self, hub: Hub) -> str:
        """Return the Space's owner where this token may write there, else its own account: a new container has the same."""
        account, owner = hub.whoami(), self._settings.space_owner
        return owner if owner in {account.name, *account.writes_in} else account.name


class _DamagedError(HubError):
    """What was spent before is written down, and cannot be read."""


def _read(hub: Hub, repo_id: str, path: str, head: str) -> dict[str, Sums]:
    try:
        text = hub.read_text(repo_id, path, head, "dataset")
    except HubBusyError:
        raise
    except HubError as error:  # no text, or too large for one
        raise _damaged(repo_id) from error
    return parse(text, repo_id)


def _damaged(where: str) -> _DamagedError:
    cure = "Delete the file under spent/ there, if what it says is not needed."
    return _DamagedError("what this Space has spent cannot be read there", where=where, cure=cure)


def render(parts: Mapping[str, Sums]) -> str:
    """Return the file's text."""
    told = {name: [[*key, *value] for key, value in sorted(sums.items())] for name, sums in sorted(parts.items())}
    return json.dumps({"schema": 1, "parts": told}, indent=0)


def parse(text: str, where: str) -> dict[str, Sums]:
    """Read it with care: it comes from the Hub.

    Raises:
        HubError: It is damaged; taken for nothing, it would let a cap be passed.
    """
    try:
        parts: dict[str, Any] = json.loads(text)["parts"]
        json.dumps(parts, ensure_ascii=False).encode()  # half characters, which the database would not take
        return {str(name): dict(map(_row, rows)) for name, rows in parts.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(where) from error


def _row(row: Any) -> tuple[tuple[str, str], tuple[float, float]]:  # noqa: ANN401  # any JSON value
    run_id, month, seconds, usd = row
    sums = float(seconds), float(usd)
    if (
        not _MONTH.fullmatch(month)
        or len(run_id) > MAX_RUN_ID_CHARS
        or not all(math.isfinite(n) and n >= 0 for n in sums)
    ):
        raise ValueError(row)
    return (run_id, month), sums
