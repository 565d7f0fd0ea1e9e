"""The Start tab's first model: tokenizer, base model and tuning as three queued runs, each building on the last."""

from dataclasses import dataclass

from codex_space.core.paths import new_run_id
from codex_space.core.presets import read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.jobs import references
from codex_space.services import runs
from codex_space.services.context import Context
from codex_space.store import runs as run_rows
from codex_space.store.runs import Run

NAME = "First model"
RECIPES = {
    "stdlib": ("tokenizer/stdlib", "pretrain/first-base-cpu", "sft/first-chat-cpu"),
    "tiny": ("tokenizer/tiny-cpu", "pretrain/tiny-cpu", "sft/first-chat-cpu"),
}
_TRIAL = ("train.num_train_epochs=4", "train.per_device_train_batch_size=4", "evaluate=null")
"""The tiny model is there to see that tuning runs, not what it teaches."""
LABELS = ("tokenizer", "base model", "tuning")


@dataclass(frozen=True)
class FirstModel:
    """The three runs, in order."""

    tokenizer: Run
    pretrain: Run
    sft: Run


def start(ctx: Context, request_key: str | None = None) -> FirstModel:
    """Queue the three runs; the same `request_key` gives the same three.

    Raises:
        CodexError: As for any submit.
    """
    key = request_key or new_run_id("first", ctx.clock())
    made: list[Run] = []
    for label, preset in zip(LABELS, RECIPES[ctx.settings.first_model], strict=True):
        overrides = [f"name={NAME} - {label}"]
        if label == "base model":
            overrides.append(f"tokenizer='run:{made[-1].id}'")
        if label == "tuning":
            overrides.append(f"model.model_name_or_path='run:{made[-1].id}'")
            overrides += _TRIAL if ctx.settings.first_model == "tiny" else ()
        text = read_recipe_text(preset)
        made.append(runs.submit(ctx, text, overrides=overrides, request_key=f"{key}-{label}"))
    return FirstModel(*made)


def status(ctx: Context) -> FirstModel | None:
    """Return the newest first model, whatever its state, or None before the first press."""
    for run in run_rows.list_runs(ctx.db, limit=50, search=NAME):
        if run.kind != "sft":
            continue
        parents = references.dependencies(parse_recipe(run.recipe))
        chain = [parent for parent in _read_all(ctx, parents) if parent.kind == "pretrain"]
        if not chain:
            continue
        tokenizers = _read_all(ctx, references.dependencies(parse_recipe(chain[0].recipe)))
        if tokenizers:
            return FirstModel(tokenizers[0], chain[0], run)
    return None


def _read_all(ctx: Context, run_ids: set[str]) -> list[Run]:
    """Read the runs that are still there (a person may have deleted one)."""
    return [run for run in run_rows.list_runs(ctx.db, limit=1000) if run.id in run_ids]
