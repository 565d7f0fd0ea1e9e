"""What is known of the Hugging Face Jobs of this workspace's runs, and what they cost."""

import logging
from typing import Any

from codex_space.core.errors import HubError, RunError
from codex_space.core.hardware import Hardware
from codex_space.services import estimate, runs
from codex_space.services.context import Context
from codex_space.store import hub_jobs
from codex_space.store import runs as run_rows
from codex_space.store.hub_jobs import HubJob
from codex_space.store.runs import Run

ASK_PRICES_EVERY_S = 600.0
_log = logging.getLogger(__name__)


def list_jobs(ctx: Context) -> list[dict[str, Any]]:
    """Return every Job, newest first: run, name, state, flavor, stage, seconds, usd, url."""
    rows = hub_jobs.list_jobs(ctx.db)
    known = {run.id: run for run in run_rows.list_runs(ctx.db, limit=10_000, place="hf-jobs")}
    return [_told(known[row.run_id], row) for row in reversed(rows) if row.run_id in known]


def brief(ctx: Context, run: Run) -> dict[str, Any] | None:
    """Return what a page shows of a run's Jobs: the newest, and what all of them cost; None for a run of this machine."""
    if run.place == "local":
        return None
    rows = hub_jobs.list_jobs(ctx.db, run.id)
    if not rows:
        return {"flavor": "", "stage": "", "url": "", "seconds": 0.0, "usd": None}
    newest = max(rows, key=lambda row: row.attempt)
    costs = [row.cost_usd for row in rows]
    usd = None if None in costs else round(sum(cost for cost in costs if cost is not None), 4)
    seconds = round(sum(row.running_s for row in rows), 1)
    return {"flavor": newest.flavor, "stage": newest.stage, "url": newest.url, "seconds": seconds, "usd": usd}


def require_run_on_jobs(ctx: Context, run_id: str) -> Run:
    """Return a run that trains as a Job.

    Raises:
        RunError: There is no such run, or it trains on this machine.
    """
    run = runs.show(ctx, run_id)
    if run.place == "local":
        raise RunError("this run trains on this machine", where=run.id, cure=f"codex-space runs show {run.id}")
    return run


def is_any_starting(ctx: Context, run_ids: list[str]) -> bool:
    """Say whether one of these runs has no Job yet and could still get one; those that wait for a place do not count."""
    found = run_rows.list_runs(ctx.db, limit=1000, ids=tuple(run_ids))
    num_active = run_rows.count_runs(ctx.db, states=tuple(run_rows.ACTIVE), place="hf-jobs")
    if num_active >= ctx.settings.max_jobs:
        found = [run for run in found if run.state != "queued"]
    return any(run.state not in run_rows.FINAL and not _has_job(ctx, run) for run in found)


def _has_job(ctx: Context, run: Run) -> bool:
    job = hub_jobs.newest_job(ctx.db, run.id)
    return job is not None and job.attempt == run.attempt and bool(job.job_id)


def describe(ctx: Context, run_id: str) -> dict[str, Any]:
    """Return {run, state, reason, flavor, stage, url, seconds, usd} of a run on Jobs."""
    run = runs.show(ctx, run_id)
    return {"run": run.id, "state": run.state, "reason": run.reason, **(brief(ctx, run) or {})}


def list_flavors(ctx: Context, *, ask: bool = False) -> list[Hardware]:
    """Return the machines that Jobs run on, cheapest first, at the prices the Hub named last; with `ask` it is asked anew.

    One that does not answer changes nothing.
    """
    if ask and ctx.clock() - estimate.priced_at(ctx) > ASK_PRICES_EVERY_S:
        try:
            estimate.refresh_prices(ctx)
        except HubError as error:
            _log.info("prices are as they were: %s", error)
    return estimate.list_priced(ctx)


def _told(run: Run, row: HubJob) -> dict[str, Any]:
    usd = None if row.cost_usd is None else round(row.cost_usd, 4)
    return {
        "run": run.id, "name": run.name, "state": run.state, "attempt": row.attempt, "job": row.job_id,
        "flavor": row.flavor, "stage": row.stage, "seconds": round(row.running_s, 1), "usd": usd, "url": row.url,
    }  # fmt: skip
