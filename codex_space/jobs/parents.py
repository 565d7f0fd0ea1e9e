"""Whether the runs that a queued run builds on have come to an end it can use."""

from codex_space.core.errors import RunError
from codex_space.core.paths import Workspace
from codex_space.core.recipe import BaseRecipe
from codex_space.jobs.references import run_references
from codex_space.store import runs
from codex_space.store.db import Database
from codex_space.store.runs import FINAL, Run


def has_to_wait(db: Database, workspace: Workspace, run: Run, recipe: BaseRecipe) -> bool:
    """Say whether one of its parents is still to end.

    A parent that had not succeeded when this run was queued was chosen as it was: its checkpoints are enough.

    Raises:
        RunError: A parent is gone, or has ended meanwhile without success.
    """
    return any(
        _waits_for(db, run, parent_id, steps=workspace.job(parent_id).checkpoint_steps(), step=step)
        for parent_id, step in run_references(recipe)
    )


def _waits_for(db: Database, run: Run, parent_id: str, *, steps: list[int], step: int | None) -> bool:
    if step is not None and step in steps:
        return False
    found = runs.list_runs(db, ids=(parent_id,))
    if not found:
        raise RunError("the run it builds on is gone", where=parent_id, cure="Choose another base in a copy of it.")
    parent = found[0]
    if parent.state not in FINAL:
        return True
    was_chosen_so = bool(steps) and parent.ended_at is not None and parent.ended_at <= run.queued_at
    if parent.state != "succeeded" and not was_chosen_so:
        raise RunError(
            f"the run it builds on, {parent.name!r}, did not succeed ({parent.state})",
            where=parent_id,
            cure="Resume that one, then this one.",
        )
    return False
