"""What became of a run, or of several beside each other, as one JSON-able mapping."""

from collections.abc import Sequence
from typing import Any

from codex_space.core.errors import RunError
from codex_space.core.events import iter_events, read_events
from codex_space.core.sweep import MAX_RUNS
from codex_space.services import after, alerts, runs
from codex_space.services.context import Context
from codex_space.store import evaluations, metrics
from codex_space.store.runs import Run

HEAD_BYTES = 1 << 16
"""What a run says before its first step fits into this much."""
MOST_GIB = 1 << 20


def summarize(ctx: Context, run_id: str) -> dict[str, Any]:
    """Return {run, name, status, reason, steps, rows_trained, first_loss, final_loss, eval_loss, checkpoints, evaluations, ...}.

    `eval_loss` is the lowest there was.
    """
    run = runs.show(ctx, run_id)
    job = ctx.workspace.job(run.id)
    losses, held_out = _losses(ctx, run)
    return {
        "run": run.id,
        "name": run.name,
        "status": run.state,
        "reason": run.reason,
        "steps": run.step,
        "rows_trained": _rows(ctx, run.id),
        "first_loss": losses[0] if losses else None,
        "final_loss": losses[-1] if losses else None,
        "eval_loss": min(held_out, default=None),
        "checkpoints": [
            {
                "step": row.step,
                "path": str(job.checkpoint(row.step)) if job.checkpoint(row.step).is_dir() else None,
                "hub": row.upload,
            }
            for row in runs.checkpoints(ctx, run.id)
        ],
        "evaluations": [
            {
                "step": row.step,
                "benchmark": row.benchmark,
                "state": row.state,
                "reason": row.reason,
                "scores": row.scores,
                "protocol": row.protocol,
            }
            for row in evaluations.of_writer(ctx.db, run.id)
        ],
        "after": after.read(ctx, run),
        **health(ctx, run),
        "seconds": _seconds(ctx, run),
    }


def compare(ctx: Context, run_ids: Sequence[str]) -> dict[str, Any]:
    """Return {keys, by, rows}: in which recipe keys runs differ, what each has there, and how each ended.

    `by` is what all of them have of eval_loss, else final_loss; the row with the lowest is marked `best`.

    Raises:
        RunError: There are fewer than two, more than a sweep holds, or one of them is not there.
    """
    ids = list(dict.fromkeys(run_ids))
    if not 2 <= len(ids) <= MAX_RUNS:
        raise RunError(f"{len(ids)} runs cannot be compared", cure=f"Name two or more, {MAX_RUNS} at most.")
    changed = [row for row in runs.differences(ctx, *ids) if row[0] != "name"]
    rows: list[dict[str, Any]] = []
    for number, run_id in enumerate(ids):
        run = runs.show(ctx, run_id)
        losses, held_out = _losses(ctx, run)
        asked = evaluations.list_evaluations(ctx.db, target_run=run.id, state="done")
        rates = [row.scores[0]["value"] for row in asked if row.scores and not row.scores[0].get("unit")]
        rows.append(
            {
                "run": run.id,
                "name": run.name,
                "status": run.state,
                "values": [row[number + 1] for row in changed],
                "final_loss": losses[-1] if losses else None,
                "eval_loss": min(held_out, default=None),
                "pass_rate": max(rates, default=None),
                "seconds": _seconds(ctx, run),
            }
        )
    by = "eval_loss" if all(row["eval_loss"] is not None for row in rows) else "final_loss"
    lowest = min((row[by] for row in rows if row[by] is not None), default=None)
    for row in rows:
        row["best"] = lowest is not None and row[by] == lowest
    return {"keys": [row[0] for row in changed], "by": by, "rows": rows}


def health(ctx: Context, run: Run) -> dict[str, Any]:
    """Return {alerts, score, score_formula} as the curves are now, and what was measured before the first step."""
    curves = {name: metrics.read_curve(ctx.db, run.id, name, max_points=400) for name in alerts.METRICS}
    found = alerts.find(curves, max_steps=run.max_steps)
    score = alerts.score(curves, max_steps=run.max_steps)
    return {
        "alerts": alerts.as_dicts(found),
        "score": score,
        "score_formula": alerts.SCORE,
        "probe": _probed(ctx, run.id),
    }


def _probed(ctx: Context, run_id: str) -> dict[str, float | None] | None:
    """Return {peak_gib, estimated_gib} of the step on the longest rows that was tried first, None where none was."""
    events, _ = read_events(ctx.workspace.job(run_id).events, limit_bytes=HEAD_BYTES)
    found = [event for event in events if event["e"] == "probe" and _gib(event.get("peak_gib")) is not None]
    if not found:
        return None
    return {name: _gib(found[-1].get(name)) for name in ("peak_gib", "estimated_gib")}


def _gib(value: Any) -> float | None:  # noqa: ANN401  # any JSON value
    """Return a number that JSON knows: a worker wrote it, and a page that cannot read one answer shows nothing more."""
    return float(value) if isinstance(value, int | float) and 0 <= value < MOST_GIB else None


def _losses(ctx: Context, run: Run) -> tuple[Sequence[float], Sequence[float]]:
    """Return the training losses and those on the rows held out, thinned."""
    loss, held_out = (metrics.read_curve(ctx.db, run.id, name, max_points=4000) for name in ("loss", "eval_loss"))
    return loss.values, held_out.values


def _seconds(ctx: Context, run: Run) -> float:
    return round((run.ended_at or ctx.clock()) - (run.started_at or run.created_at), 1)


def _rows(ctx: Context, run_id: str) -> int | None:
    """Return the number of training rows the worker counted at its last start."""
    rows = None
    for event in iter_events(ctx.workspace.job(run_id).events):
        if event["e"] == "ready":
            rows = event.get("num_rows")
    return rows
