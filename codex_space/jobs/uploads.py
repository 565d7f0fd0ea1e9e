"""Send waiting checkpoints to the Hub, one at a time, with every state on disk so that a restart goes on.

A checkpoint leaves the spool only after the Hub is proven to hold its bytes. A dead Hub delays uploads, not training.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubError, WorkspaceError
from codex_space.core.paths import MANIFEST, JobDir, Workspace
from codex_space.core.recipe import ExportRecipe, TrainingRecipe, parse_recipe
from codex_space.core.sections import HubSection
from codex_space.hub.cards import render_card, share_recipe
from codex_space.hub.client import Hub
from codex_space.hub.fetch import push_rows
from codex_space.hub.manifest import read_manifest
from codex_space.hub.push import CARD, push_checkpoint
from codex_space.jobs.spool import has_resume_state, remove_spooled, spooled_steps, thin
from codex_space.store.checkpoints import (
    Checkpoint,
    due_uploads,
    list_checkpoints,
    next_steps_to_upload,
    reset_uploading,
    set_upload,
)
from codex_space.store.db import Database
from codex_space.store.runs import Run, read_run

_log = logging.getLogger(__name__)
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 600.0


def wait_s(num_tries: int) -> float:
    """Return the pause after that many failed tries: 5 s doubling up to ten minutes."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(num_tries - 1, 30))


class Uploader:
    """Owns the way from the spool to the Hub; only the workspace's owner runs one."""

    def __init__(
        self, db: Database, workspace: Workspace, hub_factory: Callable[[], Hub], *, spool_budget_bytes: int
    ) -> None:
        """Touch nothing yet: until the first step, another process may own the workspace."""
        self._db, self._workspace, self._hub_factory = db, workspace, hub_factory
        self._spool_budget_bytes = spool_budget_bytes
        self._has_taken_over = False

    def step(self, now: float) -> bool:
        """Try the next due upload, if any; return whether there was one. Only the workspace's owner calls this."""
        if not self._has_taken_over:
            self._take_over()
        next_steps = {self._workspace.job(run_id): step for run_id, step in next_steps_to_upload(self._db).items()}
        thin(next_steps, self._spool_budget_bytes)
        due = due_uploads(self._db, now)
        if due:
            self._attempt(due[0], now)
        return bool(due)

    def _attempt(self, row: Checkpoint, now: float) -> None:
        set_upload(self._db, row.run_id, row.step, "uploading", tries=row.tries)
        job = self._workspace.job(row.run_id)
        before = _manifest_bytes(job, row.step)
        try:
            commit_id = self._push(row)
        except HubBusyError as error:
            self._wait(row, str(error), now)
        except (CodexError, OSError) as error:
            _log.warning("upload of %s step %d failed: %s", row.run_id, row.step, error)
            set_upload(self._db, row.run_id, row.step, "failed", error=str(error), tries=row.tries + 1)
        except BaseException as error:
            self._wait(row, f"interrupted ({type(error).__name__})", now)
            raise
        else:
            if _manifest_bytes(job, row.step) not in {before, b""}:
                # a resumed run saved this step again while the older bytes went up
                set_upload(self._db, row.run_id, row.step, "queued")
                return
            set_upload(self._db, row.run_id, row.step, "uploaded", commit_id=commit_id, tries=row.tries + 1)
            remove_spooled(job, row.step)

    def _wait(self, row: Checkpoint, reason: str, now: float) -> None:
        others = [other.tries for other in list_checkpoints(self._db, row.run_id) if other.upload == "queued"]
        tries = max(row.tries, *others, 0) + 1
        _log.info("upload of %s step %d waits %.0f s: %s", row.run_id, row.step, wait_s(tries), reason)
        again_at = now + wait_s(tries)
        set_upload(self._db, row.run_id, row.step, "queued", error=reason, tries=tries, next_try_at=again_at)

    def _push(self, row: Checkpoint) -> str:
        job = self._workspace.job(row.run_id)
        run = read_run(self._db, row.run_id)
        recipe, section = _pushing_recipe(run)
        folder = _folder(job, row.step)
        hub = self._hub_factory()
        if section.keep_rows:
            _push_rows_once(hub, job, section.repo_id, row.run_id)
        there = [other.step for other in list_checkpoints(self._db, row.run_id) if other.upload == "uploaded"]
        text = share_recipe(run.recipe)
        return push_checkpoint(
            hub,
            folder,
            repo_id=section.repo_id,
            card=_card(recipe, job, folder, section, text),
            recipe_text=text,
            with_resume=row.step >= max(there, default=0) and has_resume_state(folder),
        )

    def _take_over(self) -> None:
        """Queue what an earlier owner was busy with; delete what it proved to be on the Hub and could not delete."""
        reset_uploading(self._db)
        self._has_taken_over = True
        for path in self._workspace.runs.glob("*/spool"):
            job = JobDir(path.parent)
            uploaded = {row.step for row in list_checkpoints(self._db, path.parent.name) if row.upload == "uploaded"}
            for step in uploaded.intersection(spooled_steps(job)):
                remove_spooled(job, step)


def _card(recipe: TrainingRecipe | ExportRecipe, job: JobDir, folder: Path, section: HubSection, text: str) -> str:
    if isinstance(recipe, ExportRecipe):  # the worker wrote it, with what was proven of each file
        return (job.export / CARD).read_text(encoding="utf-8")
    return render_card(recipe, read_manifest(folder), repo_id=section.repo_id, recipe_text=text)


def _pushing_recipe(run: Run) -> tuple[TrainingRecipe | ExportRecipe, HubSection]:
    recipe = parse_recipe(run.recipe)
    if not isinstance(recipe, TrainingRecipe | ExportRecipe) or recipe.hub is None:
        raise HubError("the recipe names no repository", where=run.id, cure="Set hub.repo_id in a copy of the run.")
    return recipe, recipe.hub


def _folder(job: JobDir, step: int) -> Path:
    """Return the spooled checkpoint, or the run's own copy where the spool has lost it."""
    for folder in (job.spooled(step), job.checkpoint(step)):
        if (folder / MANIFEST).is_file():
            return folder
    raise WorkspaceError("the checkpoint's files are no longer on this machine", where=f"{job.root.name} step {step}")


def _manifest_bytes(job: JobDir, step: int) -> bytes:
    path = job.spooled(step) / MANIFEST
    return path.read_bytes() if path.is_file() else b""


def _push_rows_once(hub: Hub, job: JobDir, repo_id: str, run_id: str) -> None:
    """Push the rows before the first checkpoint; a refusal is noted and does not hold the checkpoints up."""
    if not job.rows.is_dir() or (durable.read_json(job.rows_upload) or {}).get("commit_id"):
        return
    try:
        note = {"commit_id": push_rows(hub, job.rows, repo_id=repo_id, run_id=run_id), "error": ""}
    except HubBusyError:
        raise
    except CodexError as error:
        _log.warning("the rows of %s are not on the Hub: %s", run_id, error)
        note = {"commit_id": "", "error": str(error)}
    durable.write_json(job.rows_upload, note)
