"""Submit, list, stop, resume, rename, clone and delete runs."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_space.core import durable, scrub
from codex_space.core.errors import RecipeError, RunError, TrainingError
from codex_space.core.paths import JobDir, new_run_id
from codex_space.core.recipe import EvaluateRecipe, ExportRecipe, parse_recipe, render_recipe, validate
from codex_space.core.settings import Secret
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.core.yaml_text import parse_yaml
from codex_space.jobs import parents, references, uploads
from codex_space.jobs import resume_point as resume_points
from codex_space.jobs import tail as tail_of
from codex_space.services import checks, evaluations, exports, forecast, money
from codex_space.services.context import Context
from codex_space.store import checkpoints as checkpoint_rows
from codex_space.store import runs as run_rows
from codex_space.store.checkpoints import Checkpoint
from codex_space.store.runs import ACTIVE, FINAL, Run, Verb

MAX_SAMPLES_BYTES = 1 << 20
"""Eight answers of 1,024 tokens are far less."""


def submit(
    ctx: Context,
    text: str,
    *,
    overrides: tuple[str, ...] | list[str] = (),
    request_key: str | None = None,
    key: Secret | None = None,
) -> Run:
    """Check a recipe, make its folder and queue it; the same `request_key` gives the same run (double clicks).

    `key` is that of the server the recipe asks: it stays in this process's memory, and goes to the worker alone.

    Raises:
        RecipeError: The text is wrong, or holds a secret.
        RunError: It builds on a run that is not there.
        ModelError: A Job cannot read what it would build on.
        DataError: A dataset it names is not there.
        HubError: The model cannot be read, or the target repository not written.
        EvaluationError: The server it names may not be asked from here, or its key cannot reach the worker.
    """
    recipe = _absolute_paths(parse_recipe(text, list(overrides)))
    _refuse_secrets(render_recipe(recipe))
    if isinstance(recipe, EvaluateRecipe):
        checks.require_endpoint(ctx, recipe, key)
        recipe = evaluations.pin(ctx, recipe)
    if isinstance(recipe, ExportRecipe):
        recipe = exports.pin(ctx, recipe)
    money.require_money(ctx)
    forecast.require_affordable(ctx, recipe)
    checks.require_sources(ctx, recipe)
    checks.require_hub(ctx, recipe)
    checks.require_job(ctx, recipe)
    if recipe.launch.where != "local":
        # what a Job builds on must not change before it starts, nor between its attempts
        recipe = references.pinned(recipe, parents.pin(ctx.db, recipe))
    now = ctx.clock()
    kind = str(getattr(recipe, "kind", ""))
    run_id, job = _make_folder(ctx, kind, now)
    durable.write_text(job.recipe, render_recipe(recipe))
    if key is not None and ctx.owner is not None:
        ctx.owner.supervisor.hold_key(run_id, key)  # before its row is there, for then it may start
    run = run_rows.insert_run(
        ctx.db,
        id=run_id,
        name=recipe.name or kind,
        kind=kind,
        recipe=render_recipe(recipe),
        repo_id=_repo_id(recipe),
        now=now,
        request_key=request_key,
        place=recipe.launch.where,
    )
    if run.id != run_id:  # the press was a repeat: its folder is not needed
        shutil.rmtree(job.root)
        if ctx.owner is not None:
            ctx.owner.supervisor.drop_key(run_id)
    else:
        ctx.note("submit", run.id)
    references.keep_asked(ctx.workspace, recipe)  # after its row is there: the owner lets go of what no row names
    ctx.wake()
    return run


def submit_once(ctx: Context, text: str, key: Secret | None = None) -> Run:
    """Queue a recipe, the same one anew only once a run of its kind has ended: a double click queues one.

    Raises:
        CodexError: As in `submit`.
    """
    kind = parse_recipe(text).kind
    found = run_rows.list_runs(ctx.db, limit=200, search=f"-{kind}-")
    ended = next((run.id for run in found if run.kind == kind and run.state in FINAL), "none")
    return submit(
        ctx, text, request_key=f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}-after-{ended}", key=key
    )


def list_runs(ctx: Context, *, limit: int = 50, offset: int = 0, search: str = "") -> list[Run]:
    """Return runs, newest first."""
    return run_rows.list_runs(ctx.db, limit=limit, offset=offset, search=search)


def show(ctx: Context, run_id: str) -> Run:
    """Return one run, by its id or the name of the newest run so called.

    Raises:
        RunError: There is none.
    """
    try:
        return run_rows.read_run(ctx.db, run_id)
    except RunError:
        named = [run for run in run_rows.list_runs(ctx.db, search=run_id) if run.name == run_id]
        if named:
            return named[0]
        raise


def stop(ctx: Context, run_id: str) -> None:
    """Ask a run to save a checkpoint and end; a queued one is taken out of the queue.

    Raises:
        RunError: The run has ended already.
    """
    _wish(ctx, run_id, "stop")


def cancel(ctx: Context, run_id: str) -> None:
    """End a run at once, without a last checkpoint.

    Raises:
        RunError: The run has ended already.
    """
    _wish(ctx, run_id, "cancel")


def save_now(ctx: Context, run_id: str) -> None:
    """Ask a run for a checkpoint without ending it; a Job hears of it within 20 seconds.

    Raises:
        RunError: The run is not training.
    """
    run = show(ctx, run_id)
    if run.state != "running":
        raise RunError("only a run that is training can save a checkpoint", where=run_id)
    _add_wish(ctx, show(ctx, run_id), "save")


def resume(ctx: Context, run_id: str) -> Run:
    """Queue an ended run again, to go on from its newest complete checkpoint.

    Raises:
        RunError: It cannot go on; the sentence says why.
    """
    run = show(ctx, run_id)
    if reason := resume_blocked(ctx, run.id):
        raise RunError(reason, where=run.id)
    _add_wish(ctx, run, "resume")
    return run


def resume_blocked(ctx: Context, run_id: str) -> str:
    """Return why a run cannot be resumed, or an empty string."""
    run = show(ctx, run_id)
    if run.state not in FINAL:
        return f"it has not ended (it is {run.state})"
    if run.state == "succeeded":
        return "it reached its end; clone it to train longer"
    job = ctx.workspace.job(run.id)
    if not job.recipe.is_file():
        return "its folder is gone from this machine"
    if run.place == "local":
        try:
            resume_points.require_newest(job)
        except TrainingError as error:
            return f"{error.what}. {error.cure}"
    return ""


def resume_point(ctx: Context, run_id: str) -> int:
    """Return the step a resume would go on from, 0 for the beginning."""
    run = show(ctx, run_id)
    if run.place != "local":
        return max((row.step for row in checkpoints(ctx, run.id) if row.upload == "uploaded"), default=0)
    return resume_points.newest(ctx.workspace.job(run.id))


def rename(ctx: Context, run_id: str, name: str) -> None:
    """Give a run another name.

    Raises:
        RunError: The name is empty, too long, or holds characters that do not belong in one.
    """
    cleaned = " ".join(name.split())
    if not cleaned or len(cleaned) > 80 or not cleaned.isprintable() or set(cleaned) & set("<>&\"'`\\"):
        raise RunError("a name has 1 to 80 letters, digits, spaces, . + - or _", where=repr(name))
    run = show(ctx, run_id)
    run_rows.rename_run(ctx.db, run.id, cleaned)
    ctx.note("rename", f"{run.id} to {cleaned}")


def clone_text(ctx: Context, run_id: str) -> str:
    """Return the recipe of a run under a new name, to change and submit."""
    run = show(ctx, run_id)
    values = parse_yaml(run.recipe)
    values["name"] = f"{run.name[:70]} copy"
    return render_recipe(validate(values))


def delete(ctx: Context, run_id: str) -> None:
    """Remove an ended run with its folder and curves.

    Raises:
        RunError: It is not over, another run builds on it, or checkpoints still wait for their upload.
    """
    run = show(ctx, run_id)
    if run.state not in FINAL:
        raise RunError(f"it has not ended (it is {run.state})", where=run.id, cure="Stop it first.")
    for other in run_rows.list_runs(ctx.db, limit=10_000, states=("queued", *sorted(ACTIVE))):
        if run.id in references.dependencies(parse_recipe(other.recipe)):
            raise RunError(f"{other.name!r} builds on it and has not ended", where=run.id, cure="Stop that run first.")
    waiting = [row for row in checkpoints(ctx, run.id) if row.upload in {"queued", "uploading"}]
    if waiting:
        raise RunError(f"{len(waiting)} checkpoints wait for their upload", where=run.id, cure="Let them finish first.")
    run_rows.delete_run(ctx.db, run.id)
    shutil.rmtree(ctx.workspace.job(run.id).root, ignore_errors=True)
    ctx.note("delete", run.id)


def checkpoints(ctx: Context, run_id: str) -> list[Checkpoint]:
    """Return the run's checkpoints, oldest first, with the state of their upload."""
    return checkpoint_rows.list_checkpoints(ctx.db, show(ctx, run_id).id)


