"""What comes after a run that has succeeded: its export is queued once, whatever happens in between, and told of.

Covered: an owner that dies between the run's end and the queuing, or between the queuing and the note of it (the export's
request key is the run's id, so the same one is found again); a run that was stopped or failed and succeeds later; a
database made again from the folders (the note lies in the run's own); an export that a person has deleted since.
"""

import functools
import logging
from typing import Any

from codex_space.core import durable
from codex_space.core.actor import Actor, May, acting
from codex_space.core.errors import CodexError, HubBusyError, RunError
from codex_space.core.export_tools import find_converter
from codex_space.core.recipe import parse_recipe, render_recipe, validate
from codex_space.core.sections import ExportSection
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.grade.library import PASS_RATE
from codex_space.services import export_plan, runs
from codex_space.services.context import Context
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import evaluations as evaluation_rows
from codex_space.store import runs as run_rows
from codex_space.store.runs import FINAL, Run

BUSY_WAIT_S = 30.0
NO_TOOLS = "llama.cpp is not set up on this machine yet; `make export-tools` does it."
NO_CHECKPOINT = "none of its checkpoints is left on this machine"
PENDING = frozenset({"waiting", "queued", "preflight", "running", "stopping"})
"""States, as `read` tells them, in which something is still to come of a run that has succeeded."""

_PROGRAM = Actor("this program", May.ACT)
_log = logging.getLogger(__name__)


class After:
    """The part of the owner that queues what is to follow."""

    def __init__(self, ctx: Context) -> None:
        """Queue nothing yet."""
        self._ctx = ctx
        self._settled: set[str] = set()
        self._not_before: dict[str, float] = {}

    def step(self, now: float) -> None:
        """Queue the export of each run that has succeeded, wants one, and has none yet."""
        token = acting.set(_PROGRAM)
        try:
            self._step(now)
        finally:
            acting.reset(token)

    def _step(self, now: float) -> None:
        for run in run_rows.list_succeeded(self._ctx.db, holding="after:"):
            if run.id in self._settled or now < self._not_before.get(run.id, 0.0):
                continue
            wanted = _planned(run.recipe)
            if wanted is None or self._follow(run, wanted, now):
                self._settled.add(run.id)

    def _follow(self, run: Run, wanted: ExportSection, now: float) -> bool:
        """Queue it; say whether that is settled, one way or the other."""
        ctx, note = self._ctx, self._ctx.workspace.job(run.id).after
        known = durable.read_json(note) or {}
        if known.get("run") or known.get("error"):
            return True
        if any(row.state == "waiting" for row in evaluation_rows.of_writer(ctx.db, run.id)):
            return False  # which checkpoint is best may hang on these
        if find_converter() is None:
            if known.get("waiting") != NO_TOOLS:
                durable.write_json(note, {"waiting": NO_TOOLS})
            return False
        try:
            queued = runs.submit(ctx, _recipe_text(ctx, run, wanted), request_key=f"after-{run.id}-export")
        except HubBusyError as error:
            self._not_before[run.id] = now + BUSY_WAIT_S
            durable.write_json(note, {"waiting": str(error)})
            return False
        except CodexError as error:
            _log.warning("the export after %s is not queued: %s", run.id, error)
            durable.write_json(note, {"error": str(error)})
        else:
            durable.write_json(note, {"run": queued.id})
        return True


def read(ctx: Context, run: Run) -> list[dict[str, Any]]:
    """Return {verb, types, checkpoint, state, run, reason} of what comes after a run, nothing where nothing does.

    `state` is planned, waiting or failed (it was never queued), deleted, or the state of the export `run`.
    """
    wanted = _planned(run.recipe)
    if wanted is None:
        return []
    told = {"verb": "export", "types": list(wanted.gguf), "checkpoint": wanted.checkpoint, "run": "", "reason": ""}
    if run.state != "succeeded":
        reason = "It comes once the run has succeeded." if run.state in FINAL else ""
        return [{**told, "state": "planned", "reason": reason}]
    note = durable.read_json(ctx.workspace.job(run.id).after) or {}
    if note.get("error"):
        return [{**told, "state": "failed", "reason": str(note["error"])}]
    if not note.get("run"):
        return [{**told, "state": "waiting", "reason": str(note.get("waiting") or "")}]
    found = run_rows.list_runs(ctx.db, ids=(str(note["run"]),))
    if not found:
        return [{**told, "state": "deleted"}]
    return [{**told, "state": found[0].state, "run": found[0].id, "reason": found[0].reason}]


def choose_step(ctx: Context, run: Run, recipe: TrainingRecipe, which: str) -> int | None:
    """Return the step of the best or the last checkpoint on this machine, None where there is none.

    Where nothing is known of the metric that says which is best, it is the last.
    """
    steps = ctx.workspace.job(run.id).checkpoint_steps()
    if not steps or which == "last":
        return steps[-1] if steps else None
    metric, sign = recipe.checkpoints.metric, -1 if recipe.checkpoints.higher_is_better else 1
    values = _pass_rates(ctx, run, metric) if metric.startswith(PASS_RATE) else _logged(ctx, run, metric)
    ranked = sorted((sign * values[step], step) for step in steps if step in values)
    return ranked[0][1] if ranked else steps[-1]


def _logged(ctx: Context, run: Run, metric: str) -> dict[int, float]:
    rows = checkpoint_rows.list_checkpoints(ctx.db, run.id)
    values = ((row.step, row.metrics.get(metric)) for row in rows)
    return {step: float(value) for step, value in values if isinstance(value, int | float)}


def _pass_rates(ctx: Context, run: Run, metric: str) -> dict[int, float]:
    return {
        row.step: float(score["value"])
        for row in evaluation_rows.of_writer(ctx.db, run.id)
        for score in row.scores
        if PASS_RATE + str(score["name"]) == metric
    }


def _recipe_text(ctx: Context, run: Run, wanted: ExportSection) -> str:
    recipe = parse_recipe(run.recipe)
    assert isinstance(recipe, TrainingRecipe)  # noqa: S101  # `_planned` has seen it
    step = choose_step(ctx, run, recipe, wanted.checkpoint)
    if step is None:
        raise RunError(NO_CHECKPOINT, cure="Train it again, then export it.")
    values: dict[str, Any] = wanted.model_dump(exclude={"checkpoint", "push"}, exclude_defaults=True)
    if wanted.push and recipe.hub:
        values["hub"] = export_plan.repository(recipe.hub).model_dump(exclude_defaults=True)
    model = {"model_name_or_path": f"run:{run.id}@step-{step}"}
    return render_recipe(validate({"kind": "export", "model": model, **values}))


@functools.lru_cache(maxsize=256)
def _planned(text: str) -> ExportSection | None:
    """Return the export that a recipe's text asks for."""
    if "after:" not in text:
        return None
    try:
        recipe = parse_recipe(text)
    except CodexError:  # of another version of this program
        return None
    return recipe.export_after if isinstance(recipe, TrainingRecipe) else None
