"""Whether the export that is to come after a training can come: its model's family, llama.cpp, disk and repository."""

import shutil

from codex_space.core.errors import CodexError, ModelError
from codex_space.core.export_tools import CURE, FAMILIES, find_converter
from codex_space.core.quants import Weights, room_bytes
from codex_space.core.recipe import PretrainRecipe
from codex_space.core.sections import ExportSection, HubSection
from codex_space.core.shapes import Shape
from codex_space.core.shared_recipe import TrainingRecipe, TuningRecipe
from codex_space.core.units import render_bytes
from codex_space.services import estimate
from codex_space.services.context import Context

ENDING = "-GGUF"


def repository(hub: HubSection) -> HubSection:
    """Return where the files of an export are pushed, beside the repository of the run."""
    return HubSection(repo_id=f"{hub.repo_id}{ENDING}", private=hub.private)


def require(ctx: Context, recipe: TrainingRecipe) -> None:
    """Refuse a training whose export could never come; one that only waits for llama.cpp may train.

    Raises:
        ModelError: Models of that type are not exported.
        HubError: The repository for the files cannot be written.
    """
    wanted = recipe.export_after
    if wanted is None:
        return
    _shape(ctx, recipe)
    if wanted.push and recipe.hub:
        target = repository(recipe.hub)
        ctx.hub().check_writable(target.repo_id, private=target.private)


def describe(ctx: Context, recipe: TrainingRecipe, wanted: ExportSection) -> tuple[str, str]:
    """Return what will be exported, and what to mend where something stands in its way but not in the training's.

    Raises:
        ModelError: Models of that type are not exported.
    """
    shape = _shape(ctx, recipe)
    what = f"{', '.join(wanted.gguf)} of the {wanted.checkpoint} checkpoint"
    if wanted.push and recipe.hub:
        what += f", pushed to {repository(recipe.hub).repo_id}"
    cures = [] if find_converter() else [f"llama.cpp is not set up yet, and the export waits for it. {CURE}"]
    if shape is None:
        return f"{what}; how much disk that takes is not known here", " ".join(cures)
    weights = Weights(wide=shape.num_parameters, narrow=0, odd=0, vectors=0, tokenizer_bytes=0)
    size_bytes = room_bytes(weights, wanted.gguf, merges=getattr(recipe, "lora", None) is not None)
    free = shutil.disk_usage(ctx.workspace.root).free
    if size_bytes > free:
        cures.append(f"{render_bytes(free)} are free: take fewer types, or make room before it ends.")
    return f"{what}; takes about {render_bytes(size_bytes)} of disk while it is made", " ".join(cures)


def _shape(ctx: Context, recipe: TrainingRecipe) -> Shape | None:
    """Return the model's sizes, None where they cannot be known here.

    Raises:
        ModelError: Models of its type are not exported.
    """
    try:
        shape = estimate.find_shape(ctx, recipe) if isinstance(recipe, TuningRecipe | PretrainRecipe) else None
    except CodexError:
        return None
    if shape is not None and shape.family and shape.family not in FAMILIES:
        cure = f"Take after: [export] out, or tune one of these: {', '.join(FAMILIES)}."
        raise ModelError(f"models of type {shape.family!r} are not exported", where="after", cure=cure)
    return shape
