"""A reward model with TRL's RewardTrainer (Bradley-Terry): one number for an answer, higher for the chosen one."""

from typing import cast

from transformers import set_seed
from trl import RewardConfig, RewardTrainer

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
        [(None, "chosen_ids"), (None, "rejected_ids")],
        cast("RewardConfig", trainer.args).max_length,
    )
    tuning.train(start, trainer, token_check.check(trainer, start.prepared, sequences, None))


def make(start: tuning.Start) -> "_Trainer":
    """Return the trainer with its rows turned into tokens.

    Raises:
        CodexError: Model, rows or settings do not fit together.
    """
    set_seed(start.recipe.seed)  # the head that gives the number starts at random
    config = start.arguments(RewardConfig)
    # attached before the trainer sets the seed again, so that head and adapters start as they do under `trl reward`
    return start.build(_Trainer, start.load_model(scores=True), config, start.read_answers(), attaches=False)


class _Trainer(tuning.Ours, RewardTrainer):
    """TRL's."""
