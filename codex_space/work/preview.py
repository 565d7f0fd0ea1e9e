"""A warm worker that shows rows as the trainer will see them: every token, and whether it is trained, masked or cut off.

Asked     {"id", "op": "open", "job": FOLDER}        a job folder with recipe.yaml and launch.json; answered with counts
          {"id", "op": "row", "row": NUMBER, "limit"} from 0; answered with its tokens, at most `limit` of each side
Answered  {"id", "done": true, ...}, or {"id", "error": {what, where, cure}}

The tokens come out of the very trainer that a run builds, made here of those rows alone and of a model that has this
vocabulary and nothing else: weights are neither fetched nor loaded. It ends when its standard input closes.
"""

import dataclasses
import importlib
import json
import logging
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import datasets
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel, Trainer
from transformers.utils import logging as transformers_logging

from codex_space.core.errors import CodexError, DataError
from codex_space.core.events import EventWriter
from codex_space.core.paths import JobDir
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.work import tuning
from codex_space.work.attempt import Attempt, StopFlag, read_attempt
from codex_space.work.failures import explain

log = logging.getLogger("codex_space.work.preview")
TRAINED, MASKED, CUT, STOP = "trained", "masked", "cut", "stop"
SAMPLE_ROWS, SAMPLE_BYTES = 2000, 4_000_000
KEPT_WHOLE, LENGTH_STEP = 0.99, 64
_WHOLE = 1 << 30  # a max_length that cuts nothing
_NUMBER = "row_number"
_BROKEN, _CHARACTER_TOKENS = "\N{REPLACEMENT CHARACTER}", 8
# How the machine computes, and how often: none of it changes a token, and some of it wants a GPU.
_ABOUT_COMPUTING = {
    "bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "use_liger_kernel", "use_kernels", "optim", "optim_args", "fsdp", "fsdp_config", "deepspeed",
    "precompute_ref_log_probs", "pad_to_multiple_of", "activation_offloading", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "dataset_num_proc",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tokens:
    """One sequence of a batch without its padding."""

    ids: list[int]
    trained: list[bool]


@dataclasses.dataclass(frozen=True)
class Preview(tuning.Start):
    """The start of a run, for a few of its rows and without weights; `whole` cuts and packs nothing."""

    rows: tuple[dict[str, Any], ...] = ()
    whole: bool = False

    def arguments(self, kind: type[tuning.Arguments], **defaults: Any) -> tuning.Arguments:  # noqa: ANN401  # the trainer's own
        """Return the run's own, in which nothing is cut where the whole rows are asked for."""
        config: Any = super().arguments(kind, **defaults)
        if self.whole:
            for name in ("packing", "padding_free"):
                if hasattr(config, name):
                    setattr(config, name, False)
            config.max_length = None if config.max_length is None else _WHOLE
        return config

    def load_model(self, *, scores: bool = False) -> PreTrainedModel:
        """Return the smallest model with this vocabulary; trainers ask for one before they look at a row."""
        fields: dict[str, Any] = {"vocab_size": len(self.tokenizer), "num_labels": 1, "num_attention_heads": 1}
        fields |= {"hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1}
        config = LlamaConfig(**fields)
        return (LlamaForSequenceClassification if scores else LlamaForCausalLM)(config)

    def read(self, change: Callable[[Any], dict[str, Any]] | None = None) -> tuple[tuning.Rows, None]:
        """Return the rows, each one with its place among them."""
        rows = tuning.Rows.from_list(list(self.rows))
        rows = rows.map(change) if change else rows
        return rows.add_column(_NUMBER, list(range(len(rows)))), None


class Unheard(Attempt):
    """Says nothing: the job folder is no run's, and nobody reads its events."""

    def say(self, e: str, **fields: Any) -> None:  # noqa: ANN401  # as the one who speaks
        """Keep it."""


class Opened:
    """One recipe: its rows, and what they come to."""

    def __init__(self, attempt: Attempt) -> None:
        """Prepare the rows and load the tokenizer.

        Raises:
            CodexError: Why a run of it could not start.
        """
        if not isinstance(attempt.recipe, TuningRecipe):
            raise DataError(
                f"kind {attempt.recipe.kind} cuts its text into blocks and trains every token",
                where="kind",
                cure="Look at the tokens of a kind that tunes a model: sft, dpo, kto, orpo, reward.",
            )
        kept = {name: value for name, value in attempt.recipe.train.items() if name not in _ABOUT_COMPUTING}
        recipe = attempt.recipe.model_copy(update={"train": kept, "lora": None})
        given: dict[str, Any] = {**vars(attempt), "recipe": recipe}
        self._start = tuning.begin(Unheard(**given), weights=False)
        self._make: Callable[[tuning.Start], Trainer] = importlib.import_module(f"codex_space.work.{recipe.kind}").make
        self._file = pq.ParquetFile(self._start.prepared.train)
        self.num_rows = self._start.prepared.num_train

    def counts(self) -> dict[str, Any]:
        """Return shares and lengths of the rows, or of a part spread over them where they are many."""
        numbers = self._sample()
        rows = self._read(numbers)
        whole, used = self._trainer(rows, whole=True), self._trainer(rows)
        lengths: list[int] = []
        longest = (-1, 0)
        for index, sequences in _collated(whole):
            lengths += [len(each.ids) for each in sequences]
            longest = max(longest, (max(len(each.ids) for each in sequences), -numbers[index]))
        kept = trained = stops = 0
        for _, sequences in _collated(used):
            for each in sequences:
                kept += len(each.ids)
                trained += sum(each.trained)
                stops += sum(t and i == self._start.stop_id for i, t in zip(each.ids, each.trained, strict=True))
        total = sum(lengths)
        return {
            "num_rows": self.num_rows,
            "num_looked_at": len(numbers),
            "total_tokens": total,
            "trained_tokens": trained,
            "trained_share": trained / kept if kept else 0.0,
            "truncated_tokens": total - kept,
            "truncated_share": (total - kept) / total if total else 0.0,
            "stop_token": self._start.tokenizer.decode([self._start.stop_id]),
            "is_stop_trained": stops > 0,
            "max_length": getattr(used.args, "max_length", None),
            "proposed_max_length": propose_max_length(lengths, self._start.tokenizer.model_max_length),
            "longest_row": -longest[1],
            "longest_tokens": longest[0],
            "histogram": histogram(lengths),
        }

    def row(self, number: int, limit: int | None) -> dict[str, Any]:
        """Return one row's tokens, side by side where it holds two answers.

        Raises:
            DataError: There is no such row.
        """
        if not 0 <= number < self.num_rows:
            raise DataError(
                f"there is no row {number:,}", where="row", cure=f"The training rows are 0 to {self.num_rows - 1:,}."
            )
        rows = self._read([number])
        (_, whole), *_ = _collated(self._trainer(rows, whole=True))
        trainer = self._trainer(rows)
        used = [sequences for _, sequences in _collated(trainer)]
        ends_kept = getattr(trainer.args, "truncation_mode", "") == "keep_end"
        names = ["chosen", "rejected"] if len(whole) == 2 else [_label(rows[0])]
        sides = []
        for at, (name, each) in enumerate(zip(names, whole, strict=True)):
            states = [
                STOP if is_trained and token == self._start.stop_id else TRAINED if is_trained else MASKED
                for sequences in used
                for token, is_trained in zip(sequences[at].ids, sequences[at].trained, strict=True)
            ]
            cut = [CUT] * (len(each.ids) - len(states))
            states = cut + states if ends_kept else states + cut
            sides.append({"name": name, **self._told(each.ids, states, limit)})
        return {"row": number, "num_rows": self.num_rows, "sides": sides}

    def _told(self, ids: list[int], states: list[str], limit: int | None) -> dict[str, Any]:
        counts = {state: states.count(state) for state in (TRAINED, MASKED, CUT, STOP)}
        num_hidden = max(0, len(ids) - limit) if limit else 0
        shown = range(len(ids))
        at = len(ids)
        if num_hidden and limit:  # the ends say most: how it begins, and whether it stops
            at = limit * 3 // 4
            shown = [*range(at), *range(at + num_hidden, len(ids))]
        texts = self._texts([ids[i] for i in shown])
        tokens = [{"id": ids[i], "text": text, "state": states[i]} for i, text in zip(shown, texts, strict=True)]
        return {"num_tokens": len(ids), "counts": counts, "num_hidden": num_hidden, "hidden_at": at, "tokens": tokens}

    def _texts(self, ids: Sequence[int]) -> list[str]:
        """Return each token's text; a character made of several tokens is told at the first, the others are empty."""
        decode = self._start.tokenizer.decode
        texts = [str(decode([token])) for token in ids]
        at = 0
        while at < len(ids):
            end, text = at + 1, texts[at]
            while _BROKEN in text and end < min(len(ids), at + _CHARACTER_TOKENS):
                end += 1
                text = str(decode(list(ids[at:end])))
            if _BROKEN in text:
                end = at + 1
            else:
                texts[at:end] = [text, *[""] * (end - at - 1)]
            at = end
        return texts

    def _trainer(self, rows: list[dict[str, Any]], *, whole: bool = False) -> Trainer:
        fields = {each.name: getattr(self._start, each.name) for each in dataclasses.fields(tuning.Start)}
        return self._make(Preview(**fields, rows=tuple(rows), whole=whole))

    def _sample(self) -> list[int]:
        meta = self._file.metadata
        size = sum(meta.row_group(at).total_byte_size for at in range(meta.num_row_groups))
        num = min(self.num_rows, SAMPLE_ROWS, max(1, SAMPLE_BYTES * self.num_rows // max(1, size)))
        return sorted(random.Random(0).sample(range(self.num_rows), num))  # noqa: S311  # no secret

    def _read(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows by ascending number; only the row groups they lie in are read."""
        found: list[dict[str, Any]] = []
        first, left = 0, list(numbers)
        for at in range(self._file.metadata.num_row_groups):
            end = first + self._file.metadata.row_group(at).num_rows
            here = [number - first for number in left if number < end]
            if here:
                found += self._file.read_row_group(at).take(here).to_pylist()
                left = left[len(here) :]
            first = end
        return found


def propose_max_length(lengths: Sequence[int], longest_allowed: int = _WHOLE) -> int:
    """Return the smallest multiple of 64 tokens that leaves 99 % of the sequences whole, within what the model takes."""
    if not lengths:
        return LENGTH_STEP
    at = math.ceil(KEPT_WHOLE * len(lengths)) - 1
    wanted = -(-sorted(lengths)[at] // LENGTH_STEP) * LENGTH_STEP
    return max(1, min(max(wanted, LENGTH_STEP), longest_allowed))


def histogram(lengths: Sequence[int], num_bars: int = 12) -> list[dict[str, int]]:
    """Return bars of equal width, a multiple of 64 tokens where there is room: `upto` is the longest length in a bar."""
    top = max(lengths, default=0)
    width = max(1, -(-top // num_bars))
    width = -(-width // LENGTH_STEP) * LENGTH_STEP if width > LENGTH_STEP // 4 else width
    bars = [{"upto": upto, "count": 0} for upto in range(width, top + width, width)]
    for length in lengths:
        bars[max(0, length - 1) // width]["count"] += 1
    return bars


def _collated(trainer: Trainer) -> Iterator[tuple[int, list[Tokens]]]:
    """Yield each row of the trainer as its collator gives it to the model, with its place in the rows read."""
    rows: Any = trainer.train_dataset
    for place in range(len(rows)):
        row = rows[place]
        yield row.get(_NUMBER, 0), sequences_of(trainer.data_collator([row]))


def sequences_of(batch: dict[str, Any]) -> list[Tokens]:
    """Return the sequences of a batch; a reward model's loss is of a whole answer, so each of its tokens counts."""
    if "chosen_input_ids" in batch:  # ORPO's collator keeps the two apart
        sides = [{key[len(side) :]: batch[key] for key in batch if key.startswith(side)} for side in _SIDES]
        return [each for side in sides for each in sequences_of(side)]
    ids = batch["input_ids"]
    there = batch["attention_mask"] == 1 if "attention_mask" in batch else torch.ones_like(ids, dtype=torch.bool)
    trained = there
    if "labels" in batch:
        trained = batch["labels"] != -100
    elif "completion_mask" in batch:
        trained = batch["completion_mask"] == 1
    return [Tokens(i[t].tolist(), m[t].tolist()) for i, t, m in zip(ids, there, trained, strict=True)]


_SIDES = ("chosen_", "rejected_")


def _label(row: dict[str, Any]) -> str:
    return "" if "label" not in row else "good answer" if row["label"] else "bad answer"


class Server:
    """Answers one request after the other until the input closes."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        """Take the two pipes."""
        self._source, self._sink = source, sink
        self._opened: Opened | None = None

    def serve(self) -> None:
        """Answer each line."""
        for line in self._source:
            request = json.loads(line)
            try:
                reply = self._reply(request)
            except Exception as error:  # the person gets one sentence, the log the rest
                if not isinstance(error, CodexError):
                    log.exception("request %s failed", request.get("id"))
                told = explain(error, where="tokens")
                reply = {"error": {"what": told.what, "where": told.where, "cure": told.cure}}
            self._sink.write(json.dumps({"id": request.get("id"), "done": True, **reply}) + "\n")
            self._sink.flush()

    def _reply(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("op") == "open":
            self._opened = None
            job = JobDir(Path(request["job"]))
            with EventWriter(job.events) as events:
                clock = time.time  # noqa: TID251  # the worker's composition root
                opened = Opened(read_attempt(job, events, clock=clock, stop=StopFlag(), check_only=True))
                counts = opened.counts()
            self._opened = opened
            return counts
        if self._opened is None:
            raise DataError("no recipe is open", where="row", cure="Open one first.")
        return self._opened.row(int(request["row"]), request.get("limit"))


def main() -> None:
    """Serve on standard input and output; everything else that is written goes to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Server(sys.stdin, answers).serve()


if __name__ == "__main__":
    main()
