"""Supervised fine-tuning with our own loop: rows, batches, optimizer and schedule are TRL's, so that the losses are too."""

import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import skip_first_batches
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch.nn import functional
from transformers import PreTrainedModel
from trl import SFTTrainer

from codex_space.core import durable
from codex_space.core.errors import RecipeError, TrainingError
from codex_space.work.attempt import Attempt
from codex_space.work.loop import IGNORED, Batch, Loop
from codex_space.work.loop_state import OPTIMIZER, RANDOM, STATE


class Scored(torch.nn.Module):
    """A model's own forward pass with the loss of its answers behind it."""

    def __init__(self, model: PreTrainedModel, *, bf16: bool) -> None:
        """Take the model; with bf16 what multiplies is computed in 16 bits."""
        super().__init__()
        self.model, self._bf16 = model, bf16

    def forward(self, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the loss in nats."""
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self._bf16):
            logits = self.model(**inputs, use_cache=False).logits[:, :-1]
        return functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED
        )


class SftLoop(Loop):
    """Trains what an SFTTrainer was made for."""

    def __init__(self, attempt: Attempt, trainer: SFTTrainer) -> None:
        """Take the trainer with its rows turned into tokens; it takes no step itself.

        Raises:
            RecipeError: It would compute in float16.
        """
        args: Any = trainer.args
        if args.fp16:
            what = "engine: loop computes in float32 or bfloat16, and this run would in float16"
            raise RecipeError(what, where="engine", cure="Set engine: trl, or train on a GPU that has bfloat16.")
        self.trainer, self._attempt, self.args = trainer, attempt, args
        self.model, self.eval_dataset = cast("PreTrainedModel", trainer.model), trainer.eval_dataset
        self._loader: Any = trainer.get_train_dataloader()
        *_, max_steps = trainer.set_initial_training_values(args, self._loader)
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        wanted = args.logging_steps
        logging_steps = int(wanted) if wanted >= 1 else max(1, math.ceil(wanted * max_steps))
        super().__init__(max_steps, rows, len(cast("Any", trainer.train_dataset)), logging_steps)
        self._steps_an_epoch = math.ceil(len(self._loader) / args.gradient_accumulation_steps)
        self._next, self._batches = -1, iter(())
        self._num_targets: Any = None
        if args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
        trainer.create_optimizer_and_scheduler(max_steps)
        self.scored = Scored(self.model, bf16=args.bf16)

    @property
    def rehearsed(self) -> object:
        """The trainer: a step of TRL's takes as much, and its rows can be chosen."""
        return self.trainer

    def micro_batches(self, step: int) -> list[Batch]:
        """Return the batches of a step; a step is found again by going over the rows of its epoch before it."""
        times = self.args.gradient_accumulation_steps
        epoch, place = divmod(step, self._steps_an_epoch)
        if step != self._next or not place:
            self._loader.set_epoch(epoch)
            with torch.random.fork_rng():  # beginning an epoch draws a number: one beginning more must change nothing
                self._batches = iter(skip_first_batches(self._loader, place * times) if place else self._loader)
        self._next = step + 1
        given = list(itertools.islice(self._batches, times))
        self._num_targets = self.trainer._get_num_items_in_batch(given, self.device)
        return [self._batch(each) for each in given]

    def held_batches(self) -> Iterator[Batch]:
        """Yield what is held out."""
        for each in cast("Any", self.trainer.get_eval_dataloader()):
            yield self._batch(each)

    def count_targets(self, micro: list[Batch]) -> torch.Tensor:
        """Return by what TRL divides."""
        found = self._num_targets
        return super().count_targets(micro) if found is None else torch.as_tensor(found, device=self.device)

    def seen_tokens(self, micro: list[Batch]) -> int:
        """Return the tokens of a step, padding left out."""
        masks = (batch.inputs.get("attention_mask", torch.ones_like(batch.inputs["input_ids"])) for batch in micro)
        return sum(int(mask.sum()) for mask in masks)

    def update(self, step: int) -> float:
        """Change the weights by their gradients, drop those, and return the learning rate."""
        optimizer, schedule = cast("Any", self.trainer.optimizer), cast("Any", self.trainer.lr_scheduler)
        rate = float(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        return rate

    def save(self) -> None:
        """Write what the trainer would, and all that a resume needs."""
        folder = self._attempt.job.checkpoint(self.state.global_step)
        shutil.rmtree(folder, ignore_errors=True)
        self.trainer.save_model(str(folder))
        torch.save([each.state_dict() for each in self._stateful()], folder / OPTIMIZER)
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({"cpu": torch.get_rng_state(), "cuda": gpus}, folder / RANDOM)
        place = {"global_step": self.state.global_step, "num_input_tokens_seen": self.state.num_input_tokens_seen}
        durable.write_json(folder / STATE, {**place, "rows_a_step": self.rows_a_step})

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: Another number of rows a step.
        """
        saved = durable.read_json(folder / STATE) or {}
        if saved.get("rows_a_step") != self.rows_a_step:
            raise TrainingError(
                f"a step was {saved.get('rows_a_step')} rows when this run began and is {self.rows_a_step} now",
                where=folder.name,
                cure="Put batch and accumulation back, or clone the run to start afresh.",
            )
        if isinstance(self.model, PeftModel):
            set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device="cpu"))
        else:
            saved_model = type(self.model).from_pretrained(folder, dtype=self.model.dtype)
            self.model.load_state_dict(saved_model.state_dict())
        states = torch.load(folder / OPTIMIZER, map_location=self.device, weights_only=True)
        for each, state in zip(self._stateful(), states, strict=True):
            each.load_state_dict(state)
        random = torch.load(folder / RANDOM, weights_only=True)
        torch.set_rng_state(random["cpu"])
        if random["cuda"]:
            torch.cuda.set_rng_state_all(random["cuda"])
        self.state.global_step = int(saved["global_step"])
        self.state.num_input_tokens_seen = int(saved["num_input_tokens_seen"])

    def _stateful(self) -> tuple[Any, Any]:
        return self.trainer.optimizer, self.trainer.lr_scheduler

    def _batch(self, given: dict[str, torch.Tensor]) -> Batch:
        inputs = {name: value for name, value in given.items() if name != "labels"}
        return Batch(inputs, given["labels"][:, 1:])