def card_waits(ctx: Context, run: Run) -> bool:
    """Say whether the card of an ended run is still to tell of its last scores."""
    return uploads.card_waits(ctx.db, ctx.workspace.job(run.id), run)


def retry_upload(ctx: Context, run_id: str, step: int) -> None:
    """Queue a checkpoint whose upload failed once more.

    Raises:
        RunError: Its files have left this machine.
    """
    run = show(ctx, run_id)
    if not ctx.workspace.job(run.id).spooled(step).is_dir():
        raise RunError(f"the files of step {step} are no longer on this machine", where=run.id)
    checkpoint_rows.set_upload(ctx.db, run.id, step, "queued")
    ctx.note("upload again", f"{run.id} step {step}")


def log_tail(ctx: Context, run_id: str, *, lines: int = 200, search: str = "") -> str:
    """Return the last lines of the worker's log, those that hold `search` where given."""
    return tail_of.tail(ctx.workspace.job(show(ctx, run_id).id).log, lines=lines, search=search)


def iter_log(ctx: Context, run_id: str) -> Iterator[str]:
    """Yield the whole log of a run that has one, in parts."""
    return tail_of.iter_log(ctx.workspace.job(run_id).log)


def read_samples(ctx: Context, run_id: str, step: int) -> list[dict[str, Any]]:
    """Return [{prompt, expected, text}] of what the model wrote after that step.

    Raises:
        RunError: It wrote nothing there.
    """
    job = ctx.workspace.job(show(ctx, run_id).id)
    path = job.samples(step)
    known = step in job.sample_steps() and path.stat().st_size <= MAX_SAMPLES_BYTES
    rows = (durable.read_json(path) or {}).get("samples") if known else None
    if not isinstance(rows, list):
        raise RunError(f"there are no samples of step {step:,}", where=run_id)
    texts = ("prompt", "expected", "text")
    return [{name: str(row.get(name) or "") for name in texts} for row in rows[:8] if isinstance(row, dict)]


