"""What is spent on machines that are paid for, the cap on it, and who may see it.

Covered: visitors who may only look are shown no amount that this workspace has spent or may spend (`hide`), unless
CODEX_SPACE_VISITORS_SEE_MONEY says so. Not covered: prices of hardware, which the Hub tells everybody.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from codex_space.core.actor import May, acting
from codex_space.core.errors import RecipeError
from codex_space.jobs.ledger import Ledger
from codex_space.services.context import Context
from codex_space.store import costs

CAP_KEY = "launch.max_cost_usd"
_AMOUNT = re.compile(r"\$\d[\d,]*(?:\.\d+)?|(?<=max_cost_usd is )\S*\d|(?<=max_cost_usd: )\S*\d")
_AMOUNTS, _SENTENCES = frozenset({"usd", "money"}), frozenset({"reason", "told"})


@dataclass(frozen=True)
class Money:
    """What is spent.

    Attributes:
        usd_per_hour: Of the hardware now; 0 on a machine of one's own.
        month_usd: Spent this month: runs, Jobs, and a paid machine without a run.
        since_boot_s: How long this container has been up, idle or not.
        since_boot_usd: What it has cost in that time.
    """

    usd_per_hour: float
    month: str
    month_usd: float
    months: Mapping[str, float]
    cap_usd: float | None
    since_boot_s: float
    since_boot_usd: float

    @property
    def left_usd(self) -> float | None:
        """Of the month's cap; None where there is none."""
        return None if self.cap_usd is None else max(0.0, self.cap_usd - self.month_usd)


def read(ctx: Context) -> Money:
    """Return what is spent on this machine and on Jobs."""
    now, usd_per_hour = ctx.clock(), ctx.usd_per_hour()
    month, since_boot_s = costs.month_of(now), max(0.0, now - booted_at())
    return Money(
        usd_per_hour=usd_per_hour,
        month=month,
        month_usd=costs.of_month(ctx.db, month),
        months=costs.months(ctx.db),
        cap_usd=ctx.settings.monthly_cap_usd,
        since_boot_s=since_boot_s,
        since_boot_usd=since_boot_s * usd_per_hour / 3600,
    )


def require_money(ctx: Context) -> None:
    """Refuse a run that the month's cap would stop at once.

    Raises:
        RecipeError: The cap is reached, or it is not known how much of it an earlier container has spent.
    """
    if ctx.settings.monthly_cap_usd is not None:
        _require_known(ctx)
    found = read(ctx)
    if found.cap_usd is not None and found.month_usd >= found.cap_usd:
        raise RecipeError(
            f"${found.month_usd:,.2f} are spent this month, and the cap is ${found.cap_usd:,.2f}",
            where="CODEX_SPACE_MONTHLY_CAP_USD",
            cure="Raise it in the Space's settings, or wait for the next month.",
        )


def _require_known(ctx: Context) -> None:
    ledger = Ledger(ctx.db, ctx.hub, ctx.settings)
    if not ledger.is_read():
        ledger.step(ctx.clock())
    if not ledger.is_read():
        raise RecipeError(
            "what this Space has spent before its disk was lost is not known: the Hub does not say it",
            where="CODEX_SPACE_MONTHLY_CAP_USD",
            cure="Try again in a minute; the log says why.",
        )


@functools.cache
def booted_at() -> float:
    """Return when this container, or this machine, started: its first process did."""
    try:
        return psutil.Process(1).create_time()
    except psutil.Error:  # hidden from us
        return psutil.Process().create_time()


def is_shown(ctx: Context) -> bool:
    """Return whether whoever asks now may see what is spent."""
    return acting.get().may is May.ACT or ctx.settings.visitors_see_money


def hide(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return a JSON value, or a text, without the amounts in it."""
    if isinstance(value, str):
        return _AMOUNT.sub("$***", value)
    if isinstance(value, list):  # numbers of a curve, or objects alike
        return [hide(each) for each in value] if value and isinstance(value[0], dict) else value
    if not isinstance(value, dict):
        return value
    return {name: None if name in _AMOUNTS else _hide_in(name, each) for name, each in value.items()}


def _hide_in(name: str, value: Any) -> Any:  # noqa: ANN401  # as above
    return hide(value) if name in _SENTENCES or not isinstance(value, str) else value
