"""Try two steps on the longest rows before training: what they take, and where they do not fit the smallest change that does.

The steps are the trainer's own, at a learning rate of zero and with random states put back, so that a probed run gives the
weights of one that was not (a test compares the bytes). A change is told, never made.
"""

import functools
import gc
import logging
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel, Trainer

from codex_space.core import estimate as estimates
from codex_space.core.errors import CodexError, TrainingError
from codex_space.core.hardware import Hardware, gpu_facts, make_cpu
from codex_space.core.memory import GIB
from codex_space.core.recipe import PretrainRecipe
from codex_space.core.shapes import read_shape
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.work.attempt import Attempt
from codex_space.work.failures import is_out_of_memory
from codex_space.work.loop import Loop
from codex_space.work.loop_text import TextLoop

log = logging.getLogger(__name__)

SHORTEST = 128
"""Tokens: no shorter max_length is proposed."""


@dataclass(frozen=True)
class Sizes:
    """What decides the memory of a step; `length` 0 leaves the rows as they are."""

    batch: int
    accumulation: int
    is_checkpointed: bool
    length: int = 0


def run(attempt: Attempt, trainer: Trainer | Loop) -> None:
    """Say what a step on the longest rows takes beside what was estimated.

    Raises:
        TrainingError: It does not fit; the cure is the smallest change that was tried and does.
    """
    recipe = attempt.recipe
    wanted = recipe.launch.probe == "on" or (recipe.launch.probe == "auto" and torch.cuda.is_available())
    if not wanted or attempt.resume_from_step or world_size(trainer) > 1:
        return
    if isinstance(trainer, Loop):
        trainer = cast("Trainer | TextLoop", trainer.rehearsed)
    args = trainer.args
    given = Sizes(args.per_device_train_batch_size, args.gradient_accumulation_steps, bool(args.gradient_checkpointing))
    attempt.say("phase", phase="probe", detail=f"trying a step on the longest {given.batch} rows")
    peak_gib = _try(trainer, given)
    if peak_gib is None:
        raise _too_large(trainer, given)
    estimated = _estimate_gib(attempt, trainer)
    told = f"a step on the longest rows takes {peak_gib:.2f} GiB"
    told += f", estimated {estimated:.2f} GiB" if estimated else ""
    log.info(told)
    attempt.say("probe", peak_gib=round(peak_gib, 3), estimated_gib=estimated, rows=given.batch)
    attempt.say("phase", phase="", detail="")


def world_size(trainer: Trainer | Loop) -> int:
    """Return the processes that train together."""
    return trainer.world_size if isinstance(trainer, Loop) else trainer.args.world_size


