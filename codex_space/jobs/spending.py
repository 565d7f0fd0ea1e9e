"""Write down what the machine costs while it is on, and stop runs that have reached a cap."""

import logging
from collections.abc import Callable

from codex_space.core.errors import CodexError
from codex_space.core.recipe import parse_recipe
from codex_space.store import costs, runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, Run

LONGEST_GAP_S = 120.0
"""A longer time between two steps was not spent by this process: the machine was off or asleep."""

_log = logging.getLogger(__name__)


class Spending:
    """The owner's accountant."""

    def __init__(self, db: Database, *, usd_per_hour: Callable[[], float], monthly_cap_usd: float | None) -> None:
        """Count nothing yet."""
        self._db, self._usd_per_hour, self._cap_usd = db, usd_per_hour, monthly_cap_usd
        self._at: float | None = None

    def step(self, now: float) -> None:
        """Add the time since the last step to whoever trained in it, then look at the caps."""
        active = runs.list_runs(self._db, limit=1000, states=tuple(ACTIVE))
        self._account([run for run in active if run.place == "local"], now)
        self._enforce(active, now)

    def _account(self, active: list[Run], now: float) -> None:
        seconds = now - self._at if self._at is not None else 0.0
        self._at = now
        price = self._usd_per_hour()
        if price <= 0 or not 0 < seconds <= LONGEST_GAP_S:
            return
        sharing = [run.id for run in active] or [costs.IDLE]
        with self._db.transaction():
            for run_id in sharing:
                part_s = seconds / len(sharing)
                costs.add(self._db, run_id, at=now, seconds=part_s, usd=part_s * price / 3600)

    def _enforce(self, active: list[Run], now: float) -> None:
        waiting = runs.list_runs(self._db, limit=1000, states=("queued",))
        if not active and not waiting:
            return
        if self._cap_usd is not None:
            spent = costs.of_month(self._db, costs.month_of(now))
            if spent >= self._cap_usd:
                reason = f"Saved and stopped: ${spent:,.2f} are spent this month, and the cap is ${self._cap_usd:,.2f}."
                for run in (*active, *waiting):
                    self._stop(run, reason, now)
                return
        spent_by_run = costs.by_run(self._db, tuple(run.id for run in active))
        for run in active:
            cap = _own_cap(run)
            if cap is not None and spent_by_run.get(run.id, 0.0) >= cap:
                reason = (
                    f"Saved and stopped: it has cost ${spent_by_run[run.id]:,.2f}, and launch.max_cost_usd is {cap:g}."
                )
                self._stop(run, reason, now)

    def _stop(self, run: Run, reason: str, now: float) -> None:
        if run.intent:
            return
        _log.warning("%s: %s", run.id, reason)
        runs.add_wish(self._db, run.id, "stop", now, reason)


def _own_cap(run: Run) -> float | None:
    try:
        return parse_recipe(run.recipe).launch.max_cost_usd
    except CodexError as error:  # of another version of this program; the caps of the others hold
        _log.warning("what %s may cost is not known: %s", run.id, error)
        return None
