"""Send waiting checkpoints to the Hub, one at a time, with every state on disk so that a restart goes on.

A checkpoint leaves the spool only after the Hub is proven to hold its bytes. A dead Hub delays uploads, not training.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubError, WorkspaceError
from codex_space.core.origin import Origin
from codex_space.core.paths import MANIFEST, JobDir, Workspace
from codex_space.core.recipe import ExportRecipe, parse_recipe
from codex_space.core.sections import HubSection
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.grade.origin import read_origin
from codex_space.hub import parents
from codex_space.hub.card_parts import render_curves
from codex_space.hub.cards import NO_ORIGIN, render_card
from codex_space.hub.client import Hub
from codex_space.hub.fetch import push_rows
from codex_space.hub.manifest import Manifest, read_manifest
from codex_space.hub.push import CARD, push_card, push_checkpoint
from codex_space.jobs import references
from codex_space.jobs.graded import read_graded
from codex_space.jobs.parents import find_on_hub, find_tokenizers
from codex_space.jobs.spent import say_cost
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
from codex_space.store.evaluations import of_writer
from codex_space.store.runs import FINAL, Run, list_runs, read_run

_log = logging.getLogger(__name__)
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 600.0
CARDS_EVERY_S, CARDS_OF_RUNS = 3.0, 50


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
        self._carded: set[tuple[str, float | None]] = set()
        self._next_cards_at = 0.0

    def step(self, now: float) -> bool:
        """Try the next due upload, if any; return whether there was one. Only the workspace's owner calls this."""
        if not self._has_taken_over:
            self._take_over()
        next_steps = {self._workspace.job(run_id): step for run_id, step in next_steps_to_upload(self._db).items()}
        thin(next_steps, self._spool_budget_bytes)
        due = due_uploads(self._db, now)
        if due:
            self._attempt(due[0], now)
        else:
            self._bring_cards_up_to_date(now)
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
            _push_rows(hub, self._db, self._workspace, job, recipe)
        there = [other.step for other in list_checkpoints(self._db, row.run_id) if other.upload == "uploaded"]
        card, curves = self._render(run, recipe, section, read_manifest(folder))
        return push_checkpoint(
            hub,
            folder,
            repo_id=section.repo_id,
            card=card,
            recipe_text=share_recipe(run.recipe),
            with_resume=row.step >= max(there, default=0) and has_resume_state(folder),
            curves=curves,
        )

    def _render(
        self, run: Run, recipe: TrainingRecipe | ExportRecipe, section: HubSection, manifest: Manifest
    ) -> tuple[str, str]:
        """Return card and curves; an export's card the worker wrote, with what was proven of each file."""
        job = self._workspace.job(run.id)
        if isinstance(recipe, ExportRecipe):
            return (job.export / CARD).read_text(encoding="utf-8"), ""
        origin, cost = _origin(self._db, job, manifest.step), say_cost(self._db, run.id)
        text = share_recipe(run.recipe)
        card = render_card(recipe, manifest, repo_id=section.repo_id, recipe_text=text, origin=origin, cost=cost)
        return card, render_curves(origin.losses, origin.eval_losses)

    def _bring_cards_up_to_date(self, now: float) -> None:
        """Once a run has ended and its last answers are graded, its card says so: they come after the checkpoint went up."""
        if now < self._next_cards_at:
            return
        self._next_cards_at = now + CARDS_EVERY_S
        for run in list_runs(self._db, limit=CARDS_OF_RUNS, states=tuple(FINAL), place="local"):
            if run.repo_id and (run.id, run.ended_at) not in self._carded and self._has_new_scores(run):
                self._push_card(run, now)

    def _has_new_scores(self, run: Run) -> bool:
        if any(row.upload in {"queued", "uploading"} for row in list_checkpoints(self._db, run.id)):
            return False
        job = self._workspace.job(run.id)
        if card_waits(self._db, job, run) or (durable.read_json(job.card) or {}).get("busy"):
            return True
        if not any(row.state == "waiting" for row in of_writer(self._db, run.id)):
            self._carded.add((run.id, run.ended_at))
        return False

    def _push_card(self, run: Run, now: float) -> None:
        job = self._workspace.job(run.id)
        try:
            recipe, section = _pushing_recipe(run)
            push_card(
                self._hub_factory(), section.repo_id, run.id, lambda found: self._render(run, recipe, section, found)
            )
        except HubBusyError as error:
            _log.info("the card of %s waits: %s", run.id, error)
            self._next_cards_at = now + LONGEST_WAIT_S
            durable.write_json(job.card, {"ended_at": run.ended_at, "busy": True})
            return
        except (CodexError, OSError) as error:
            _log.warning("the card of %s stays as it is: %s", run.id, error)
        if job.root.is_dir():
            durable.write_json(job.card, {"ended_at": run.ended_at})
        self._carded.add((run.id, run.ended_at))

    def _take_over(self) -> None:
        """Queue what an earlier owner was busy with; delete what it proved to be on the Hub and could not delete."""
        reset_uploading(self._db)
        self._has_taken_over = True
        for path in self._workspace.runs.glob("*/spool"):
            job = JobDir(path.parent)
            uploaded = {row.step for row in list_checkpoints(self._db, path.parent.name) if row.upload == "uploaded"}
            for step in uploaded.intersection(spooled_steps(job)):
                remove_spooled(job, step)