def _too_large(trainer: Trainer | TextLoop, given: Sizes) -> TrainingError:
    """Return the sentence that names the smallest change which fits, found by trying."""
    halves = [given.batch >> by for by in range(1, given.batch.bit_length())]
    smaller = [replace(given, batch=size, accumulation=given.accumulation * given.batch // size) for size in halves]
    least = smaller[-1] if smaller else given
    found = _first_that_fits(trainer, smaller)
    if found is None and not given.is_checkpointed:
        least = replace(least, is_checkpointed=True)
        found = _first_that_fits(trainer, [least])
    if found is None and (longest := _longest_row(trainer)) > SHORTEST:
        lengths = [longest >> by for by in range(1, 8) if longest >> by >= SHORTEST]
        found = _first_that_fits(trainer, [replace(least, length=length) for length in lengths])
    what = f"a step on the longest {given.batch} rows needs more memory than there is"
    if found is None:
        cure = "No smaller batch or length fits either: set model.load_in_4bit (with lora), or take a smaller base or a larger GPU."
        return TrainingError(what, where="probe", cure=cure)
    sizes, peak_gib = found
    changes = [
        ("train.per_device_train_batch_size", sizes.batch, given.batch),
        ("train.gradient_accumulation_steps", sizes.accumulation, given.accumulation),
        ("train.gradient_checkpointing", sizes.is_checkpointed, given.is_checkpointed),
        ("train.max_length", sizes.length, 0),
    ]
    told = ", ".join(f"{name}: {str(value).lower()}" for name, value, before in changes if value != before)
    return TrainingError(what, where="probe", cure=f"Set {told}: tried, and it takes {peak_gib:.2f} GiB.")


def _first_that_fits(trainer: Trainer | TextLoop, choices: list[Sizes]) -> tuple[Sizes, float] | None:
    """Return the first of choices (largest first) that fits, by bisection: what is smaller than one that fits does too."""
    low, high, found = 0, len(choices), None
    while low < high:
        middle = (low + high) // 2
        peak_gib = _try(trainer, choices[middle])
        if peak_gib is None:
            low = middle + 1
        else:
            high, found = middle, (choices[middle], peak_gib)
    return found


def _try(trainer: Trainer | TextLoop, sizes: Sizes) -> float | None:
    """Return the GiB that two steps on the longest rows take at most, None where memory is short."""
    accumulation = min(sizes.accumulation, 2)  # gradients of an earlier batch are there from the second on
    if isinstance(trainer, TextLoop):
        rehearse = functools.partial(trainer.rehearse, sizes.batch, accumulation, is_checkpointed=sizes.is_checkpointed)
        return _measure(rehearse)
    rows = _rows(trainer, sizes, 2 * accumulation)
    changed = {
        "max_steps": 2, "learning_rate": 0.0, "per_device_train_batch_size": sizes.batch,
        "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    if sizes.is_checkpointed:
        changed["gradient_checkpointing"] = changed["activation_checkpointing"] = True
    with _as_it_was(trainer, changed):
        trainer.train_dataset, trainer._train_batch_size = rows, sizes.batch  # as its auto_find_batch_size
        return _measure(trainer.train)


def _measure(steps: Callable[[], object]) -> float | None:
    """Return the GiB that the steps take at most, None where memory is short."""
    _reset_peak()
    try:
        steps()
        return _peak_gib()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        error.__traceback__ = None  # its frames hold the tensors
        return None
    finally:
        gc.collect()


@contextmanager
def _as_it_was(trainer: Trainer, changed: dict[str, Any]) -> Generator[None]:
    """Change the trainer's arguments and, after, put back all that a training leaves behind in it."""
    args = trainer.args
    before = {name: getattr(args, name) for name in changed}
    kept = dict(vars(trainer))
    callbacks = list(trainer.callback_handler.callbacks)
    put_back = _random_states()
    try:
        for name, value in changed.items():
            setattr(args, name, value)
        trainer.callback_handler.callbacks = []
        yield
    finally:
        cast("PreTrainedModel", trainer.model).zero_grad(set_to_none=True)
        trainer.accelerator.free_memory()
        for name in vars(trainer).keys() - kept.keys():
            delattr(trainer, name)
        vars(trainer).update(kept)
        trainer.callback_handler.callbacks = callbacks
        trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
        for name, value in before.items():
            setattr(args, name, value)
        put_back()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _random_states() -> Callable[[], None]:
    """Return what puts the random states of now back."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)

    return put_back


def _rows(trainer: Trainer, sizes: Sizes, times: int) -> Any:  # noqa: ANN401  # what a trainer takes as rows
    """Return the longest rows, as often as batches are tried."""
    rows = cast("Any", trainer.train_dataset)
    lengths = _lengths(rows)
    longest = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)[: sizes.batch]
    longest = [longest[index % len(longest)] for index in range(sizes.batch)]
    chosen = rows.select(longest * times)
    if not sizes.length:
        return chosen
    return datasets.Dataset.from_list(
        [
            {name: value[: sizes.length] if isinstance(value, list) else value for name, value in row.items()}
            for row in chosen
        ]
    )


def _lengths(rows: datasets.Dataset) -> list[int]:
    names = [name for name in rows.column_names if name.endswith("_ids")]
    return [sum(map(len, values)) for values in zip(*(rows[name] for name in names), strict=True)]


def _longest_row(trainer: Trainer | TextLoop) -> int:
    """Return the tokens of the longest row where rows can be cut, else 0."""
    rows = None if isinstance(trainer, TextLoop) else trainer.train_dataset
    can_be_cut = isinstance(rows, datasets.Dataset) and "input_ids" in rows.column_names
    return max(_lengths(rows)) if can_be_cut else 0


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets VmHWM to what is resident now


def _peak_gib() -> float:
    """Return what the driver counts on a GPU, context included, or what the process held on a CPU."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        context = max(total - free - torch.cuda.memory_reserved(), 0)
        return (torch.cuda.max_memory_reserved() + context) / GIB
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / (1 << 20)


def _estimate_gib(attempt: Attempt, trainer: Trainer | TextLoop) -> float | None:
    """Return what was estimated for this model on this machine, None for a family that is not known."""
    recipe = attempt.recipe
    if not isinstance(recipe, TuningRecipe | PretrainRecipe):
        return None
    try:
        shape = read_shape(cast("PreTrainedModel", trainer.model).config.to_dict(), "model")
        return estimates.estimate(recipe, shape, _machine(), None).peak_gib
    except CodexError as error:
        log.info("no estimate: %s", error)
        return None


def _machine() -> Hardware:
    if not torch.cuda.is_available():
        return make_cpu("this machine", num_cores=1, ram_gib=1, disk_gib=1)
    name = torch.cuda.get_device_name(0)
    return Hardware("this machine", name, 1, ram_gib=1, disk_gib=1, usd_per_hour=0, **{"bf16": True, **gpu_facts(name)})
