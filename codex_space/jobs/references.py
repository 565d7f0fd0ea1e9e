"""What a recipe builds on: `run:ID` (newest checkpoint) and `run:ID@step-N`, and whether it reads from the Hub."""

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from codex_space.core import durable, sources
from codex_space.core.errors import CodexError, ModelError
from codex_space.core.paths import Workspace
from codex_space.core.recipe import MEASURED, EvaluateRecipe, ExportRecipe, PretrainRecipe, parse_recipe, validate
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe, TuningRecipe
from codex_space.data.sources import is_hub_id
from codex_space.grade import library
from codex_space.store.runs import Run

GGUF = "gguf:"
"""Begins the reference of an exported file: gguf:RUN_ID/NAME."""
_RUN = re.compile(r"run:([\w-]+)(?:@step-(\d+))?")


def model_references(recipe: BaseRecipe) -> list[str]:
    """Return the texts that name a model or tokenizer of ours or of the Hub."""
    if isinstance(recipe, EvaluateRecipe) and recipe.endpoint:
        return []
    if isinstance(recipe, TuningRecipe | EvaluateRecipe | ExportRecipe):
        return [recipe.model.model_name_or_path]
    return [recipe.tokenizer] if isinstance(recipe, PretrainRecipe) else []


def run_references(recipe: BaseRecipe) -> list[tuple[str, int | None]]:
    """Return (run id, step or None for the newest) of each reference to an earlier run."""
    return [found for text in model_references(recipe) if (found := parse_run(text))]


def parse_run(ref: str) -> tuple[str, int | None] | None:
    """Return (run id, step or None for the newest) of a reference to a run, None of any other."""
    match = _RUN.fullmatch(ref)
    return (match[1], int(match[2]) if match[2] else None) if match else None


def dependencies(recipe: BaseRecipe) -> set[str]:
    """Return the ids of the runs whose results a recipe needs."""
    return {run_id for run_id, _ in run_references(recipe)}


def resolve_model(workspace: Workspace, ref: str) -> str:
    """Return the path of the checkpoint or exported file that a reference means; any other reference as it is.

    Raises:
        ModelError: It is not spelled right, or that run has no such complete checkpoint on this machine.
        RunError: The run id is not one.
    """
    if ref.startswith(GGUF):
        return _resolve_gguf(workspace, ref)
    if not ref.startswith("run:"):
        return ref
    match = _RUN.fullmatch(ref)
    if match is None:
        raise ModelError(f"{ref!r} names no checkpoint", cure="Write run:RUN_ID or run:RUN_ID@step-N.")
    job = workspace.job(match.group(1))
    steps = job.checkpoint_steps()
    if not steps:
        raise ModelError(
            "this run has no complete checkpoint on this machine",
            where=ref,
            cure="Train it first, or bring one back that is on the Hub: `codex-space runs fetch RUN STEP`.",
        )
    step = int(match.group(2)) if match.group(2) else steps[-1]
    if step not in steps:
        known = ", ".join(str(each) for each in steps)
        raise ModelError(
            f"step {step} is not on this machine",
            where=ref,
            cure=f"Steps that are: {known}. On Runs, or by `codex-space runs fetch {job.root.name} {step}`, one that is on the Hub comes back.",
        )
    return str(job.checkpoint(step))


def _resolve_gguf(workspace: Workspace, ref: str) -> str:
    run_id, _, name = ref.removeprefix(GGUF).partition("/")
    folder = workspace.job(run_id).export
    rows = (durable.read_json(folder / "export.json") or {}).get("files", [])
    path, is_passed = folder / name, any(row.get("path") == name and row.get("passed") for row in rows)
    if not is_passed or path.parent != folder or path.is_symlink() or not path.is_file():  # a worker wrote those rows
        raise ModelError(
            "this file is not on this machine, or did not pass its comparison", where=ref, cure="Export it again."
        )
    return str(path)


def keep_asked(workspace: Workspace, recipe: BaseRecipe) -> None:
    """Ask runs that may still be training not to rotate away the checkpoints that a recipe names.

    Raises:
        RunError: A run id in the recipe is not one.
    """
    for run_id, step in run_references(recipe):
        job = workspace.job(run_id)
        if step is not None and job.root.is_dir():
            job.asked(step).parent.mkdir(exist_ok=True)
            job.asked(step).touch()


def release_asked(workspace: Workspace, recipes: Iterable[str]) -> None:
    """Let go of all checkpoints but those that these recipes of unfinished runs name; the worker deletes them in time."""
    kept = set()
    for text in recipes:
        with contextlib.suppress(CodexError):  # it will fail with its own sentence when its turn comes
            named = run_references(parse_recipe(text))
            kept |= {workspace.job(run_id).asked(step) for run_id, step in named if step is not None}
    for path in set(workspace.runs.glob("*/asked/step-*")) - kept:
        path.unlink(missing_ok=True)


def pin_model(workspace: Workspace, ref: str) -> str:
    """Return a bare `run:ID` with its newest step written into it; any other reference as it is.

    Raises:
        ModelError: That run has no checkpoint here.
    """
    if not ref.startswith("run:") or "@" in ref:
        return ref
    return f"{ref}@{Path(resolve_model(workspace, ref)).name.replace('checkpoint-', 'step-')}"


def pinned(recipe: BaseRecipe, told: Mapping[str, str]) -> BaseRecipe:
    """Return a recipe with references written as `told`."""
    values = recipe.model_dump(by_alias=True, exclude_defaults=True)
    values["kind"] = getattr(recipe, "kind", "")
    if "model" in values:
        name = values["model"]["model_name_or_path"]
        values["model"]["model_name_or_path"] = told.get(name, name)
    if isinstance(values.get("tokenizer"), str):
        values["tokenizer"] = told.get(values["tokenizer"], values["tokenizer"])
    return validate(values)


def reads_hub(recipe: BaseRecipe) -> bool:
    """Say whether the worker has to read a model or rows from the Hub."""
    named = [*model_references(recipe), *(each.path for each in recipe.sources)]
    return any(map(is_hub_id, named)) or any(library.find(name).repo_id for name in benchmarks_of(recipe))


def lies_on_hub(checkpoint: Path, hub_cache: Path) -> bool:
    """Say whether a checkpoint is an adapter of a Hub model that is not in the Hub client's cache here, at its commit."""
    config = durable.read_json(checkpoint / "adapter_config.json") or {}
    base = str(config.get("base_model_name_or_path", ""))
    if found := parse_run(base):
        return lies_on_hub(checkpoint.parent.parent / found[0] / f"checkpoint-{found[1]}", hub_cache)
    kept = hub_cache / f"models--{base.replace('/', '--')}"
    commit = sources.base_revision(checkpoint)
    return is_hub_id(base) and not (kept / "snapshots" / commit if commit else kept).is_dir()


def benchmarks_of(recipe: BaseRecipe) -> list[str]:
    """Return the benchmarks whose problems are the program's to find."""
    if isinstance(recipe, EvaluateRecipe):
        return [] if recipe.problems or recipe.benchmark in MEASURED else [recipe.benchmark]
    return recipe.evaluate.benchmarks if isinstance(recipe, TrainingRecipe) and recipe.evaluate else []


def target_of(run: Run, step: int) -> tuple[str | None, int]:
    """Return the run and step of the checkpoint that a run's answers are of; (None, 0) for a model from elsewhere."""
    recipe = parse_recipe(run.recipe)
    if not isinstance(recipe, EvaluateRecipe):
        return run.id, step
    found = next(map(_RUN.fullmatch, model_references(recipe)), None)
    return (found[1], int(found[2] or 0)) if found else (None, 0)
