"""What a run will probably take where it is going to train, in hours and dollars, and what to say of that before it starts.

Covered: the machine's price, launch.max_cost_usd, what is left of the month's cap, and a Space that would sleep before the
end. A prediction is a guess: only a run whose low end is over its own launch.max_cost_usd is refused.
"""

import math
from dataclasses import dataclass

from codex_space.core.errors import CodexError, RecipeError
from codex_space.core.estimate import Estimate
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.services import estimate, leaving, money, space
from codex_space.services.checks import Check
from codex_space.services.context import Context
from codex_space.services.prices import price_of

HUB_WAIT_S = 5.0
"""For the Space's sleep time; a Hub that does not answer blocks nothing."""
SPREAD = 0.25
"""A prediction is usually off by no more than this share, up or down (`core.estimate.Estimate.hours`)."""


@dataclass(frozen=True)
class Forecast:
    """What is going to be trained, and what that takes.

    Attributes:
        hours: Likely, of the first run; None where it is not known.
        usd_per_hour: 0 on a machine of one's own.
        num_runs: More than one for a sweep.
        is_here: Whether it trains on this machine.
        max_cost_usd: The run's own limit.
    """

    hours: float | None
    usd_per_hour: float
    num_runs: int
    is_here: bool
    machine: str
    max_cost_usd: float | None = None

    @property
    def usd(self) -> float | None:
        """Likely, of one run; None where it is not known or costs nothing."""
        return None if self.hours is None or not self.usd_per_hour else self.hours * self.usd_per_hour

    @property
    def low_usd(self) -> float:
        """The least that is likely, of one run."""
        return (self.usd or 0.0) * (1 - SPREAD)

    @property
    def high_hours(self) -> float | None:
        """The most that is likely, of one run."""
        return None if self.hours is None else self.hours * (1 + SPREAD)

    @property
    def total_usd(self) -> float | None:
        """Likely, of all runs."""
        return None if self.usd is None else self.usd * self.num_runs


def predict(ctx: Context, texts: list[str]) -> Forecast:
    """Return what the runs of these recipes, those of a sweep or one, take where their `launch` section puts them.

    Raises:
        RecipeError: The recipe is wrong.
    """
    launch = parse_recipe(texts[0]).launch
    hardware = estimate.THIS_MACHINE if launch.where == "local" else launch.flavor
    try:
        found = estimate.estimate(ctx, texts[0], hardware=hardware)
    except CodexError:  # a kind that trains no model, or sizes that nobody knows
        found = None
    return weigh(ctx, texts, found)


def weigh(ctx: Context, texts: list[str], found: Estimate | None) -> Forecast:
    """Return the same from an estimate of the first recipe on the machine it goes to; all are taken to be like the first.

    Raises:
        RecipeError: The recipe is wrong.
    """
    launch = parse_recipe(texts[0]).launch
    is_here, hours = launch.where == "local", found.hours if found else None
    if hours is not None and not is_here:
        hours = min(hours, launch.timeout_s / 3600)  # a Job is ended then
    return Forecast(
        hours=hours,
        usd_per_hour=ctx.usd_per_hour() if is_here else price_of(ctx.workspace, launch.flavor),
        num_runs=len(texts),
        is_here=is_here,
        machine=(ctx.settings.accelerator or "this machine") if is_here else launch.flavor,
        max_cost_usd=launch.max_cost_usd,
    )


def warnings(ctx: Context, forecast: Forecast, *, wait_s: float = HUB_WAIT_S) -> list[Check]:
    """Return what should be known before the start; the Hub is asked for the Space's sleep time, and waited for so long."""
    lines = (_own_cap(forecast), _month_cap(ctx, forecast), _sleep(ctx, forecast, wait_s))
    return [line for line in lines if line is not None]


def describe_cost(forecast: Forecast) -> Check | None:
    """Return a line that says what it costs, None where it costs nothing or is not known."""
    if forecast.usd is None or forecast.total_usd is None:
        return None
    runs = f", {forecast.num_runs} runs together" if forecast.num_runs > 1 else ""
    low, high = (dollars(forecast.total_usd * share) for share in (1 - SPREAD, 1 + SPREAD))
    price = f"{forecast.machine} at ${forecast.usd_per_hour:.2f} an hour"
    return Check(True, "Cost", f"about {dollars(forecast.total_usd)} ({low} to {high}) on {price}{runs}")


def require_affordable(ctx: Context, recipe: BaseRecipe) -> None:
    """Refuse a run that its own launch.max_cost_usd would stop before its end, even if all goes well.

    Raises:
        RecipeError: The low end of the prediction is above it.
    """
    if recipe.launch.max_cost_usd is None:
        return
    line = _own_cap(predict(ctx, [render_recipe(recipe)]))
    if line is not None and line.ok is False:
        raise RecipeError(line.detail, where="launch.max_cost_usd", cure=line.cure)


def dollars(usd: float) -> str:
    """Return an amount as people write it; less than a cent is said so."""
    return "under $0.01" if usd < 0.01 else f"${usd:,.2f}"


def _own_cap(forecast: Forecast) -> Check | None:
    cap, usd = forecast.max_cost_usd, forecast.usd
    if cap is None or usd is None or usd <= cap:
        return None
    enough = math.ceil(usd * (1 + SPREAD) * 100) / 100
    if forecast.low_usd > cap:
        what = f"about {dollars(usd)}, {dollars(forecast.low_usd)} at the least, and launch.max_cost_usd allows {dollars(cap)}"
        return Check(False, "Cost", what, f"Raise launch.max_cost_usd to {enough:.2f}, or train less.")
    what = f"about {dollars(usd)}, and at {dollars(cap)} (launch.max_cost_usd) it is saved and stopped before its end"
    return Check(None, "Cost", what, f"Raise it to {enough:.2f}, or train less.")


def _month_cap(ctx: Context, forecast: Forecast) -> Check | None:
    usd, left_usd = forecast.total_usd, money.read(ctx).left_usd
    if usd is None or left_usd is None or usd <= left_usd:
        return None
    what = f"about {dollars(usd)}, and {dollars(left_usd)} are left of this month's cap: it is saved and stopped there"
    return Check(None, "Month", what, "Raise CODEX_SPACE_MONTHLY_CAP_USD, or train less.")


def _sleep(ctx: Context, forecast: Forecast, wait_s: float) -> Check | None:
    if not forecast.is_here or leaving.is_kept_awake(ctx):
        return None
    found = space.sleep_after_s(ctx, wait_s=wait_s)
    if found is None:
        return None
    hours = forecast.high_hours
    if hours is not None and hours * 3600 <= found:
        return None
    long = "how long the run takes is not known" if hours is None else f"the run may take {describe_time(hours * 3600)}"
    what = f"this Space sleeps {describe_time(found)} after the last request, and {long}: asleep, it trains nothing"
    if ctx.settings.accelerator == space.FREE:
        return Check(None, "Sleep", what, "Leave this page open in a browser, or train as a Job (launch.where).")
    cure = (
        "Keep it awake while runs train (codex-space space awake on), or let it sleep later (codex-space space sleep)."
    )
    return Check(None, "Sleep", what, cure)


def describe_time(seconds: float) -> str:
    """Return a time in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours".replace(".0 ", " ")
