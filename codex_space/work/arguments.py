"""The trainer's arguments: our defaults, then the recipe's `train:`, then what this program owns."""

from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from codex_space.core.errors import RecipeError
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.work import models
from codex_space.work.attempt import Attempt

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def build(attempt: Attempt, kind: type[Arguments], *, tokens_counted: str, **defaults: Any) -> Arguments:  # noqa: ANN401  # the trainer's own
    """Return the arguments of a run.

    Raises:
        RecipeError: The trainer refuses the combination.
    """
    owned: dict[str, Any] = {
        "output_dir": str(attempt.job.root),
        "save_strategy": "no",  # the Reporter asks for each checkpoint
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,  # it would hide the NaN that has to end the run
        "include_num_input_tokens_seen": tokens_counted,
    }
    try:
        return kind(**{**decide(attempt, **defaults), **owned})
    except (ValueError, TypeError) as error:
        raise RecipeError(f"the trainer refuses these settings: {error}", where="train") from error


def decide(attempt: Attempt, **defaults: Any) -> dict[str, Any]:  # noqa: ANN401  # the trainer's own
    """Return those arguments that decide what is learnt and how this machine computes it."""
    recipe = attempt.recipe
    assert isinstance(recipe, TrainingRecipe)  # noqa: S101  # narrows the type
    on_gpu = torch.cuda.is_available()
    has_bf16 = on_gpu and models.half_precision() == torch.bfloat16
    usual: dict[str, Any] = {
        "logging_first_step": True,
        "bf16": has_bf16 and not recipe.train.get("fp16"),
        "fp16": on_gpu and not has_bf16,
        "dataloader_pin_memory": on_gpu,
    }
    if not on_gpu:
        # without a GPU memory is not the limit, and the second forward pass costs a third of the speed
        usual["gradient_checkpointing"] = False
    owned = {"seed": recipe.seed, "data_seed": recipe.seed, "use_cpu": not on_gpu}
    return {**usual, **defaults, **recipe.train, **owned}
