"""Count what would be trained, on the trainer's own tokens, and refuse what would learn nothing or never stop."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from transformers import Trainer

from codex_space.core.errors import TrainingError
from codex_space.data.prepare import Prepared

IGNORED = -100  # torch's label for "no loss here"


@dataclass(frozen=True)
class Tokens:
    """One sequence: its length, the tokens a loss is taken of, and whether the model is to write such an answer."""

    length: int
    trained: np.ndarray
    is_good: bool = True


@dataclass(frozen=True)
class Counts:
    """What the tokenised training rows hold; `num_cut` answers lost their end, `num_dropped` rows are not used at all."""

    num_rows: int
    num_answers: int
    total_tokens: int
    trained_tokens: int
    num_cut: int
    num_dropped: int
    max_length: int | None

    @property
    def warnings(self) -> list[str]:
        """One sentence each for the page."""
        found = []
        if self.num_cut:
            unit = "rows" if self.num_answers == self.num_rows else "answers"
            found.append(
                f"{self.num_cut:,} of {self.num_answers:,} {unit} are cut at max_length {self.max_length}: "
                "the model does not see how they end"
            )
        if self.num_dropped:
            found.append(
                f"{self.num_dropped:,} rows are not trained on: they do not fit into max_length {self.max_length}"
            )
        return found


def from_labels(dataset: Any, *columns: str) -> Iterator[Tokens]:  # noqa: ANN401  # the trainer's own
    """Yield sequences from columns of labels, the first of which holds the good answers."""
    for batch in _batches(dataset):
        for column in columns:
            for labels in _lists(batch[column]):
                yield Tokens(labels.size, labels[labels != IGNORED], column == columns[0])


def from_answers(
    dataset: Any,  # noqa: ANN401  # the trainer's own
    columns: Sequence[tuple[str | None, str]],
    max_length: int | None,
) -> Iterator[Tokens]:
    """Yield sequences from (prompt, answer) columns, cut as the collator cuts them.

    The first pair of columns holds the good answers; where there is a column `label`, it says which are.
    """
    for batch in _batches(dataset):
        labels = batch["label"].to_pylist() if "label" in dataset.column_names else None
        for number, (prompt, answer) in enumerate(columns):
            prompts = [ids.size for ids in _lists(batch[prompt])] if prompt else [0] * batch.num_rows
            for index, (before, ids) in enumerate(zip(prompts, _lists(batch[answer]), strict=True)):
                room = ids.size if max_length is None else max(0, max_length - before)
                yield Tokens(before + ids[:room].size, ids[:room], labels[index] if labels else number == 0)


def check(trainer: Trainer, prepared: Prepared, sequences: Iterable[Tokens], stop_id: int | None) -> Counts:
    """Return the counts of the rows as the trainer will see them; without `stop_id` no answer is written.

    Raises:
        TrainingError: No token would be trained, every row loses its end, or the end of an answer is never trained.
    """
    dataset: Any = trainer.train_dataset
    max_length = getattr(trainer.args, "max_length", None)
    total = trained = num_stops = num_sequences = num_whole = 0
    for sequence in sequences:
        total += sequence.length
        trained += sequence.trained.size
        num_sequences += 1
        ends = bool((sequence.trained == stop_id).any())
        num_whole += ends
        num_stops += ends and sequence.is_good
    if not trained:
        raise TrainingError(
            f"none of the {prepared.num_train:,} rows has a token to train on: max_length {max_length} is too short for "
            f"{'them' if stop_id is None else 'their prompts'}",
            where="train.max_length",
            cure="Raise train.max_length, or shorten the prompts.",
        )
    if stop_id is not None and not num_stops:
        raise TrainingError(
            f"the end of an answer is never trained (all rows are cut at max_length {max_length}, or the chat template "
            "leaves the stop token out), so the model would never stop",
            where="train.max_length",
            cure="Raise train.max_length; if that does not help, set chat_template: codex.",
        )
    _require_collated(trainer, dataset)
    packed = bool(getattr(trainer.args, "packing", False))
    return Counts(
        num_rows=prepared.num_train if packed else len(dataset),
        num_answers=num_sequences,
        total_tokens=total,
        trained_tokens=trained,
        num_cut=0 if packed or stop_id is None else num_sequences - num_whole,
        num_dropped=0 if packed else prepared.num_train - len(dataset),
        max_length=max_length,
    )


def _require_collated(trainer: Trainer, dataset: datasets.Dataset) -> None:
    """What reaches the model is what the collator makes of the rows."""
    batch = trainer.data_collator([dataset[index] for index in range(min(4, len(dataset)))])
    marks = [batch[name] != IGNORED for name in batch if name.endswith("labels")]
    marks += [batch[name] == 1 for name in batch if name == "completion_mask"]
    if marks and not any(mark.any() for mark in marks):
        raise TrainingError("the batches hold no token to train on", where="train", cure="Check completion_only_loss.")


def _batches(dataset: datasets.Dataset) -> Iterator[Any]:
    yield from dataset.with_format("arrow").iter(batch_size=1000)


def _lists(column: Any) -> list[np.ndarray]:  # noqa: ANN401  # an Arrow column of lists
    whole = column.combine_chunks()
    values = whole.flatten().to_numpy(zero_copy_only=False)
    return np.split(values, np.asarray(whole.offsets)[1:-1] - whole.offsets[0].as_py())
