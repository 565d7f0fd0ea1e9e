"""Take up a run whose machine is gone, from what its Hub repository keeps."""

import shutil

from codex_space.core.errors import RunError
from codex_space.core.recipe import parse_recipe
from codex_space.hub import fetch
from codex_space.hub.fetch import FetchedRun
from codex_space.services.context import Context
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import runs as run_rows
from codex_space.store.runs import Run


def resume_from_hub(ctx: Context, repo_id: str) -> Run:
    """Fetch recipe, rows and newest checkpoint, and queue the run to go on.

    Raises:
        HubError: The repository cannot be read, or holds no checkpoint to go on from.
        RunError: It is in this workspace already, or its rows were not kept.
    """
    hub = ctx.hub()
    run_id = fetch.find_checkpoint(hub, repo_id).manifest.run_id
    if run_rows.list_runs(ctx.db, ids=(run_id,)):
        raise RunError("this run is in the workspace already", where=run_id, cure="Resume it from the Runs tab.")
    found = fetch.fetch_run(hub, repo_id, ctx.workspace)
    if not found.num_row_files:
        shutil.rmtree(found.job.root, ignore_errors=True)
        raise RunError(
            "its rows were not kept on the Hub",
            where=repo_id,
            cure="Only a run submitted with hub.keep_rows: true can go on without its machine.",
        )
    return register(ctx, found, repo_id)


def register(ctx: Context, found: FetchedRun, repo_id: str) -> Run:
    """Queue a run that was fetched, its checkpoint marked as the one on the Hub."""
    run = insert(ctx, found.run_id, found.recipe_text, repo_id)
    size_bytes = sum(path.stat().st_size for path in found.checkpoint.iterdir() if path.is_file())
    checkpoint_rows.add_checkpoint(
        ctx.db, run.id, found.step, created_at=ctx.clock(), size_bytes=size_bytes, metrics={}, upload="none"
    )
    checkpoint_rows.set_upload(ctx.db, run.id, found.step, "uploaded", commit_id=found.commit_id)
    ctx.note("go on from the Hub", f"{run.id} from {repo_id}")
    return run


def insert(ctx: Context, run_id: str, recipe_text: str, repo_id: str | None) -> Run:
    """Queue a run under the id it has on the Hub.

    Raises:
        RecipeError: The text is no recipe.
    """
    recipe = parse_recipe(recipe_text)
    kind = str(getattr(recipe, "kind", ""))
    return run_rows.insert_run(
        ctx.db,
        id=run_id,
        name=recipe.name or kind,
        kind=kind,
        recipe=recipe_text,
        repo_id=repo_id,
        now=ctx.clock(),
    )