def differences(ctx: Context, *run_ids: str) -> list[tuple[Any, ...]]:
    """Return (key, value in the first run, in the second, ...) for every recipe key in which the runs are not all alike."""
    recipes = [_flatten(parse_yaml(show(ctx, each).recipe)) for each in run_ids]
    keys = sorted(set().union(*recipes) - (set() if money.is_shown(ctx) else {money.CAP_KEY}))
    told = [(key, *(recipe.get(key) for recipe in recipes)) for key in keys]
    return [row for row in told if any(value != row[1] for value in row[2:])]


def _wish(ctx: Context, run_id: str, verb: Verb) -> None:
    run = show(ctx, run_id)
    if run.state in FINAL:
        raise RunError(f"it has ended already ({run.state})", where=run.id)
    _add_wish(ctx, run, verb)


def _add_wish(ctx: Context, run: Run, verb: Verb) -> None:
    run_rows.add_wish(ctx.db, run.id, verb, ctx.clock())
    ctx.note(verb, run.id)
    ctx.wake()


def _refuse_secrets(text: str) -> None:
    """A recipe goes into cards, logs and pages."""
    if scrub.clean(text) != text:
        raise RecipeError(
            "it holds a secret: a token, or the value of a variable that is one",
            cure="Take it out: recipes go into model cards. Workers get HF_READ_TOKEN from the environment.",
        )


def _make_folder(ctx: Context, kind: str, now: float) -> tuple[str, JobDir]:
    """Make the folder of a new run; of the many that may begin in one second no two get the same id."""
    while True:
        run_id = new_run_id(kind, now)
        job = ctx.workspace.job(run_id)
        with contextlib.suppress(FileExistsError):
            job.root.mkdir(mode=0o700)
            return run_id, job


def _repo_id(recipe: BaseRecipe) -> str | None:
    return recipe.hub.repo_id if isinstance(recipe, TrainingRecipe | ExportRecipe) and recipe.hub else None


def _absolute_paths(recipe: BaseRecipe) -> BaseRecipe:
    """Local files named relative to where the person stands stay found when the worker runs elsewhere."""
    values = recipe.model_dump(by_alias=True, exclude_defaults=True)
    values["kind"] = getattr(recipe, "kind", "")
    for entry in values.get("datasets", []):
        entry["path"] = _absolute(entry["path"])
    if "model" in values and not values.get("endpoint"):
        values["model"]["model_name_or_path"] = _absolute(values["model"]["model_name_or_path"])
    for key in ("tokenizer", "problems"):
        if isinstance(values.get(key), str):
            values[key] = _absolute(values[key])
    return validate(values)


def _absolute(text: str) -> str:
    if ":" in text:
        return text
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() else text


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401  # YAML value
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flatten(item, f"{prefix}{key}.").items()}
    if isinstance(value, list):
        return {k: v for index, item in enumerate(value) for k, v in _flatten(item, f"{prefix}{index}.").items()}
    return {prefix.rstrip("."): value}
