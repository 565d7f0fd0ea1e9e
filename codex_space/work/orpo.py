"""Odds ratio preference optimisation with TRL's (experimental) ORPOTrainer: chosen answers in, rejected ones out."""

import warnings
from typing import Any

import torch

from codex_space.work import token_check, tuning
from codex_space.work.attempt import Attempt

with warnings.catch_warnings(action="ignore"):  # that it is experimental; the kind is the person's choice
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer


def run(attempt: Attempt) -> None:
    """Train what the recipe says.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    start = tuning.begin(attempt)
    trainer = make(start)
    sequences = token_check.from_labels(trainer.train_dataset, "chosen_labels", "rejected_labels")
    tuning.train(start, trainer, token_check.check(trainer, start.prepared, sequences, start.stop_id))


def make(start: tuning.Start) -> "_Trainer":
    """Return the trainer with its rows turned into tokens.

    Raises:
        CodexError: Model, rows or settings do not fit together.
    """
    config = start.arguments(ORPOConfig, remove_unused_columns=False)
    # left to attach them, this trainer would first turn what a 4-bit base keeps in 16 bits into 32
    attaches = not start.recipe.model.load_in_4bit
    return start.build(_Trainer, start.load_model(), config, start.read_answers(), attaches=attaches)


class _Trainer(tuning.Ours, ORPOTrainer):
    """TRL's, with the tokens of both answers counted."""

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        masks = [inputs[f"{name}_attention_mask"].flatten() for name in ("chosen", "rejected")]
        super()._track_num_input_tokens({"input_ids": inputs["chosen_input_ids"], "attention_mask": torch.cat(masks)})
