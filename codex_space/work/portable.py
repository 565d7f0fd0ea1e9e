"""Write a recipe as what plain TRL trains from: YAML for its command or a Python script, with rows and model beside it.

Both train exactly as our worker does on this kind of machine. What TRL's command has no word for goes into the folder
of the model beside it (a chat template, embeddings of added tokens, a merged adapter), or is refused with the reason.
"""

import importlib
import shutil
from pathlib import Path
from typing import cast

import torch
from huggingface_hub import snapshot_download

from codex_space.core.errors import RecipeError
from codex_space.core.paths import MANIFEST
from codex_space.core.recipe import TRL_COMMANDS
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.work import models, portable_text, tuning
from codex_space.work.attempt import Attempt
from codex_space.work.checkpoint import is_for_resume
from codex_space.work.portable_plan import DATA, MODEL, TEMPLATE, Plan, Recorded

_WEIGHTS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def run(attempt: Attempt) -> None:
    """Write the folder that launch.json's `portable` asks for: `trl` or `python`.

    Raises:
        CodexError: Why the recipe cannot be written so, or could not be trained at all.
    """
    recipe, wanted = attempt.recipe, attempt.portable
    if not isinstance(recipe, TuningRecipe):
        raise RecipeError(f"kind {recipe.kind} does not train with TRL", where="kind", cure="Use the command line.")
    plan = Plan(attempt, recipe)
    _refuse(plan, wanted)
    begun = tuning.begin(attempt)
    start = Recorded(**vars(begun), plan=plan)
    importlib.import_module(f"codex_space.work.{recipe.kind}").make(start)
    out = attempt.job.portable
    shutil.rmtree(out, ignore_errors=True)
    (out / DATA).mkdir(parents=True)
    plan.dtype = str(models.choose_dtype(recipe.model, adapters=recipe.lora is not None)).removeprefix("torch.")
    if found := models.quantization(recipe.model):
        plan.compute_dtype = str(found.bnb_4bit_compute_dtype).removeprefix("torch.")
    if wanted == "trl":
        _refuse_for_command(plan)
    _write_model(start, out, wanted)
    _write_rows(plan, out)
    plan.notes += _left_out(recipe)
    if wanted == "trl":
        (out / portable_text.YAML_FILE).write_text(portable_text.render_yaml(plan), encoding="utf-8")
    else:
        (out / portable_text.SCRIPT).write_text(portable_text.render_script(plan), encoding="utf-8")
    attempt.say("done", step=0, summary={})


def _refuse(plan: Plan, wanted: str) -> None:
    """Refuse what plain TRL would train differently.

    Raises:
        RecipeError: With the reason.
    """
    recipe = plan.recipe
    if recipe.checkpoints.early_stopping_patience:
        raise RecipeError(
            "plain TRL would not end this run early, and so train longer",
            where="checkpoints.early_stopping_patience",
            cure="Take it out for the export.",
        )
    if recipe.lora and recipe.lora.continue_adapter:
        raise RecipeError(
            "an adapter that is trained on cannot be written down for plain TRL",
            where="lora.continue_adapter",
            cure="Use the command line, or take it out: the adapter is then merged, and a second one trained on top.",
        )
    if recipe.train.get("train_sampling_strategy") == "group_by_length":
        raise RecipeError(
            "plain TRL would put rows of like length together in another order than ours, which an exact resume has to fix",
            where="train.train_sampling_strategy",
            cure="Take it out for the export.",
        )
    if recipe.train.get("chat_template_path"):
        raise RecipeError(
            "it names a file of this machine",
            where="train.chat_template_path",
            cure="Take it out and set chat_template, or use the command line.",
        )
    if wanted == "trl" and plan.kind not in TRL_COMMANDS:
        raise RecipeError(f"the trl command has no kind {plan.kind}", where="kind", cure="Export a Python script.")


def _refuse_for_command(plan: Plan) -> None:
    """Refuse what the `trl` command has no option for.

    Raises:
        RecipeError: With the reason.
    """
    cure = "Export a Python script instead."
    if plan.lora and plan.lora.trainable_token_indices:
        raise RecipeError(
            "the trl command cannot train the embeddings of added tokens beside adapters", where="lora", cure=cure
        )
    if plan.lora and plan.lora.ensure_weight_tying:
        raise RecipeError(
            "the trl command cannot keep tied weights tied in modules_to_save", where="lora.modules_to_save", cure=cure
        )
    if plan.recipe.model.load_in_4bit and plan.dtype != plan.compute_dtype:
        told = f"the trl command computes 4-bit weights in model.dtype ({plan.dtype}), ours in {plan.compute_dtype}"
        raise RecipeError(told, where="model.dtype", cure=f"Set model.dtype: {plan.compute_dtype} or auto.")
    if plan.values["fp16"] and (plan.recipe.model.load_in_4bit or (plan.lora is None and plan.dtype == "float16")):
        told = "our worker keeps trained weights in 32 bits beside fp16, which the trl command cannot"
        raise RecipeError(told, where="train.fp16", cure=cure)


def _write_model(start: Recorded, out: Path, wanted: str) -> None:
    """Write the model's folder where no Hub id says the same, and the chat template where one does but for that."""
    plan, source, tokenizer = start.plan, start.source, start.tokenizer
    is_local = Path(source.path).is_dir()
    own = None if is_local else models.load_tokenizer(source.path, source.revision).chat_template
    plan.template = start.as_chat and not is_local and own != tokenizer.chat_template
    takes_template = wanted == "python" or "chat_template_path" in plan.config.__dataclass_fields__
    if not is_local and not start.new_tokens and (takes_template or not plan.template):
        plan.model, plan.revision = source.path, source.revision
        if plan.template:
            (out / TEMPLATE).write_text(cast("str", tokenizer.chat_template), encoding="utf-8")
        return
    plan.template = False
    if start.new_tokens:
        dtype = getattr(torch, plan.dtype)
        model = models.load_model(source.path, revision=source.revision, dtype=dtype)
        models.grow_embeddings(model, len(tokenizer))
        model.save_pretrained(out / MODEL)
    else:
        folder = (
            source.path
            if is_local
            else snapshot_download(source.path, revision=source.revision, allow_patterns=_WEIGHTS)
        )
        (out / MODEL).mkdir()
        for path in {path for pattern in _WEIGHTS for path in Path(folder).glob(pattern)}:
            if path.name != MANIFEST and not is_for_resume(path.name):
                shutil.copyfile(path, out / MODEL / path.name)
    (out / MODEL / TEMPLATE).unlink(missing_ok=True)
    tokenizer.save_pretrained(out / MODEL)


def _write_rows(plan: Plan, out: Path) -> None:
    train, validation = plan.rows or (None, None)
    for name, rows in (("train", train), ("validation", validation)):
        if rows is not None:
            rows.to_parquet(str(out / DATA / f"{name}.parquet"))


def _left_out(recipe: TuningRecipe) -> list[str]:
    told = {
        "evaluate": "benchmarks asked while training",
        "samples": "samples written while training",
        "track": "curves in other programs (report_to)",
        "hub": "pushing to the Hub (push_to_hub)",
    }
    left = [f"left out: {text}" for name, text in told.items() if getattr(recipe, name) is not None]
    return [*left, "left out: the export afterwards"] if recipe.after else left
