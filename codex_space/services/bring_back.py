"""Bring a checkpoint that is on the Hub only back to its place on this machine, proven by hashes, whole or not at all."""

from codex_space.core import durable
from codex_space.core.errors import HubError, RunError
from codex_space.core.paths import JobDir
from codex_space.hub import fetch
from codex_space.hub.fetch import RemoteCheckpoint
from codex_space.jobs import away, resume_point
from codex_space.services.context import Context
from codex_space.services.runs import show
from codex_space.store import checkpoints as rows
from codex_space.store.checkpoints import Checkpoint
from codex_space.store.runs import ACTIVE, Run


def bring_back(ctx: Context, run_id: str, step: int) -> dict[str, object]:
    """Download a checkpoint into the run's folder; one that is here already stays as it is.

    Raises:
        RunError: There is no such checkpoint on the Hub, or the run is training.
        HubError: The Hub does not give it, or gives another one.
        WorkspaceError: Not enough disk space, or another process downloads it.
    """
    run = show(ctx, run_id)
    row, job = _find(ctx, run, step), ctx.workspace.job(run.id)
    is_here = step in job.checkpoint_steps()
    if not is_here:
        if run.state in ACTIVE and run.place == "local":
            raise RunError(
                "its worker would delete it again", where=run.id, cure="Bring it back when the run has ended."
            )
        if row.upload != "uploaded" or row.commit_id is None or not run.repo_id:
            raise RunError(f"step {step:,} is not on the Hub", where=run.id, cure="Choose one that is.")
        hub = ctx.hub()
        remote = _require_same(run, step, job, fetch.read_checkpoint(hub, run.repo_id, row.commit_id))
        fetch.fetch_checkpoint(hub, run.repo_id, remote, job.checkpoint(step))
        ctx.note("bring back", f"{run.id} step {step}")
    away.bring_note_back(job, step)
    rows.set_on_disk(ctx.db, run.id, job.checkpoint_steps())
    return {"run": run.id, "step": step, "path": str(job.checkpoint(step)), "was_here": is_here}


def _find(ctx: Context, run: Run, step: int) -> Checkpoint:
    found = rows.list_checkpoints(ctx.db, run.id)
    row = next((row for row in found if row.step == step), None)
    if row is None:
        known = ", ".join(str(row.step) for row in found if row.upload == "uploaded") or "none"
        raise RunError(f"it has no checkpoint of step {step:,}", where=run.id, cure=f"Steps on the Hub: {known}.")
    return row


def _require_same(run: Run, step: int, job: JobDir, remote: RemoteCheckpoint | None) -> RemoteCheckpoint:
    """Return the very checkpoint that is meant, if a later resume will not stumble over it.

    Raises:
        HubError: It is another one.
        RunError: It would lie before the point that the run goes on from, without resume state.
    """
    where = f"{run.repo_id} step {step}"
    if remote is None or (remote.manifest.run_id, remote.manifest.step) != (run.id, step):
        raise HubError("what the Hub holds there is not this checkpoint", where=where, cure="Choose another step.")
    kept = (durable.read_json(job.away(step)) or {}).get("files")
    files = {name: vars(fact) for name, fact in remote.manifest.files.items()}
    if kept is not None and kept != files:
        raise HubError(
            "what the Hub holds there is not what was removed here", where=where, cure="Choose another step."
        )
    goes_on_here = run.place == "local" and run.state != "succeeded"
    if goes_on_here and not remote.can_resume and step > max(resume_point.newest(job), *job.away_steps(), 0):
        raise RunError(
            "the Hub holds no resume state of it, and the run would train over it",
            where=where,
            cure="Resume the run to its end first, or download the files from the repository.",
        )
    return remote
