"""Take up a run whose machine is gone, from what its Hub repository keeps."""

import shutil

from codex_space.core.errors import RunError
from codex_space.core.recipe import TrainingRecipe, parse_recipe
from codex_space.hub import fetch
from codex_space.services.context import Context
from codex_space.store import runs as run_rows
from codex_space.store.runs import Run


def resume_from_hub(ctx: Context, repo_id: str) -> Run:
    """Fetch recipe, rows and newest checkpoint, and queue the run to go on.

    Raises:
        HubError: The repository cannot be read.
        RunError: It is in this workspace already, or its rows were not kept.
    """
    hub = ctx.hub()
    manifest = fetch.read_manifest(hub, repo_id)
    run_id = str(manifest["run_id"])
    if run_rows.list_runs(ctx.db, ids=(run_id,)):
        raise RunError("this run is in the workspace already", where=run_id, cure="Resume it from the Runs tab.")
    job = ctx.workspace.job(run_id)
    recipe_text = fetch.read_recipe(hub, repo_id)
    recipe = parse_recipe(recipe_text)
    if not isinstance(recipe, TrainingRecipe) or recipe.hub is None or not recipe.hub.keep_rows:
        raise RunError(
            "its rows were not kept on the Hub",
            where=repo_id,
            cure="Only a run submitted with hub.keep_rows: true can go on without its machine.",
        )
    try:
        fetch.fetch_run(hub, repo_id, job)
        fetch.fetch_rows(hub, f"{repo_id}-rows", job.rows)
    except BaseException:
        shutil.rmtree(job.root, ignore_errors=True)
        raise
    now = ctx.clock()
    name = recipe.name or str(manifest["kind"])
    run_rows.insert_run(
        ctx.db, id=run_id, name=name, kind=str(manifest["kind"]), recipe=recipe_text, repo_id=repo_id, now=now
    )
    return run_rows.read_run(ctx.db, run_id)
