"""What a queued run builds on: whether it has come to an end that can be used, and where on the Hub another machine finds it.

A tokenizer run pushes nothing: what another machine needs of it are the few files of its checkpoint.
"""

from pathlib import Path

from codex_space.core.errors import ModelError, RunError
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.paths import Workspace
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.hub import parents as on_hub
from codex_space.hub.client import Hub
from codex_space.hub.parents import Parent
from codex_space.jobs.references import model_references, parse_run, resolve_model, run_references
from codex_space.store import runs
from codex_space.store.checkpoints import Checkpoint, list_checkpoints
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
    if not found and step is None and steps:  # its checkpoint alone was brought here, from the Hub
        return False
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


def find_on_hub(db: Database, hub: Hub, recipe: BaseRecipe) -> list[Parent]:
    """Return the checkpoints that a recipe builds on, and those that they lie on in turn, where all are on the Hub.

    Raises:
        ModelError: One of them is not on the Hub, or lies on a base that is on this machine alone.
        RunError: There is no such run here.
        HubError: The Hub does not give it.
    """
    found: dict[str, Parent] = {}
    wanted = [(run_id, step) for run_id, step in run_references(recipe) if not _is_tokenizer(db, run_id)]
    while wanted:
        run_id, step = wanted.pop()
        parent = _uploaded(db, run_id, step)
        if f"{run_id}@{parent.step}" in found:
            continue
        if len(found) == on_hub.MAX_PARENTS:
            what = f"it builds on more than {on_hub.MAX_PARENTS} checkpoints of other runs"
            raise ModelError(
                what, where=f"run:{run_id}", cure="Train on one of them without lora: its weights are whole."
            )
        remote = on_hub.require_checkpoint(hub, parent)
        found[f"{run_id}@{parent.step}"] = parent
        if "adapter_config.json" not in remote.manifest.files:
            continue
        base = remote.manifest.base_model
        if lies_on := parse_run(base):
            wanted.append(lies_on)
        elif not looks_like_repo_id(base):
            raise ModelError(
                f"this checkpoint is an adapter of {base.partition(':')[0]}, which is on this machine alone",
                where=f"run:{run_id}",
                cure="Train it here, or on a base model that is on the Hub.",
            )
    return list(found.values())


def pin(db: Database, recipe: BaseRecipe) -> dict[str, str]:
    """Return each reference of a recipe that names a run, with the step of its newest checkpoint where it names none.

    Raises:
        ModelError: That checkpoint is not on the Hub, or that tokenizer is not learnt.
        RunError: There is no such run here.
    """
    told = {}
    for run_id, step in run_references(recipe):
        written = f"run:{run_id}" + ("" if step is None else f"@step-{step}")
        found = _learnt(db, run_id, written) if _is_tokenizer(db, run_id) else _uploaded(db, run_id, step).step
        told[written] = f"run:{run_id}@step-{found}"
    return told


def find_tokenizers(db: Database, workspace: Workspace, recipe: BaseRecipe) -> list[Path]:
    """Return the checkpoints of tokenizer runs that a recipe uses; they are on this machine alone.

    Raises:
        ModelError: One is not here.
        RunError: There is no such run here.
    """
    refs = [ref for ref in model_references(recipe) if (found := parse_run(ref)) and _is_tokenizer(db, found[0])]
    return [Path(resolve_model(workspace, ref)) for ref in refs]


def _is_tokenizer(db: Database, run_id: str) -> bool:
    return runs.read_run(db, run_id).kind == "tokenizer"


def _learnt(db: Database, run_id: str, ref: str) -> int:
    rows = list_checkpoints(db, run_id)
    if not rows:
        raise ModelError("this tokenizer is not learnt yet", where=ref, cure="Wait until its run has ended.")
    return rows[-1].step


def _uploaded(db: Database, run_id: str, step: int | None) -> Parent:
    run, rows = runs.read_run(db, run_id), list_checkpoints(db, run_id)
    ref = f"run:{run_id}" + ("" if step is None else f"@step-{step}")
    there = [row.step for row in rows if row.upload == "uploaded"]
    cure = f"Name one that is: run:{run_id}@step-{there[-1]}." if there else "Train this one here."
    if step is None and run.state not in FINAL:
        what = f"{run.name!r} has not ended, and its result is not on the Hub yet"
        raise ModelError(what, where=ref, cure=f"Wait until it has. {cure}" if there else "Wait until it has.")
    row = rows[-1] if step is None and rows else next((row for row in rows if row.step == step), None)
    if row is None:
        raise ModelError(f"{run.name!r} has no such checkpoint", where=ref, cure=cure)
    if row.upload != "uploaded" or not row.commit_id or not run.repo_id:
        raise ModelError(
            f"another machine cannot read step {row.step:,} of {run.name!r}: {_why(run, row)}", where=ref, cure=cure
        )
    return Parent(run.id, row.step, run.repo_id, row.commit_id)


def _why(run: Run, row: Checkpoint) -> str:
    if not run.repo_id:
        return "it was trained without hub.repo_id, so it is on this machine alone"
    return {
        "queued": "its upload waits",
        "uploading": "it is being uploaded",
        "failed": f"its upload has failed ({row.upload_error})",
    }.get(row.upload, "it is not on the Hub")
