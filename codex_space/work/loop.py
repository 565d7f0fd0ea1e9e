"""The training loop of pretraining, in plain PyTorch; accelerate is used for what concerns several processes, and that alone.

accelerate's wrappers of optimizer, scheduler and loader would each hold state of their own that an exact resume has to put
back, and know of one optimizer only. Here a run's place is one number of rows, and a step is twenty lines.
"""

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerControl, TrainerState

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.work.attempt import Attempt
from codex_space.work.loop_arguments import LoopArguments
from codex_space.work.optimizers import Optimizers, course
from codex_space.work.packing import Rows
from codex_space.work.shards import Reader, Tokens

if TYPE_CHECKING:  # it drives this loop
    from codex_space.work.report import Reporter

log = logging.getLogger(__name__)
OPTIMIZER, RANDOM, STATE = "optimizer.pt", "rng_state.pth", "trainer_state.json"
_IGNORED = -100
_ASKED = ("should_log", "should_evaluate", "should_save", "should_training_stop")


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


@dataclass(frozen=True)
class Ending:
    """Where a training ended, under the names of transformers' own."""

    global_step: int
    training_loss: float


class Scored(torch.nn.Module):
    """A model with its loss inside, so that compiling and wrapping it take in both."""

    def __init__(self, model: PreTrainedModel, *, bf16: bool) -> None:
        """Take the model; with bf16 what multiplies is computed in 16 bits."""
        super().__init__()
        self.model, self._bf16 = model, bf16

    def forward(self, ids: torch.Tensor, targets: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        """Return the loss in nats a token; targets are the inputs one further, -100 for none."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._bf16):
            hidden = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            head: Any = self.model.get_output_embeddings()
            if ids.device.type == "cuda":  # logits of a large vocabulary are never all there
                dtype = torch.bfloat16 if self._bf16 else hidden.dtype  # autocast does not know this one
                return functional.linear_cross_entropy(
                    hidden.flatten(0, 1).to(dtype),
                    head.weight.to(dtype),
                    targets.flatten(),
                    reduction=reduction,
                    ignore_index=_IGNORED,
                    options=torch.nn.LinearCrossEntropyOptions(),
                )
            logits = head(hidden)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)


class Loop:
    """Trains a model on a corpus; the Reporter hears of each step as it does from transformers' trainers."""

    def __init__(
        self,
        attempt: Attempt,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        corpus: Corpus,
        arguments: LoopArguments,
    ) -> None:
        """Put the model in place.

        Raises:
            RecipeError: Settings that are not known or do not go together.
        """
        self._attempt, self._tokenizer, self._corpus, self.args = attempt, tokenizer, corpus, arguments
        self._processes = PartialState(cpu=not torch.cuda.is_available())
        self._device = torch.device(self._processes.device or "cpu")
        self.model = model.to(self._device)
        if arguments.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        self._scored = Scored(self.model, bf16=multiplies_bf16() if arguments.bf16 is None else arguments.bf16)
        self._rows_a_step = (
            arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * self.world_size
        )
        per_epoch = max(corpus.rows.num_rows // self._rows_a_step, 1)
        self.max_steps = (
            arguments.max_steps if arguments.max_steps > 0 else math.ceil(arguments.num_train_epochs * per_epoch)
        )
        self._share = course(arguments, self.max_steps)
        self._optimizers = Optimizers(self.model, arguments)
        self.state = TrainerState(max_steps=self.max_steps, logging_steps=arguments.logging_steps)
        self.control = TrainerControl()
        self.reporter: Reporter | None = None
        self._evaluated_at = -1

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self._processes.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that saves and tells."""
        return self._processes.is_main_process

    @property
    def eval_dataset(self) -> Tokens | None:
        """What is held out."""
        return self._corpus.held

    def train(self, resume_from: Path | None = None) -> Ending:
        """Train from the start or a checkpoint up to the last step or a stop.

        Raises:
            TrainingError: The checkpoint is of other texts or another tokenizer, or the loss is no number.
        """
        state, control = self.state, self.control
        if resume_from:
            self._load(resume_from)
        self.model.train()
        self._tell("on_train_begin")
        if self._evaluated_at == state.global_step and resume_from:
            self._tell("on_save")  # an evaluation that an earlier attempt did not live to see belongs to its checkpoint
        scored = self._wrapped()
        loss = total = torch.zeros((), device=self._device)
        first = last_log = state.global_step
        while state.global_step < self.max_steps and not control.should_training_stop:
            control.should_log = control.should_evaluate = control.should_save = False
            micro = self._micro_batches(state.global_step)
            self._tell("on_step_begin")
            step_loss, norm = self._step(scored, micro)
            loss = loss + step_loss
            state.global_step += 1
            state.num_input_tokens_seen += self._rows_a_step * self._corpus.length
            state.epoch = state.global_step * self._rows_a_step / self._corpus.rows.num_rows
            self._tell("on_step_end")
            if self._logs():
                logs = {
                    "loss": self._mean(loss) / (state.global_step - last_log),
                    "grad_norm": float(norm),
                    "learning_rate": self.args.learning_rate * self._share(state.global_step),
                }
                total, loss, last_log = total + loss, torch.zeros_like(loss), state.global_step
                self._tell("on_log", logs=logs)
            if control.should_save:
                if self.is_main:
                    self._save()
                self._processes.wait_for_everyone()
            if control.should_evaluate:
                if control.should_save and self.reporter and self.is_main:
                    self.reporter.secure(state.global_step)
                self.evaluate()
            if control.should_save:
                self._tell("on_save")
        steps = max(state.global_step - first, 1)
        return Ending(state.global_step, self._mean(total + loss) / steps)

    def evaluate(self) -> dict[str, float]:
        """Measure the held-out texts, every token but the very first after at least half a row of what comes before it.

        `eval_bits_per_byte` compares across tokenizers, as a loss by token does not.
        """
        held = self._corpus.held
        if held is None:
            return {}
        was_training = self.model.training
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for ids, targets in self._windows(Reader(held)):
                total += self._scored(ids, targets, "sum").double()
        self.model.train(was_training)
        nats, self._evaluated_at = self._sum(total), self.state.global_step
        metrics = {
            "eval_loss": nats / (held.num_tokens - 1),
            "eval_bits_per_byte": nats / math.log(2) / max(held.num_bytes, 1),
        }
        self._tell("on_log", logs=metrics)
        return metrics

    def rehearse(self, batch: int, accumulation: int, *, is_checkpointed: bool) -> None:
        """Take two steps that change no weight, to see what they need."""
        optimizers, width = Optimizers(self.model, self.args), self._corpus.length + 1
        row = torch.from_numpy(self._corpus.rows.row(0)[:width]).to(self._device)
        ids, targets = row[:-1].expand(batch, -1), row[1:].expand(batch, -1)
        turns = is_checkpointed and not self.args.gradient_checkpointing
        if turns:
            self.model.gradient_checkpointing_enable()
        self.model.train()
        try:
            for _ in range(2):
                for _ in range(accumulation):
                    self._scored(ids, targets).backward()
                optimizers.step(0.0)
        finally:
            self.model.zero_grad(set_to_none=True)
            if turns:
                self.model.gradient_checkpointing_disable()

    def _step(
        self, scored: Callable[..., torch.Tensor], micro: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Train on the batches of one step; return their mean loss and the length of the gradient before it was cut."""
        loss = torch.zeros((), device=self._device)
        for number, rows in enumerate(micro):
            is_last = number == len(micro) - 1
            apart = scored.no_sync() if isinstance(scored, DistributedDataParallel) and not is_last else None
            with apart or contextlib.nullcontext():
                part = scored(rows[:, :-1], rows[:, 1:]) / len(micro)
                part.backward()
            loss += part.detach()
        limit = self.args.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._optimizers.step(self._share(self.state.global_step + 1))
        return loss, norm

    def _micro_batches(self, step: int) -> list[torch.Tensor]:
        """Return this process's batches of one step: what they hold follows from the step alone."""
        size = self.args.per_device_train_batch_size
        first = step * self._rows_a_step + self._processes.process_index * size
        firsts = range(first, first + self._rows_a_step, size * self.world_size)
        return [self._batch([self._corpus.rows.row(start + place) for place in range(size)]) for start in firsts]

    def _batch(self, rows: list[np.ndarray]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack(rows))
        on_gpu = self._device.type == "cuda"
        return batch.pin_memory().to(self._device, non_blocking=True) if on_gpu else batch

    def _wrapped(self) -> Callable[..., torch.Tensor]:
        scored: Callable[..., torch.Tensor] = self._scored
        if self.world_size > 1:
            scored = DistributedDataParallel(self._scored)
        return torch.compile(scored, dynamic=False) if self.args.torch_compile else scored

    def _windows(self, reader: Reader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield batches of (inputs, targets) that count each token but the first once; each process gets its share."""
        last = len(reader) - 1
        length = min(self._corpus.length, last)
        starts = [*range(0, last - length, max(length // 2, 1)), last - length]
        counted = [0, *(start + length for start in starts[:-1])]
        pairs = []
        for start, seen in list(zip(starts, counted, strict=True))[self._processes.process_index :: self.world_size]:
            row = reader.span(start, start + length + 1)
            targets = row[1:].copy()
            targets[: seen - start] = _IGNORED
            pairs.append((row[:-1], targets))
            if len(pairs) == self.args.per_device_eval_batch_size:
                yield self._batch([ids for ids, _ in pairs]), self._batch([targets for _, targets in pairs])
                pairs = []
        if pairs:
            yield self._batch([ids for ids, _ in pairs]), self._batch([targets for _, targets in pairs])

    def _tell(self, name: str, **told: object) -> None:
        """Let the main process's Reporter know; what it asks for, all processes do."""
        if self.reporter and self.is_main:
            getattr(self.reporter, name)(self.args, self.state, self.control, **told)
        if self.world_size > 1 and name == "on_step_end":
            asked = torch.tensor([getattr(self.control, flag) for flag in _ASKED], device=self._device)
            torch.distributed.broadcast(asked, 0)
            for flag, value in zip(_ASKED, asked.tolist(), strict=True):
                setattr(self.control, flag, value)

    def _logs(self) -> bool:
        step = self.state.global_step
        asked = step == 1 or step % self.args.logging_steps == 0 or step == self.max_steps
        return asked or self.control.should_log

    def _mean(self, value: torch.Tensor) -> float:
        """Return the mean over the processes."""
        return self._sum(value) / self.world_size

    def _sum(self, value: torch.Tensor) -> float:
        if self.world_size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return float(value)

    def _save(self) -> None:
        """Write weights, tokenizer and all that a resume needs; the Reporter makes it a complete checkpoint."""
        folder = self._attempt.job.checkpoint(self.state.global_step)
        shutil.rmtree(folder, ignore_errors=True)
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        torch.save(self._optimizers.state_dict(), folder / OPTIMIZER)
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({"cpu": torch.get_rng_state(), "cuda": gpus}, folder / RANDOM)
        place = {"global_step": self.state.global_step, "num_input_tokens_seen": self.state.num_input_tokens_seen}
        durable.write_json(folder / STATE, {**place, "tokens": self._corpus.key, "rows_a_step": self._rows_a_step})

    def _load(self, folder: Path) -> None:
        saved = durable.read_json(folder / STATE) or {}
        if saved.get("tokens") != self._corpus.key:
            raise TrainingError(
                "the texts or the tokenizer are not those this run began with",
                where=folder.name,
                cure="An exact resume needs both: put them back, or clone the run to start afresh.",
            )
        if saved.get("rows_a_step") != self._rows_a_step:
            raise TrainingError(
                f"a step was {saved.get('rows_a_step')} rows when this run began and is {self._rows_a_step} now",
                where=folder.name,
                cure="Resume on as many GPUs or processes as before.",
            )
        weights = type(self.model).from_pretrained(folder, dtype=torch.float32).state_dict()
        self.model.load_state_dict(weights)
        device = self._device
        self._optimizers.load_state_dict(torch.load(folder / OPTIMIZER, map_location=device, weights_only=True))
        random = torch.load(folder / RANDOM, weights_only=True)
        torch.set_rng_state(random["cpu"])
        if random["cuda"]:
            torch.cuda.set_rng_state_all(random["cuda"])
        self.state.global_step = int(saved["global_step"])
        self.state.num_input_tokens_seen = int(saved["num_input_tokens_seen"])


def multiplies_bf16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: GPUs since Ampere, CPUs with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))  # the latter trained 1.4 times as many tokens a second
