"""What is spent on machines that are paid for, and the cap on it."""

from collections.abc import Mapping
from dataclasses import dataclass

from codex_space.core.errors import RecipeError
from codex_space.services.context import Context
from codex_space.store import costs


@dataclass(frozen=True)
class Money:
    """What is spent.

    Attributes:
        usd_per_hour: Of the hardware now; 0 on a machine of one's own.
        month_usd: Spent this month: runs, Jobs, and a paid machine without a run.
    """

    usd_per_hour: float
    month: str
    month_usd: float
    months: Mapping[str, float]
    cap_usd: float | None


def read(ctx: Context) -> Money:
    """Return what is spent on this machine and on Jobs."""
    month = costs.month_of(ctx.clock())
    return Money(
        usd_per_hour=ctx.usd_per_hour(),
        month=month,
        month_usd=costs.of_month(ctx.db, month),
        months=costs.months(ctx.db),
        cap_usd=ctx.settings.monthly_cap_usd,
    )


def require_money(ctx: Context) -> None:
    """Refuse a run that the month's cap would stop at once.

    Raises:
        RecipeError: The cap is reached.
    """
    found = read(ctx)
    if found.cap_usd is not None and found.month_usd >= found.cap_usd:
        raise RecipeError(
            f"${found.month_usd:,.2f} are spent this month, and the cap is ${found.cap_usd:,.2f}",
            where="CODEX_SPACE_MONTHLY_CAP_USD",
            cure="Raise it in the Space's settings, or wait for the next month.",
        )
