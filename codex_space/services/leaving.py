"""Leave this machine of the Space for another, or for a pause, without losing what is not on the Hub yet."""

from typing import Any

from codex_space.core import durable
from codex_space.core.errors import WorkspaceError
from codex_space.jobs import leaving as job
from codex_space.jobs.leaving import PAUSE, UPDATE, wish_path
from codex_space.services import space
from codex_space.services.context import Context
from codex_space.store import checkpoints, runs
from codex_space.store.runs import ACTIVE, FINAL


def losses(ctx: Context) -> list[str]:
    """Return what would go with this disk, each a sentence; empty where everything is safe on the Hub."""
    found = []
    unsafe = [run for run in runs.list_runs(ctx.db, limit=1000, states=("queued", *ACTIVE)) if not run.repo_id]
    if unsafe:
        found.append(f"{len(unsafe)} unfinished runs push nothing to the Hub (hub.repo_id) and would be lost.")
    done = [run for run in runs.list_runs(ctx.db, limit=1000, states=tuple(FINAL)) if not run.repo_id]
    kept = [run for run in done if ctx.workspace.job(run.id).checkpoint_steps()]
    if kept:
        found.append(f"{len(kept)} ended runs have checkpoints on this disk only.")
    datasets = [path.name for path in ctx.workspace.datasets.glob("[!.]*") if path.is_dir()]
    if datasets:
        found.append(f"{len(datasets)} datasets lie on this disk only.")
    failed = checkpoints.count_uploads(ctx.db)["failed"]
    if failed:
        found.append(f"{failed} uploads have failed: the Space stays until they are sent or deleted.")
    return found


def leave(ctx: Context, to: str) -> dict[str, Any]:
    """Ask for other hardware or a pause: runs are saved and stopped, uploads finish, then the Space goes.

    Raises:
        WorkspaceError: This is not a Space, or it is there already.
        RecipeError: There is no such hardware.
    """
    space_id = space.find_space(ctx)
    if space_id != ctx.settings.space_id:
        raise WorkspaceError("this machine is not a Space", where="space")
    if to != PAUSE:
        space.check_flavor(ctx, to)
    if to == ctx.settings.accelerator:
        raise WorkspaceError(f"the Space is on {to} already", where=space_id)
    return _wish(ctx, to, "Saved and stopped: the Space " + ("pauses." if to == PAUSE else f"moves to {to}."))


def drain(ctx: Context) -> dict[str, Any]:
    """Save and stop what runs here and let nothing new begin, until the Space is updated or `stay` takes it back.

    Raises:
        WorkspaceError: This is not a Space.
    """
    space.find_space(ctx)
    return _wish(ctx, UPDATE, "Saved and stopped: the Space is updated.")


def _wish(ctx: Context, to: str, why: str) -> dict[str, Any]:
    wish = {"to": to, "reason": "Somebody asked for it.", "asked_at": ctx.clock(), "error": ""}
    durable.write_json(wish_path(ctx.workspace.root), wish)
    for run in runs.list_runs(ctx.db, limit=1000, states=tuple(ACTIVE), place="local"):
        runs.add_wish(ctx.db, run.id, "stop", ctx.clock(), why)
    ctx.wake()
    ctx.note("leave for", to)
    return wish


def stay(ctx: Context) -> None:
    """Take the wish to leave back; runs that were stopped for it can be resumed."""
    wish_path(ctx.workspace.root).unlink(missing_ok=True)
    ctx.note("stay", ctx.settings.space_id or "")


def wished(ctx: Context) -> dict[str, Any] | None:
    """Return {to, reason, asked_at, error} of a move that is wished, else None."""
    return durable.read_json(wish_path(ctx.workspace.root))


def is_kept_awake(ctx: Context) -> bool:
    """Return whether this Space's sleep time is lifted while runs are under way."""
    return can_keep_awake(ctx) and job.is_kept_awake(ctx.workspace.root, ctx.settings)


def can_keep_awake(ctx: Context) -> bool:
    """Return whether this is a Space whose sleep time can be set."""
    return bool(ctx.settings.space_id) and ctx.settings.accelerator != space.FREE


def keep_awake(ctx: Context, *, on: bool) -> None:
    """Lift the Space's sleep time while runs are under way, or no longer; it overrides CODEX_SPACE_KEEP_AWAKE.

    Raises:
        WorkspaceError: This is no Space, or one whose sleep time cannot be set.
    """
    space_id = space.find_space(ctx)
    if space_id != ctx.settings.space_id:
        raise WorkspaceError("this machine is not a Space", where="space")
    if on and ctx.settings.accelerator == space.FREE:
        cure = "Choose paid hardware, or leave the page open in a browser."
        raise WorkspaceError("cpu-basic sleeps after 48 hours, which cannot be set", where=space_id, cure=cure)
    durable.write_json(job.awake_path(ctx.workspace.root), {"on": on})
    ctx.answers.forget(f"runtime {space_id}")
    ctx.note("keep awake while runs train" if on else "no longer keep awake", space_id)
