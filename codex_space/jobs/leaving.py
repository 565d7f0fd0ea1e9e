"""Move the Space to other hardware, or pause it, once nothing would be lost: no run under way, every upload done.

A wish lies in the workspace (`leaving.json`), so that it outlives this process; the settings for an idle Space make one
by themselves. While runs are under way its sleep can be lifted, too. Not covered: what is on this disk only, such as datasets and runs without hub.repo_id, goes with the disk;
`services.leaving.losses` names it to the person who asks.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.settings import Settings
from codex_space.hub.space import SpaceHub
from codex_space.store import checkpoints, runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE

PAUSE = "pause"
UPDATE = "update"
"""Nothing to go to: a person commits the update once all is safe, and the Hub restarts the Space for it."""
FREE = "cpu-basic"
NEVER = -1
"""The Hub's sleep time of a Space that does not sleep."""
RETRY_S = 30.0

_log = logging.getLogger(__name__)


def wish_path(root: Path) -> Path:
    """Return where the wish lies: {to, reason, asked_at, error}."""
    return root / "leaving.json"


def awake_path(root: Path) -> Path:
    """Return where it lies that somebody wants the Space awake while runs are under way: {on}."""
    return root / "awake.json"


def is_leaving(root: Path) -> bool:
    """Return whether the machine is being left: nothing new is to start here."""
    wish = durable.read_json(wish_path(root))
    return wish is not None and not wish.get("error")


def is_kept_awake(root: Path, settings: Settings) -> bool:
    """Return whether the sleep time is lifted while runs are under way: by the setting, or since somebody asked for it."""
    found = durable.read_json(awake_path(root))
    return settings.keep_awake if found is None else bool(found.get("on"))


class Leaving:
    """The owner's last act on a machine."""

    def __init__(self, db: Database, root: Path, settings: Settings, hub: Callable[[], SpaceHub]) -> None:
        """Ask nothing yet."""
        self._db, self._path, self._settings, self._hub = db, wish_path(root), settings, hub
        self._idle_since: float | None = None
        self._next_try_at = self._next_lift_at = 0.0
        self._root, self._lifted = root, root / "sleep_before.json"

    def step(self, now: float) -> None:
        """Leave when it is wished and nothing would be lost; wish it where the Space has been idle for long."""
        if self._settings.space_id is None:
            return
        active = runs.count_runs(self._db, states=tuple(ACTIVE))
        self._keep_awake(active > 0 or self._is_uploading(), now)
        wish = durable.read_json(self._path)
        if wish is None:
            wish = self._wish_when_idle(active, now)
        if (
            wish
            and wish.get("to") != UPDATE
            and not wish.get("error")
            and not active
            and not self._uploads()
            and now >= self._next_try_at
        ):
            self._leave(wish, now)

    def _uploads(self) -> int:
        """Return how many checkpoints are not safe; a failed upload counts, since its files are here only."""
        counts = checkpoints.count_uploads(self._db)
        return counts["queued"] + counts["uploading"] + counts["failed"]

    def _is_uploading(self) -> bool:
        counts = checkpoints.count_uploads(self._db)
        return bool(counts["queued"] + counts["uploading"])

    def _wish_when_idle(self, active: int, now: float) -> dict[str, Any] | None:
        to = {"cpu": FREE, "pause": PAUSE}.get(self._settings.when_idle)
        already_there = to == self._settings.accelerator
        busy = active or runs.count_runs(self._db, states=("queued",)) or self._uploads()
        if to is None or already_there or busy:
            self._idle_since = None
            return None
        self._idle_since = now if self._idle_since is None else self._idle_since
        if now - self._idle_since < self._settings.idle_minutes * 60:
            return None
        reason = f"Nothing was left to do for {self._settings.idle_minutes:g} minutes (CODEX_SPACE_WHEN_IDLE)."
        wish = {"to": to, "reason": reason, "asked_at": now, "error": ""}
        durable.write_json(self._path, wish)
        return wish

    def _leave(self, wish: dict[str, Any], now: float) -> None:
        space_id, to = self._settings.space_id or "", str(wish["to"])
        _log.warning("leaving for %s: %s", to, wish.get("reason"))
        try:
            if to == PAUSE:
                self._hub().pause_space(space_id)
            else:
                self._hub().request_hardware(space_id, to)
        except HubBusyError as error:
            _log.info("%s", error)
            self._next_try_at = now + RETRY_S
            return
        except CodexError as error:
            durable.write_json(self._path, {**wish, "error": str(error)})
            return
        self._path.unlink(missing_ok=True)

    def _keep_awake(self, is_busy: bool, now: float) -> None:
        """Lift the sleep time while something would be lost by sleeping, since training is no visitor, then set it back.

        What it was lies in the workspace, so that a page that was killed meanwhile still sets it back.
        """
        if self._settings.accelerator == FREE or now < self._next_lift_at:  # the free machine's cannot be set
            return
        before = durable.read_json(self._lifted)
        is_wanted = is_busy and is_kept_awake(self._root, self._settings)
        if is_wanted == (before is not None):
            return
        try:
            if before is None:
                self._lift()
            else:
                self._set_back(before.get("sleep_time_s"))
        except CodexError as error:
            _log.warning("the sleep time stays as it is: %s", error)
            self._next_lift_at = now + RETRY_S

    def _lift(self) -> None:
        hub, space_id = self._hub(), self._settings.space_id or ""
        before_s = hub.space_runtime(space_id).sleep_time_s
        durable.write_json(self._lifted, {"sleep_time_s": before_s})  # first: an end in between costs nothing
        if before_s is not None and before_s != NEVER:
            hub.set_sleep_time(space_id, NEVER)

    def _set_back(self, before_s: int | None) -> None:
        hub, space_id = self._hub(), self._settings.space_id or ""
        is_ours = isinstance(before_s, int) and before_s != NEVER
        # somebody may have set another one meanwhile
        if is_ours and hub.space_runtime(space_id).sleep_time_s in {None, NEVER}:
            hub.set_sleep_time(space_id, before_s)
        self._lifted.unlink(missing_ok=True)
