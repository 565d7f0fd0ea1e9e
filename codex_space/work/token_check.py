"""Count what would be trained, on the trainer's own tokens, and refuse what would learn nothing or never stop."""

from dataclasses import dataclass

import datasets
import numpy as np
from trl import SFTTrainer

from codex_space.core.errors import TrainingError
from codex_space.data.prepare import Prepared

IGNORED = -100  # torch's label for "no loss here"


@dataclass(frozen=True)
class Counts:
    """What the tokenised training rows hold; `num_cut` counts rows that lost their end."""

    num_rows: int
    total_tokens: int
    trained_tokens: int
    num_cut: int
    max_length: int | None

    @property
    def cut_warning(self) -> str:
        """One sentence for the page."""
        return (
            f"{self.num_cut:,} of {self.num_rows:,} rows are cut at max_length {self.max_length}: "
            "the model does not see how they end"
        )


def check(trainer: SFTTrainer, prepared: Prepared, stop_id: int, max_length: int | None) -> Counts:
    """Return the counts of the rows as the trainer will see them.

    Raises:
        TrainingError: No token would be trained, every row loses its end, or the end of an answer is never trained.
    """
    dataset = trainer.train_dataset
    assert isinstance(dataset, datasets.Dataset)  # noqa: S101  # the rows come from a file
    total = trained = num_stops = num_whole = 0
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        column = batch["labels"].combine_chunks()
        labels = column.flatten().to_numpy(zero_copy_only=False)
        total += labels.size
        trained += int((labels != IGNORED).sum())
        num_stops += int((labels == stop_id).sum())
        ends = np.asarray(column.offsets)[1:] - column.offsets[0].as_py()
        starts = np.concatenate([[0], ends[:-1]])
        num_whole += sum(bool((labels[a:b] == stop_id).any()) for a, b in zip(starts, ends, strict=True))
    _require(trained, num_stops, prepared.num_train, max_length)
    _require_collated(trainer, dataset)
    packed = bool(getattr(trainer.args, "packing", False))
    num_cut = 0 if packed else prepared.num_train - num_whole
    num_rows = prepared.num_train if packed else len(dataset)
    return Counts(num_rows, total, trained, num_cut, max_length)


def _require(trained: int, num_stops: int, num_rows: int, max_length: int | None) -> None:
    if not trained:
        raise TrainingError(
            f"none of the {num_rows:,} rows has a token to train on: their prompts alone fill max_length {max_length}",
            where="train.max_length",
            cure="Raise train.max_length, or shorten the prompts.",
        )
    if not num_stops:
        raise TrainingError(
            f"the end of an answer is never trained (all rows are cut at max_length {max_length}, or the chat template "
            "leaves the stop token out), so the model would never stop",
            where="train.max_length",
            cure="Raise train.max_length; if that does not help, set chat_template: codex.",
        )


def _require_collated(trainer: SFTTrainer, dataset: datasets.Dataset) -> None:
    """What reaches the model is what the collator makes of the rows."""
    columns = [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
    rows = [dataset.select_columns(columns)[index] for index in range(min(4, len(dataset)))]
    if not (trainer.data_collator(rows)["labels"] != IGNORED).any():
        raise TrainingError("the batches hold no token to train on", where="train", cure="Check completion_only_loss.")
