"""Whether the export that is to come after a training can come: its model's family, llama.cpp, disk and repository."""

import shutil

from codex_space.core.errors import CodexError, ModelError
from codex_space.core.export_tools import CURE, FAMILIES, find_converter
from codex_space.core.quants import Weights, room_bytes
from codex_space.core.recipe import PretrainRecipe, TrainingRecipe, TuningRecipe
from codex_space.core.sections import ExportSection, HubSection
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
    family = _family(ctx, recipe)
    if family and family not in FAMILIES:
        cure = f"Take after: [export] out, or tune one of these: {', '.join(FAMILIES)}."
        raise ModelError(f"models of type {family!r} are not exported", where="after", cure=cure)
    if wanted.push and recipe.hub:
        target = repository(recipe.hub)
        ctx.hub().check_writable(target.repo_id, private=target.private)


def describe(ctx: Context, recipe: TrainingRecipe, wanted: ExportSection) -> tuple[str, str]:
    """Return what will be exported, and what to mend where something stands in its way but not in the training's.

    Raises:
        ModelError: Models of that type are not exported.
    """
    family = _family(ctx, recipe)
    if family and family not in FAMILIES:
        raise ModelError(f"models of type {family!r} are not exported", cure=f"Known: {', '.join(FAMILIES)}.")
    what = f"{', '.join(wanted.gguf)} of the {wanted.checkpoint} checkpoint"
    if wanted.push and recipe.hub:
        what += f", pushed to {repository(recipe.hub).repo_id}"
    size_bytes = _room_bytes(ctx, recipe, wanted)
    cures = [] if find_converter() else [f"llama.cpp is not set up yet, and the export waits for it. {CURE}"]
    if size_bytes is None:
        return f"{what}; how much disk that takes is not known here", " ".join(cures)
    free = shutil.disk_usage(ctx.workspace.root).free
    if size_bytes > free:
        cures.append(f"{_told(free)} are free: take fewer types, or make room before it ends.")
    return f"{what}; takes about {_told(size_bytes)} of disk while it is made", " ".join(cures)


def _told(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.0f} MB"


def _room_bytes(ctx: Context, recipe: TrainingRecipe, wanted: ExportSection) -> int | None:
    try:
        shape = estimate.find_shape(ctx, recipe) if isinstance(recipe, TuningRecipe | PretrainRecipe) else None
    except CodexError:
        return None
    if shape is None:
        return None
    weights = Weights(wide=shape.num_parameters, narrow=0, odd=0, vectors=0, tokenizer_bytes=0)
    return room_bytes(weights, wanted.gguf, merges=getattr(recipe, "lora", None) is not None)


def _family(ctx: Context, recipe: TrainingRecipe) -> str:
    """Return the model's type, empty where it cannot be known here."""
    try:
        shape = estimate.find_shape(ctx, recipe) if isinstance(recipe, TuningRecipe | PretrainRecipe) else None
    except CodexError:
        return ""
    return shape.family if shape else ""
