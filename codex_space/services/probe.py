"""See how fast a pretraining recipe trains here, by 20 steps that keep nothing, and put that in the place of the estimated time."""

import math
from dataclasses import replace
from typing import Any

from codex_space.core.errors import RecipeError, RunError, TrainingError
from codex_space.core.estimate import NO_TIME, Estimate
from codex_space.core.events import read_events
from codex_space.core.recipe import PretrainRecipe, parse_recipe, render_recipe
from codex_space.services import estimate, preflight
from codex_space.services.context import Context
from codex_space.store import runs
from codex_space.store.runs import ACTIVE

STEPS = 20


def measure(ctx: Context, text: str, overrides: list[str] | None = None) -> Estimate:
    """Return the estimate for this machine with hours and dollars from what was measured.

    Its tokens and tokenizer stay in the workspace for the run itself.

    Raises:
        RecipeError: It pretrains nothing, or not in one process.
        RunError: A run trains here now.
        TrainingError: The steps failed; why is told as a run would tell it.
    """
    recipe = parse_recipe(text, overrides)
    if not isinstance(recipe, PretrainRecipe) or recipe.launch.num_processes > 1:
        what = f"{STEPS} steps are tried of pretraining in one process"
        raise RecipeError(what, where="probe", cure="Take the estimate, or the time left that a run shows.")
    if busy := runs.list_runs(ctx.db, limit=1, states=tuple(sorted(ACTIVE)), place="local"):
        what = "a run trains on this machine, and each would slow the other"
        raise RunError(what, where=busy[0].name, cure="Try again when it has ended.")
    found = estimate.estimate(ctx, render_recipe(recipe))
    with preflight.asked(ctx, render_recipe(recipe), "--check", timed_steps=STEPS) as (job, _):
        told = {event["e"]: event for event in read_events(job.events)[0]}
    if failed := told.get("failed"):
        raise TrainingError(failed["what"], where=failed.get("where", ""), cure=failed.get("cure", ""))
    if "speed" not in told:
        raise TrainingError("the steps ended without an answer", where="probe", cure="Train it and read the run's log.")
    hours = _seconds(recipe, told) / 3600
    speed = told["speed"]
    note = f"the time is measured: {speed['tokens_per_s']:,.0f} tokens a second over {speed['steps']} steps here"
    return replace(
        found,
        hours=round(hours, 3),
        usd=round(hours * ctx.usd_per_hour(), 2),
        tokens=int(told["ready"]["max_steps"] * speed["step_tokens"]),
        notes=[note, *(each for each in found.notes if each != NO_TIME)],
        is_measured=True,
    )


def _seconds(recipe: PretrainRecipe, told: dict[str, dict[str, Any]]) -> float:
    """Return the time of start, steps and evaluations."""
    steps, speed = told["ready"]["max_steps"], told["speed"]
    trains_s = steps * speed["step_tokens"] / speed["tokens_per_s"]
    start_s = told["ready"]["t"] - told["attempt"]["t"]
    return start_s + trains_s + math.ceil(steps / recipe.checkpoints.interval(steps)) * speed["evaluate_s"]
