"""Direct preference optimisation with TRL's DPOTrainer, and the other losses over pairs of answers it knows."""

from typing import cast

from trl import DPOConfig, DPOTrainer

from codex_space.work import token_check, tuning
from codex_space.work.attempt import Attempt


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    start = tuning.begin(attempt)
    trainer = make(start)
    sequences = token_check.from_answers(
        trainer.train_dataset,
        [("prompt_ids", "chosen_ids"), ("prompt_ids", "rejected_ids")],
        cast("DPOConfig", trainer.args).max_length,
    )
    tuning.train(start, trainer, token_check.check(trainer, start.prepared, sequences, start.stop_id))


def make(start: tuning.Start) -> "_Trainer":
    """Return the trainer with its rows turned into tokens.

    Raises:
        CodexError: Model, rows or settings do not fit together.
    """
    config = start.arguments(DPOConfig)
    # With adapters the reference is the base without them. Otherwise TRL would load it by name, at no fixed commit.
    needs_reference = start.recipe.lora is None and not config.precompute_ref_log_probs
    return start.build(
        _Trainer,
        start.load_model(),
        config,
        start.read_answers(),
        ref_model=start.load_model() if needs_reference else None,
    )


class _Trainer(tuning.Ours, DPOTrainer):
    """TRL's."""
