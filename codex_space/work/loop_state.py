"""What a pretraining run leaves at a checkpoint and goes on from: one set of files, whether one process held the model or many."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.work import processes

if TYPE_CHECKING:  # it calls this module
    from codex_space.work.loop_text import TextLoop

OPTIMIZER, RANDOM, STATE = "optimizer.pt", "rng_state.pth", "trainer_state.json"


def share(scored: torch.nn.Module, model: PreTrainedModel, device: torch.device) -> None:
    """Let each process hold a part of each layer, put together while it is used (FSDP2)."""
    mesh = init_device_mesh(device.type, (processes.count(),))
    decoder: Any = model.get_decoder()
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(scored, mesh=mesh)


def write(folder: Path, loop: "TextLoop", tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the checkpoint of this step; all processes come here, and the first one writes."""
    is_shared = isinstance(loop.scored, FSDPModule)
    weights = _whole(loop.model.state_dict(keep_vars=True)) if is_shared else None
    optimizers = _whole(loop.optimizers.state_dict())
    if processes.is_main():
        shutil.rmtree(folder, ignore_errors=True)
        loop.model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)
        torch.save(optimizers, folder / OPTIMIZER)
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        torch.save({"cpu": torch.get_rng_state(), "cuda": gpus}, folder / RANDOM)
        place = {"global_step": loop.state.global_step, "num_input_tokens_seen": loop.state.num_input_tokens_seen}
        durable.write_json(folder / STATE, {**place, "tokens": loop.corpus.key, "rows_a_step": loop.rows_a_step})
    if processes.count() > 1:
        torch.distributed.barrier()


def read(folder: Path, loop: "TextLoop") -> None:
    """Put weights, optimizers, random numbers and the place in the corpus back.

    Raises:
        TrainingError: Other texts, another tokenizer, or another number of rows a step.
    """
    saved = durable.read_json(folder / STATE) or {}
    if saved.get("tokens") != loop.corpus.key:
        raise TrainingError(
            "the texts or the tokenizer are not those this run began with",
            where=folder.name,
            cure="An exact resume needs both: put them back, or clone the run to start afresh.",
        )
    if saved.get("rows_a_step") != loop.rows_a_step:
        raise TrainingError(
            f"a step was {saved.get('rows_a_step')} rows when this run began and is {loop.rows_a_step} now",
            where=folder.name,
            cure="Resume on as many GPUs or processes as before.",
        )
    weights = type(loop.model).from_pretrained(folder, dtype=torch.float32).state_dict()
    with torch.no_grad():
        for name, weight in loop.model.state_dict().items():
            weight.copy_(_as_part(weights[name].to(weight.device), weight))
    _load_optimizers(folder / OPTIMIZER, loop)
    random = torch.load(folder / RANDOM, weights_only=True)
    torch.set_rng_state(random["cpu"])
    if random["cuda"] and processes.count() == 1:
        torch.cuda.set_rng_state_all(random["cuda"])
    loop.state.global_step = int(saved["global_step"])
    loop.state.num_input_tokens_seen = int(saved["num_input_tokens_seen"])


def _load_optimizers(path: Path, loop: "TextLoop") -> None:
    if not isinstance(loop.scored, FSDPModule):
        loop.optimizers.load_state_dict(torch.load(path, map_location=loop.device, weights_only=True))
        return
    states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # of a large model, read part by part
    for weights, state in zip(loop.optimizers.weights(), states, strict=True):
        for number, kept in state["state"].items():
            for name, value in kept.items():
                if value.shape == weights[number].shape:
                    kept[name] = _as_part(value.to(loop.device), weights[number])
    loop.optimizers.load_state_dict(states)


def _whole(state: Any) -> Any:  # noqa: ANN401  # what torch.save takes
    """Return the state with what lies in parts put together, once for each; the first process alone keeps that."""
    known: dict[int, torch.Tensor] = {}

    def whole(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {name: whole(each) for name, each in value.items()}
        if isinstance(value, list):
            return [whole(each) for each in value]
        if not isinstance(value, DTensor):
            return value
        if id(value) not in known:  # tied weights stay one
            full = value.detach().full_tensor()
            known[id(value)] = full.cpu() if processes.is_main() else full[:0]
        return known[id(value)]

    return whole(state)


def _as_part(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return this process's part of it, where the weight that it is for lies in parts."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
