"""Supervised fine-tuning with TRL's SFTTrainer: in full, with LoRA, or with LoRA on a base in 4 bits."""

from trl import SFTConfig, SFTTrainer

from codex_space.core.errors import DataError, ModelError
from codex_space.work import templates, token_check, tuning
from codex_space.work.attempt import Attempt


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    start = tuning.begin(attempt)
    masked = start.prepared.format == "messages" and start.as_chat
    masked = masked and start.recipe.train.get("assistant_only_loss", True)
    if masked and not templates.marks_answers(start.tokenizer):
        raise ModelError(
            "the model's chat template does not say which tokens are the assistant's",
            where="chat_template",
            cure="Set chat_template: codex, or train on the whole conversation with train.assistant_only_loss: false.",
        )
    config = start.arguments(SFTConfig, assistant_only_loss=masked)
    pairs = start.prepared.format == "prompt_completion" and start.as_chat
    try:
        trainer = tuning.build(start, _Trainer, start.load_model(), config, start.read(_as_turns if pairs else None))
    except RuntimeError as error:
        if "no assistant tokens" in str(error):
            raise DataError(
                "a row holds no answer to learn from", where="datasets", cure="Check its messages."
            ) from error
        raise
    sequences = token_check.from_labels(trainer.train_dataset, "labels")
    tuning.train(start, trainer, token_check.check(trainer, start.prepared, sequences, start.stop_id))


class _Trainer(tuning.Ours, SFTTrainer):
    """TRL's."""


def _as_turns(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
