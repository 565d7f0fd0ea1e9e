"""What the processes of one run do together: who writes, who goes first, and what all of them do at the same step."""

import contextlib
import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

from codex_space.core.errors import RecipeError, TrainingError
from codex_space.core.paths import JobDir
from codex_space.core.shared_recipe import BaseRecipe

if TYPE_CHECKING:
    import torch

_PARALLEL = "TOKENIZERS_PARALLELISM"


def count() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))  # noqa: TID251  # torchrun says it there alone


def is_main() -> bool:
    """Whether this one writes events, checkpoints and samples."""
    return os.environ.get("RANK", "0") == "0"  # noqa: TID251  # as above


def local_rank() -> int:
    """Return the number of this process on its machine, which is its GPU's."""
    return int(os.environ.get("LOCAL_RANK", "0"))  # noqa: TID251  # as above


def require(recipe: BaseRecipe) -> None:
    """Check that each process has a GPU of its own, or on a CPU a core.

    Raises:
        RecipeError: There are fewer than processes.
    """
    import torch

    several = os.environ.get("LOCAL_WORLD_SIZE")  # noqa: TID251  # as above; of several machines it is this one's part
    wanted, on_gpu = int(several or recipe.launch.num_processes), torch.cuda.is_available()
    there = torch.cuda.device_count() if on_gpu else len(os.sched_getaffinity(0))
    if wanted > max(there, 1):
        what = f"{wanted} processes want {wanted} {'GPUs' if on_gpu else 'CPU cores'}, and this machine has {there}"
        raise RecipeError(what, where="launch.num_processes", cure=f"Set it to {there}, or take a larger machine.")


def require_shared(recipe: BaseRecipe, model: "torch.nn.Module") -> None:
    """Check that each process holds a part of a model that was to be shared: accelerate falls back to copies silently.

    Raises:
        TrainingError: No weight of it is in parts.
    """
    config = recipe.launch.config
    mark = {"fsdp1": "_is_flat_param", "fsdp2": "placements", "zero3": "ds_id"}.get(config)
    if mark and not any(hasattr(weight, mark) for weight in model.parameters()):
        raise TrainingError(
            f"{config} was asked for and every process holds the whole model",
            where="launch.config",
            cure="It takes GPUs, one a process; on CPUs set launch.config: ddp.",
        )


@contextlib.contextmanager
def main_first() -> Generator[None]:
    """Let the first process make files alone; the others then find them."""
    if count() == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def agree(*wishes: bool) -> list[bool]:
    """Return for each wish whether any process has it; all processes wait here for each other."""
    if count() == 1:
        return list(wishes)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = torch.tensor(wishes, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in asked.tolist()]


@contextlib.contextmanager
def tokenizing_on_all_threads() -> Generator[None]:
    """Let the tokenizers library use every thread of the run, RAYON_NUM_THREADS; a process forked after that could hang in it."""
    environ = os.environ  # noqa: TID251  # the library reads it there at each call
    before = environ.get(_PARALLEL)
    environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        environ.pop(_PARALLEL)
        environ.update({} if before is None else {_PARALLEL: before})


def is_first_to_fail(job: JobDir) -> bool:
    """Whether no other process has told why the run fails: where one dies, the others only lose their connection."""
    if count() == 1:
        return True
    sys.stderr.flush()
    try:
        job.failed.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
