"""Supervised fine-tuning with TRL's SFTTrainer or our own loop: in full, with LoRA, or with LoRA on a base in 4 bits."""

from trl import SFTConfig, SFTTrainer

from codex_space.core.errors import DataError, ModelError
from codex_space.core.recipe import SftRecipe
from codex_space.work import templates, token_check, tuning
from codex_space.work.attempt import Attempt
from codex_space.work.loop_sft import SftLoop


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    start = tuning.begin(attempt)
    trainer = make(start)
    sequences = token_check.from_labels(trainer.train_dataset, "labels")
    counts = token_check.check(trainer, start.prepared, sequences, start.stop_id)
    assert isinstance(start.recipe, SftRecipe)  # noqa: S101  # narrows the type
    tuning.train(start, SftLoop(attempt, trainer) if start.recipe.engine == "loop" else trainer, counts)


def make(start: tuning.Start) -> "_Trainer":
    """Return the trainer with its rows turned into tokens.

    Raises:
        CodexError: Model, rows or settings do not fit together.
    """
    masked = start.prepared.format == "messages" and start.as_chat
    masked = masked and start.recipe.train.get("assistant_only_loss", True)
    if masked and not templates.marks_answers(start.tokenizer):
        raise ModelError(
            "the model's chat template does not say which tokens are the assistant's",
            where="chat_template",
            cure="Set chat_template: codex, or train on the whole conversation with train.assistant_only_loss: false.",
        )
    config = start.arguments(SFTConfig, assistant_only_loss=masked)
    _fit_packing(start, config)
    pairs = start.prepared.format == "prompt_completion" and start.as_chat
    try:
        return start.build(_Trainer, start.load_model(), config, start.read(_as_turns if pairs else None))
    except RuntimeError as error:
        if "no assistant tokens" in str(error):
            raise DataError(
                "a row holds no answer to learn from", where="datasets", cure="Check its messages."
            ) from error
        raise


def _fit_packing(start: tuning.Start, config: SFTConfig) -> None:
    """Take one packed row at a time where attention is not FlashAttention's, the rows of a step staying as many.

    TRL lays a micro-batch of packed rows end to end. FlashAttention takes that as separate texts; the others get a dense
    mask of its length squared, which for several rows costs that many times the memory and time of one.
    """
    attention, rows = start.recipe.model.attn_implementation, config.per_device_train_batch_size
    is_flat = config.padding_free or (config.packing and config.packing_strategy.startswith("bfd"))
    if not is_flat or attention.startswith("flash") or rows == 1:
        return
    config.per_device_train_batch_size = config.per_device_eval_batch_size = 1
    config.gradient_accumulation_steps *= rows
    start.attempt.say(
        "warning",
        text=f"packing with {attention} attention takes one packed row at a time: per_device_train_batch_size {rows} became "
        f"gradient_accumulation_steps {config.gradient_accumulation_steps}; each step sees as many rows as before",
    )


class _Trainer(tuning.Ours, SFTTrainer):
    """TRL's."""


def _as_turns(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
