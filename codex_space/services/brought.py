"""A run whose folder was brought into this workspace from another machine: train it, or go on with it."""

from codex_space.core import durable
from codex_space.core.errors import RunError
from codex_space.core.paths import JobDir
from codex_space.core.recipe import parse_recipe
from codex_space.hub import parents
from codex_space.jobs.launch import launch_facts
from codex_space.services import from_hub, runs
from codex_space.services.context import Context
from codex_space.store import runs as run_rows
from codex_space.store.runs import FINAL, Run


def take_up(ctx: Context, run_id: str) -> Run:
    """Queue the run, to begin or to go on from its newest checkpoint; one that has succeeded stays as it is.

    Raises:
        RunError: Its folder is not here.
        RecipeError: Its recipe is damaged.
        HubError: What it builds on cannot be fetched.
    """
    job = _folder(ctx, run_id)
    text = job.recipe.read_text(encoding="utf-8")
    _fetch_parents(ctx, job)
    if not run_rows.list_runs(ctx.db, ids=(run_id,)):
        hub = getattr(parse_recipe(text), "hub", None)
        run = from_hub.insert(ctx, run_id, text, hub.repo_id if hub else None)
        ctx.wake()
        return run
    run = runs.show(ctx, run_id)
    return runs.resume(ctx, run_id) if run.state in FINAL and run.state != "succeeded" else run


def make_ready(ctx: Context, run_id: str) -> str:
    """Write launch.json for the next start of a worker by hand, going on from the newest checkpoint; return the folder.

    Raises:
        RunError: Its folder is not here.
        HubError: What it builds on cannot be fetched.
    """
    job = _folder(ctx, run_id)
    recipe = parse_recipe(job.recipe.read_text(encoding="utf-8"))
    _fetch_parents(ctx, job)
    attempt = (durable.read_json(job.launch) or {}).get("attempt", 0)
    number = attempt + 1 if isinstance(attempt, int) else 1
    durable.write_json(job.launch, launch_facts(recipe, ctx.workspace, job, attempt=number))
    for path in (job.exit, job.stop_request, job.failed):
        path.unlink(missing_ok=True)
    return str(job.root)


def _fetch_parents(ctx: Context, job: JobDir) -> None:
    if job.parents.is_file():
        noted = parents.parse(job.parents.read_text(encoding="utf-8"), str(job.parents))
        parents.fetch_parents(ctx.hub(), ctx.workspace, noted)


def _folder(ctx: Context, run_id: str) -> JobDir:
    job = ctx.workspace.job(run_id)
    if not job.recipe.is_file():
        raise RunError("its folder is not in this workspace", where=run_id, cure=f"Bring it to {job.root}.")
    return job
