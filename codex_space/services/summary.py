"""What became of a run, as one JSON-able mapping."""

from typing import Any

from codex_space.core.events import read_events
from codex_space.services import alerts, runs
from codex_space.services.context import Context
from codex_space.store import evaluations, metrics
from codex_space.store.runs import Run


def summarize(ctx: Context, run_id: str) -> dict[str, Any]:
    """Return {run, name, status, reason, steps, rows_trained, first_loss, final_loss, eval_loss, checkpoints, evaluations, ...}.

    `eval_loss` is the lowest there was.
    """
    run = runs.show(ctx, run_id)
    job = ctx.workspace.job(run.id)
    losses = metrics.read_curve(ctx.db, run.id, "loss", max_points=4000)
    held_out = metrics.read_curve(ctx.db, run.id, "eval_loss", max_points=4000)
    return {
        "run": run.id,
        "name": run.name,
        "status": run.state,
        "reason": run.reason,
        "steps": run.step,
        "rows_trained": _rows(ctx, run.id),
        "first_loss": losses.values[0] if losses.values else None,
        "final_loss": losses.values[-1] if losses.values else None,
        "eval_loss": min(held_out.values, default=None),
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
        **health(ctx, run),
        "seconds": round((run.ended_at or ctx.clock()) - (run.started_at or run.created_at), 1),
    }


def health(ctx: Context, run: Run) -> dict[str, Any]:
    """Return {alerts, score, score_formula} as the curves are now."""
    curves = {name: metrics.read_curve(ctx.db, run.id, name, max_points=400) for name in alerts.METRICS}
    found = alerts.find(curves, max_steps=run.max_steps)
    score = alerts.score(curves, max_steps=run.max_steps)
    return {"alerts": alerts.as_dicts(found), "score": score, "score_formula": alerts.SCORE}


def _rows(ctx: Context, run_id: str) -> int | None:
    """Return the number of training rows the worker counted at its last start."""
    offset, rows = 0, None
    while True:
        events, after = read_events(ctx.workspace.job(run_id).events, offset)
        rows = next((event.get("num_rows") for event in reversed(events) if event["e"] == "ready"), rows)
        if after == offset:
            return rows
        offset = after