def card_waits(db: Database, job: JobDir, run: Run) -> bool:
    """Say whether an ended run's card is to be pushed once more; one that a busy Hub holds up is waited for by nobody."""
    if run.state not in FINAL or run.repo_id is None or run.place != "local":
        return False
    if (durable.read_json(job.card) or {}).get("ended_at") == run.ended_at:
        return False
    states = {row.state for row in of_writer(db, run.id)}
    return "done" in states and "waiting" not in states


def _origin(db: Database, job: JobDir, step: int) -> Origin:
    """Return what its verdicts and the run's folder tell; a worker wrote it, and what it got wrong must not hold its weights back."""
    try:
        return read_origin(job, step, read_graded(db, job.root.name, step))
    except (CodexError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        _log.warning("the card of %s says less: %s", job.root.name, error)
        return NO_ORIGIN


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


def _push_rows(
    hub: Hub, db: Database, workspace: Workspace, job: JobDir, recipe: TrainingRecipe | ExportRecipe
) -> None:
    """Push the rows before the first checkpoint, and later what lies beside them, where the run builds on others.

    A refusal is noted and does not hold the checkpoints up.
    """
    kept = (durable.read_json(job.rows_upload) or {}).get("commit_id")
    if not job.rows.is_dir() or (kept and not references.run_references(recipe)):
        return
    run_id = job.root.name
    try:
        assert recipe.hub is not None  # noqa: S101  # narrows the type
        beside = _beside(hub, db, workspace, job, recipe)
        pushed = push_rows(hub, job.rows, repo_id=recipe.hub.repo_id, run_id=run_id, beside=beside)
        note = {"commit_id": pushed, "error": ""}
    except HubBusyError:
        raise
    except CodexError as error:
        _log.warning("the rows of %s, or what lies beside them, are not on the Hub: %s", run_id, error)
        note = {"commit_id": kept or "", "error": str(error)}
    durable.write_json(job.rows_upload, note)


def _beside(hub: Hub, db: Database, workspace: Workspace, job: JobDir, recipe: BaseRecipe) -> dict[str, str | Path]:
    """Return what an empty machine would need to go on, nothing where it is on this one alone, or was brought here itself.

    It is the checkpoints that the run was started on: what it builds on may have newer ones by now.
    """
    known = (durable.read_json(job.launch) or {}).get("references") or {}
    steps = {ref: Path(path).name.replace("checkpoint", "step") for ref, path in known.items()}
    told = {ref: f"{ref.partition('@')[0]}@{step}" for ref, step in steps.items() if references.parse_run(ref)}
    recipe, beside = references.pinned(recipe, told), dict[str, str | Path]()
    try:
        for checkpoint in find_tokenizers(db, workspace, recipe):
            beside |= parents.tokenizer_files(checkpoint)
        if found := find_on_hub(db, hub, recipe):
            beside[parents.FILE] = parents.render(found)
    except HubBusyError:
        raise
    except CodexError as error:
        _log.info("what %s builds on cannot be had elsewhere: %s", job.root.name, error)
    return beside
