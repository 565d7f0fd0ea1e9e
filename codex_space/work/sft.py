"""Supervised fine-tuning with TRL's SFTTrainer: in full, with LoRA, or with LoRA on a base in 4 bits."""

import logging
from pathlib import Path
from typing import Any, cast

import datasets
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from codex_space.core.errors import DataError, ModelError
from codex_space.core.recipe import SftRecipe
from codex_space.data.prepare import Prepared
from codex_space.work import adapters, arguments, benchmark, models, report, rows, templates, token_check
from codex_space.work.attempt import Attempt

log = logging.getLogger(__name__)


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, SftRecipe)  # noqa: S101  # narrows the type
    prepared = rows.prepare(attempt)
    attempt.say("phase", phase="model", detail=f"loading {recipe.model.model_name_or_path}")
    source = models.locate(attempt, recipe.model)
    tokenizer = models.load_tokenizer(source.path, source.revision)
    talks = prepared.format != "text" and recipe.chat_template != "none"
    if talks:
        templates.choose(tokenizer, recipe.chat_template)
    stop_id = templates.stop_id(tokenizer) if talks else int(tokenizer.eos_token_id)
    trainer = _build(attempt, recipe, source, tokenizer, prepared, as_chat=talks)
    counts = token_check.check(trainer, prepared, stop_id, recipe.train.get("max_length", 1024))
    if counts.num_cut:
        attempt.say("warning", text=counts.cut_warning)
    model = cast("PreTrainedModel", trainer.model)
    models.add_stop_token(model, stop_id)

    def finish(folder: Path) -> None:
        if model.generation_config:
            model.generation_config.save_pretrained(folder)
        templates.write_plain(folder)

    reporter = report.Reporter(
        attempt,
        evaluates=prepared.num_validation > 0,
        base_model=source.reference,
        finish=finish,
        examine=benchmark.examiner(attempt, trainer, tokenizer),
    )
    report.train(
        attempt,
        trainer,
        reporter,
        num_rows=counts.num_rows,
        trained_tokens=counts.trained_tokens,
        total_tokens=counts.total_tokens,
    )


class _Trainer(SFTTrainer):
    """Leaves the model card to the part that knows the Hub."""

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Write none: a draft would lie in the job folder and name this machine's paths."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # noqa: ANN401  # the trainer's own
        """Evaluate as the trainer does, with a copy of the random state: one evaluation more or less changes no weight."""
        with torch.random.fork_rng():
            return super().evaluate(*args, **kwargs)


def _build(
    attempt: Attempt,
    recipe: SftRecipe,
    source: models.Source,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    *,
    as_chat: bool,
) -> SFTTrainer:
    model = models.load_model(
        source.path,
        revision=source.revision,
        dtype=models.choose_dtype(recipe.model, adapters=recipe.lora is not None),
        attn_implementation=recipe.model.attn_implementation,
        quantization_config=models.quantization(recipe.model),
        device_map=models.device_map() if recipe.model.load_in_4bit else None,
    )
    masked = prepared.format == "messages" and as_chat and recipe.train.get("assistant_only_loss", True)
    if masked and not templates.marks_answers(tokenizer):
        raise ModelError(
            "the model's chat template does not say which tokens are the assistant's",
            where="chat_template",
            cure="Set chat_template: codex, or train on the whole conversation with train.assistant_only_loss: false.",
        )
    # without a GPU memory is not the limit, and the second forward pass costs a third of the speed
    defaults = {} if torch.cuda.is_available() else {"gradient_checkpointing": False}
    config = arguments.build(attempt, SFTConfig, tokens_counted="non_padding", assistant_only_loss=masked, **defaults)
    attempt.say("phase", phase="tokens", detail=f"turning {prepared.num_train:,} rows into tokens")
    train, validation = _read(attempt, prepared, as_chat=as_chat)
    try:
        trainer = _Trainer(
            model=model,
            args=config,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=tokenizer,
            peft_config=adapters.lora_config(recipe.lora, model) if recipe.lora else None,
        )
    except RuntimeError as error:
        if "no assistant tokens" in str(error):
            raise DataError(
                "a row holds no answer to learn from", where="datasets", cure="Check its messages."
            ) from error
        raise
    _require_trainable(cast("PreTrainedModel", trainer.model), recipe)
    return trainer


def _read(attempt: Attempt, prepared: Prepared, *, as_chat: bool) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """Read both files; a prompt and its completion become a conversation where a template is used."""
    cache = str(attempt.job.root / "cache")

    def read(path: Path) -> datasets.Dataset:
        dataset = datasets.Dataset.from_parquet(str(path), cache_dir=cache)
        return dataset.map(_as_turns) if as_chat and prepared.format == "prompt_completion" else dataset

    return read(prepared.train), read(prepared.validation) if prepared.num_validation else None


def _as_turns(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }


def _require_trainable(model: PreTrainedModel, recipe: SftRecipe) -> None:
    """Refuse adapters that did not attach."""
    attached = [name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" in name]
    if recipe.lora and not attached:
        raise ModelError("no adapter attached to this model", where="lora", cure="Set lora.target_modules: all-linear.")
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    log.info("%s of %s parameters are trained", f"{trainable:,}", f"{model.num_parameters():,}")
