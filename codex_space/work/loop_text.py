"""Pretraining with our own loop: rows of one length from token shards, a fused loss, bits a byte, and a place that is one number."""

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.work import loop_state
from codex_space.work.attempt import Attempt
from codex_space.work.loop import IGNORED, Batch, Loop, multiplies_bf16
from codex_space.work.loop_arguments import LoopArguments
from codex_space.work.optimizers import Optimizers, course
from codex_space.work.packing import Rows
from codex_space.work.shards import Reader, Tokens


@dataclass(frozen=True)
class Corpus:
    """What is trained on and what is held out, in rows of `length` tokens.

    Attributes:
        key: Of the tokens trained on: their texts and tokenizer.
        held: None where nothing is held out.
    """

    rows: Rows
    length: int
    key: str
    held: Tokens | None = None


class Scored(torch.nn.Module):
    """A model with its loss inside, so that compiling and wrapping it take in both."""

    def __init__(self, model: PreTrainedModel, *, bf16: bool) -> None:
        """Take the model; with bf16 what multiplies is computed in 16 bits."""
        super().__init__()
        self.model, self._bf16 = model, bf16

    def forward(self, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the loss in nats; targets are the inputs one further, -100 for none."""
        ids = inputs["input_ids"]
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._bf16):
            hidden = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            head: Any = self.model.get_output_embeddings()
            if ids.device.type == "cuda":  # logits of a large vocabulary are never all there
                dtype = torch.bfloat16 if self._bf16 else hidden.dtype  # autocast does not know this one
                return functional.linear_cross_entropy(
                    hidden.flatten(0, 1).to(dtype),
                    head.weight.to(dtype),
                    targets.flatten(),
                    reduction="sum",
                    ignore_index=IGNORED,
                    options=torch.nn.LinearCrossEntropyOptions(),
                )
            logits = head(hidden)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")


class TextLoop(Loop):
    """Trains a model of random weights on a corpus."""

    def __init__(
        self,
        attempt: Attempt,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        corpus: Corpus,
        arguments: LoopArguments,
        *,
        shares_model: bool = False,
    ) -> None:
        """Put the model in place; with `shares_model` each process holds a part of it (FSDP2).

        Raises:
            RecipeError: Settings that are not known or do not go together.
        """
        state = PartialState(cpu=not torch.cuda.is_available())
        device = torch.device(state.device or "cpu")
        rows_a_step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * self.world_size
        per_epoch = max(corpus.rows.num_rows // rows_a_step, 1)
        steps = arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * per_epoch)
        super().__init__(steps, rows_a_step, corpus.rows.num_rows, arguments.logging_steps)
        self._attempt, self._tokenizer, self.corpus, self.args = attempt, tokenizer, corpus, arguments
        self._rank, self._device, self.eval_dataset = state.process_index, device, corpus.held
        if arguments.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        self.scored = Scored(model, bf16=multiplies_bf16() if arguments.bf16 is None else arguments.bf16)
        if shares_model:
            loop_state.share(self.scored, model, device)
        self.model = model if shares_model else model.to(device)
        self._share = course(arguments, steps)
        self.optimizers = Optimizers(self.model, arguments)

    def micro_batches(self, step: int) -> list[Batch]:
        """Return this process's batches of a step: what they hold follows from the step alone."""
        size = self.args.per_device_train_batch_size
        first = step * self.rows_a_step + self._rank * size
        firsts = range(first, first + self.rows_a_step, size * self.world_size)
        micro = []
        for start in firsts:
            rows = self._tensor([self.corpus.rows.row(start + place) for place in range(size)])
            micro.append(Batch({"input_ids": rows[:, :-1]}, rows[:, 1:]))
        return micro

    def seen_tokens(self, micro: list[Batch]) -> int:
        """Return the tokens of a step of all processes."""
        return self.rows_a_step * self.corpus.length

    def update(self, step: int) -> float:
        """Change the weights by their gradients, drop those, and return the learning rate."""
        self.optimizers.step(self._share(step))
        return self.args.learning_rate * self._share(step)

    def held_batches(self) -> Iterator[Batch]:
        """Yield batches that count each held-out token but the first once, after at least half a row of what comes before it.

        Each process gets its share; where the model is shared they all get as many, since each needs the others' parts.
        """
        assert self.corpus.held is not None  # noqa: S101  # narrows the type
        reader, size = Reader(self.corpus.held), self.args.per_device_eval_batch_size
        last = len(reader) - 1
        length = min(self.corpus.length, last)
        starts = [*range(0, last - length, max(length // 2, 1)), last - length]
        counted = [0, *(start + length for start in starts[:-1])]
        windows = list(zip(starts, counted, strict=True))
        windows += [(0, length)] * (-len(windows) % self.world_size)  # count nothing
        pairs = []
        for number, (start, seen) in enumerate(windows[self._rank :: self.world_size]):
            row = reader.span(start, start + length + 1)
            targets = row[1:].copy()
            targets[: max(seen - start, 0)] = IGNORED
            pairs.append((row[:-1], targets))
            if len(pairs) == size or number == len(windows) // self.world_size - 1:
                ids = self._tensor([ids for ids, _ in pairs])
                yield Batch({"input_ids": ids}, self._tensor([targets for _, targets in pairs]))
                pairs = []

    def measures(self, nats: float, num_targets: float) -> dict[str, float]:
        """Return the loss, and bits a byte, which compare across tokenizers as a loss by token does not."""
        assert self.corpus.held is not None  # noqa: S101  # narrows the type
        bits = nats / math.log(2) / max(self.corpus.held.num_bytes, 1)
        return {**super().measures(nats, num_targets), "eval_bits_per_byte": bits}

    def _tensor(self, rows: list[np.ndarray]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack(rows))
        on_gpu = self.device.type == "cuda"
        return batch.pin_memory().to(self.device, non_blocking=True) if on_gpu else batch

    def save(self) -> None:
        """Write weights, tokenizer and all that a resume needs; the Reporter makes it a complete checkpoint."""
        folder = self._attempt.job.checkpoint(self.state.global_step)
        loop_state.write(folder, self, self._tokenizer)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: Other texts, another tokenizer, or another number of rows a step.
        """
        loop_state.read(folder, self)

    def rehearse(self, batch: int, accumulation: int, *, is_checkpointed: bool) -> None:
        """Take two steps that change no weight, to see what they need."""
        optimizers, width = Optimizers(self.model, self.args), self.corpus.length + 1
        row = torch.from_numpy(self.corpus.rows.row(0)[:width]).to(self.device)
        inputs, targets = {"input_ids": row[:-1].expand(batch, -1)}, row[1:].expand(batch, -1)
        turns = is_checkpointed and not self.args.gradient_checkpointing
        if turns:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        try:
            for _ in range(2):
                for _ in range(accumulation):
                    self.scored(inputs, targets).backward()
                optimizers.step(0.0)
        finally:
            self.model.zero_grad(set_to_none=True)
            if turns:
                self.model.gradient_checkpointing_disable()

    def time_steps(self, num_steps: int, limit_s: float = 120.0) -> dict[str, float]:
        """Train on so many batches, fewer where they take longer than the limit, and tell what a whole run takes.

        `tokens_per_s` is of the later half: compiling and warming up are over then. `evaluate_s` is one evaluation.
        """
        scored, passes, updates = self.wrapped(), [], []
        self.model.train()
        began = deadline = self._moment()
        for number in range(num_steps):
            began = self._moment()
            batch = self.micro_batches(number)[0]
            (scored(batch.inputs, batch.targets) / batch.num_targets).backward()
            middle = self._moment()
            self.update(1)
            passes.append(middle - began)
            updates.append(self._moment() - middle)
            if number and middle - deadline > limit_s:
                break
        later = len(passes) // 2
        step_s = statistics.median(passes[later:]) * self.args.gradient_accumulation_steps
        step_s += statistics.median(updates[later:])
        step_tokens = self.rows_a_step * self.corpus.length
        told = {"steps": len(passes), "step_tokens": step_tokens, "tokens_per_s": step_tokens / step_s}
        return {**told, "evaluate_s": self._time_evaluation()}

    def _time_evaluation(self, num_batches: int = 3) -> float:
        """Return the seconds that an evaluation takes, from its first batches."""
        held = self.corpus.held
        if held is None:
            return 0.0
        self.model.eval()
        took = []
        with torch.inference_mode():
            for batch in itertools.islice(self.held_batches(), num_batches):
                began = self._moment()
                self.scored(batch.inputs, batch.targets)
                took.append(self._moment() - began)
        length = min(self.corpus.length, held.num_tokens - 1)
        num_windows = 2 * held.num_tokens / length
        return statistics.median(took) * math.ceil(num_windows / self.args.per_device_eval_batch_size)

    def _moment(self) -> float:
        """Return the time once all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
