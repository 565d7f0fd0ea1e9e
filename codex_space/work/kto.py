"""Kahneman-Tversky optimisation with TRL's KTOTrainer: learning from single answers marked good or bad."""

from typing import cast

from trl import KTOConfig, KTOTrainer

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
        trainer.train_dataset, [("prompt_ids", "completion_ids")], cast("KTOConfig", trainer.args).max_length
    )
    tuning.train(start, trainer, token_check.check(trainer, start.prepared, sequences, start.stop_id))


def make(start: tuning.Start) -> "_Trainer":
    """Return the trainer with its rows turned into tokens.

    Raises:
        CodexError: Model, rows or settings do not fit together.
    """
    # Each row's KL answer is a neighbour's in its batch of the training size: evaluation has to cut the same batches.
    batch_rows = start.recipe.train.get("per_device_train_batch_size", KTOConfig.per_device_train_batch_size)
    config = start.arguments(KTOConfig, per_device_eval_batch_size=batch_rows)
    train, validation = start.read_answers()
    needs_reference = start.recipe.lora is None and not config.precompute_ref_log_probs
    return start.build(
        _Trainer,
        start.load_model(),
        config,
        # TRL keeps the order of the rows for the same reason; files tend to be sorted by prompt or by label.
        (train.shuffle(seed=start.recipe.seed), validation.shuffle(seed=start.recipe.seed) if validation else None),
        ref_model=start.load_model() if needs_reference else None,
    )


class _Trainer(tuning.Ours, KTOTrainer):
    """TRL's."""
