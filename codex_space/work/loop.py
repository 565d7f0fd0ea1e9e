"""The training loop, in plain PyTorch; accelerate is used for what concerns several processes, and that alone.

accelerate's wrappers of optimizer, scheduler and loader would each hold state of their own that an exact resume has to put
back, and know of one optimizer only. Here a run's place is the number of its step, and a step is twenty lines. What is read,
how a loss is taken and what is saved belong to the two kinds of it: loop_text.py for pretraining, loop_sft.py for answers.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, TrainerControl, TrainerState

from codex_space.work import processes

if TYPE_CHECKING:  # it drives this loop
    from codex_space.work.report import Reporter

IGNORED = -100
_ASKED = ("should_log", "should_evaluate", "should_save", "should_training_stop")


@dataclass(frozen=True)
class Ending:
    """Where a training ended, under the names of transformers' own."""

    global_step: int
    training_loss: float


@dataclass(frozen=True)
class Batch:
    """What goes through the model at once.

    Attributes:
        inputs: By the names of the model's forward.
        targets: What each input is to be followed by, -100 for none.
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor

    @property
    def num_targets(self) -> torch.Tensor:
        """Tokens that count."""
        return (self.targets != IGNORED).sum()


class Loop(ABC):
    """Trains a model; the Reporter hears of each step as it does from transformers' trainers.

    Attributes:
        scored: Takes inputs and targets, and returns the sum of the loss in nats.
        args: Settings under transformers' names.
        rows_a_step: Of all processes together.
    """

    model: PreTrainedModel
    scored: torch.nn.Module
    args: Any
    eval_dataset: Any

    def __init__(self, max_steps: int, rows_a_step: int, rows_an_epoch: int, logging_steps: int) -> None:
        """Begin at step 0."""
        self.max_steps, self.rows_a_step, self._rows_an_epoch = max_steps, rows_a_step, rows_an_epoch
        self.state = TrainerState(max_steps=max_steps, logging_steps=logging_steps)
        self.control = TrainerControl()
        self.reporter: Reporter | None = None
        self.evaluated_at = -1

    @abstractmethod
    def micro_batches(self, step: int) -> list[Batch]:
        """Return this process's batches of a step: what they hold follows from the step alone."""

    @abstractmethod
    def held_batches(self) -> Iterator[Batch]:
        """Yield this process's share of what is held out."""

    def count_targets(self, micro: list[Batch]) -> torch.Tensor:
        """Return the tokens of this process's batches that count."""
        return torch.stack([batch.num_targets for batch in micro]).sum()

    @abstractmethod
    def seen_tokens(self, micro: list[Batch]) -> int:
        """Return the tokens of a step of all processes."""

    @abstractmethod
    def update(self, step: int) -> float:
        """Change the weights by their gradients, drop those, and return the learning rate."""

    @abstractmethod
    def save(self) -> None:
        """Write weights, tokenizer and all that a resume needs; the Reporter makes it a complete checkpoint."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: It is not one of this run.
        """

    def measures(self, nats: float, num_targets: float) -> dict[str, float]:
        """Return what an evaluation says."""
        return {"eval_loss": nats / max(num_targets, 1)}

    @property
    def rehearsed(self) -> object:
        """What takes a step to see how much memory that needs."""
        return self

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return processes.count()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def train(self, resume_from: Path | None = None) -> Ending:
        """Train from the start or a checkpoint up to the last step or a stop.

        Raises:
            TrainingError: The checkpoint is of another run, or the loss is no number.
        """
        state, control = self.state, self.control
        if resume_from:
            self.load(resume_from)
        self.model.train()
        self._tell("on_train_begin")
        if self.evaluated_at == state.global_step and resume_from:
            self._tell("on_save")  # an evaluation that an earlier attempt did not live to see belongs to its checkpoint
        scored = self.wrapped()
        loss = total = torch.zeros((), device=self.device)
        first = last_log = state.global_step
        while state.global_step < self.max_steps and not control.should_training_stop:
            control.should_log = control.should_evaluate = control.should_save = False
            micro = self.micro_batches(state.global_step)
            self._tell("on_step_begin")
            step_loss, norm = self._step(scored, micro)
            rate = self.update(state.global_step + 1)
            loss = loss + step_loss
            state.global_step += 1
            state.num_input_tokens_seen += self.seen_tokens(micro)
            state.epoch = state.global_step * self.rows_a_step / self._rows_an_epoch
            self._tell("on_step_end")
            if self._logs():
                logs = {
                    "loss": self._sum(loss) / (state.global_step - last_log),
                    "grad_norm": float(norm),
                    "learning_rate": rate,
                }
                total, loss, last_log = total + loss, torch.zeros_like(loss), state.global_step
                self._tell("on_log", logs=logs)
            if control.should_save:
                self.save()
            if control.should_evaluate:
                if control.should_save and self.reporter and processes.is_main():
                    self.reporter.secure(state.global_step)
                self.evaluate()
            if control.should_save:
                self._tell("on_save")
        steps = max(state.global_step - first, 1)
        return Ending(state.global_step, self._sum(total + loss) / steps)

    def evaluate(self) -> dict[str, float]:
        """Measure what is held out, each token as much as any other."""
        if self.eval_dataset is None:
            return {}
        was_training = self.model.training
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        # parts of a model are gathered in ways that inference mode does not know
        with torch.no_grad() if isinstance(self.scored, FSDPModule) else torch.inference_mode():
            for batch in self.held_batches():
                nats = self.scored(batch.inputs, batch.targets)
                total += torch.stack([nats.double(), batch.num_targets.double()])
        self.model.train(was_training)
        self.evaluated_at = self.state.global_step
        metrics = self.measures(*self._sums(total))
        self._tell("on_log", logs=metrics)
        return metrics

    def _step(
        self, scored: Callable[..., torch.Tensor], micro: list[Batch]
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Add up the gradients of a step; return this process's part of the mean loss, and their length before it was cut."""
        counts = self.count_targets(micro)
        if self.world_size > 1:
            torch.distributed.all_reduce(counts)
        counts = counts.clamp(min=1)
        loss = torch.zeros((), device=self.device)
        for number, batch in enumerate(micro):
            is_last = number == len(micro) - 1
            if isinstance(self.scored, FSDPModule):
                self.scored.set_requires_gradient_sync(is_last)
            apart = scored.no_sync() if isinstance(scored, DistributedDataParallel) and not is_last else None
            with apart or contextlib.nullcontext():
                part = scored(batch.inputs, batch.targets) / counts
                (part * self.world_size).backward()  # the mean over the processes is taken of gradients
            loss += part.detach()
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.args.max_grad_norm or math.inf)
        return loss, getattr(norm, "full_tensor", lambda: norm)()

    def wrapped(self) -> Callable[..., torch.Tensor]:
        """Return what a training step calls."""
        scored: Callable[..., torch.Tensor] = self.scored
        if self.world_size > 1 and not isinstance(self.scored, FSDPModule):
            scored = DistributedDataParallel(self.scored)
        return torch.compile(scored, dynamic=False) if self.args.torch_compile else scored

    def _tell(self, name: str, **told: object) -> None:
        """Let each process's Reporter know (one alone writes); what the first one asks for, all do."""
        if self.reporter:
            getattr(self.reporter, name)(self.args, self.state, self.control, **told)
        if self.world_size > 1 and name == "on_step_end":
            asked = torch.tensor([getattr(self.control, flag) for flag in _ASKED], device=self.device)
            torch.distributed.broadcast(asked, 0)
            for flag, value in zip(_ASKED, asked.tolist(), strict=True):
                setattr(self.control, flag, value)

    def _logs(self) -> bool:
        step = self.state.global_step
        asked = step == 1 or step % self.state.logging_steps == 0 or step == self.max_steps
        return asked or self.control.should_log

    def _sum(self, value: torch.Tensor) -> float:
        """Return the sum over the processes."""
        return self._sums(value[None])[0]

    def _sums(self, values: torch.Tensor) -> list[float]:
        if self.world_size > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values.tolist()


def multiplies_bf16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: GPUs since Ampere, CPUs with AMX or AVX512-BF16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))  # the latter trained 1.4 times as many tokens a second
