"""Muon for the matrices inside the layers and fused AdamW for the rest, as one, with one course of the learning rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from codex_space.core.errors import RecipeError, nearest
from codex_space.work.loop_arguments import LoopArguments

KINDS = ("muon", "adamw_torch_fused")
Course = Callable[[float], float]
"""Share of the learning rate at a step."""


class Optimizers:
    """Steps all of a model's weights; each group's learning rate is its own times one shared factor.

    Muon (https://kellerjordan.github.io/posts/muon) makes each update of a matrix orthogonal. Embeddings, the head and
    vectors get AdamW, as its author advises. Weight decay is on matrices alone.
    """

    def __init__(self, model: PreTrainedModel, arguments: LoopArguments) -> None:
        """Sort the weights into groups.

        Raises:
            RecipeError: An optimizer that is not known here.
        """
        if arguments.optim not in KINDS:
            what = f"there is no optimizer {arguments.optim!r} for pretraining"
            raise RecipeError(what, where="train.optim", cure=nearest(arguments.optim, list(KINDS)))
        matrices, others = _sort(model)
        rate, decay = arguments.learning_rate, arguments.weight_decay
        adam: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        self._all: list[torch.optim.Optimizer] = []
        if arguments.optim == "muon":
            muon_rate = arguments.muon_learning_rate or rate
            self._all.append(
                torch.optim.Muon(matrices, lr=muon_rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )
        else:
            adam.append({"params": matrices, "weight_decay": decay})
        betas = (arguments.adam_beta1, arguments.adam_beta2)
        self._all.append(torch.optim.AdamW(adam, lr=rate, betas=betas, eps=arguments.adam_epsilon, fused=True))
        self._rates = [[float(group["lr"]) for group in each.param_groups] for each in self._all]

    def step(self, share: float) -> None:
        """Take a step at that share of each learning rate, and drop the gradients."""
        for each, rates in zip(self._all, self._rates, strict=True):
            for group, rate in zip(each.param_groups, rates, strict=True):
                group["lr"] = rate * share
            each.step()
            each.zero_grad(set_to_none=True)

    def weights(self) -> list[list[torch.nn.Parameter]]:
        """Return the weights of each optimizer in the order of its state."""
        return [[weight for group in each.param_groups for weight in group["params"]] for each in self._all]

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what `load_state_dict` takes."""
        return [each.state_dict() for each in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from there."""
        for each, state in zip(self._all, states, strict=True):
            each.load_state_dict(state)


def course(arguments: LoopArguments, max_steps: int) -> Course:
    """Return the share of the learning rate over a run: up in a line, then as `lr_scheduler_type` says.

    Raises:
        RecipeError: A course that is not known, or a warm-up and a decay that do not fit into the run.
    """
    kind, floor = arguments.lr_scheduler_type, arguments.min_lr_ratio
    warm = _steps(arguments.warmup_steps, max_steps)
    decay = _steps(arguments.decay_steps, max_steps)
    falls: dict[str, Course] = {
        "constant_with_warmup": lambda _: 1.0,
        "linear": lambda step: 1 - (step - warm) / max(max_steps - warm, 1),
        "cosine": lambda step: (1 + math.cos(math.pi * (step - warm) / max(max_steps - warm, 1))) / 2,
        "warmup_stable_decay": lambda step: min(1.0, (max_steps - step) / max(decay, 1)),
    }
    if kind not in falls:
        what = f"there is no course {kind!r} of the learning rate for pretraining"
        raise RecipeError(what, where="train.lr_scheduler_type", cure=nearest(str(kind), list(falls)))
    if warm + (decay if kind == "warmup_stable_decay" else 0) > max_steps:
        what = f"{warm:,} steps of warm-up and {decay:,} of decay do not fit into {max_steps:,}"
        raise RecipeError(what, where="train.warmup_steps", cure="Shorten them; below 1 they are shares of the run.")
    fall = falls[kind]

    def share(step: float) -> float:
        """`step` counts from 1; the last one still moves."""
        return step / warm if step < warm else floor + (1 - floor) * min(max(fall(step - 1), 0.0), 1.0)

    return share


def _steps(given: float, max_steps: int) -> int:
    """Return steps; a number below 1 is a share of the run, as in transformers."""
    return int(given * max_steps) if 0 < given < 1 else int(given)


def _sort(model: PreTrainedModel) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Return the matrices inside the layers, and all other weights."""
    outer = {
        id(weight)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
        for weight in module.parameters()
    }
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and id(weight) not in outer]
    chosen = {id(weight) for weight in matrices}
    return matrices, [weight for weight in model.parameters() if id(weight) not in chosen]
