"""Measure which input columns of each matrix matter: the mean square of what flows into it, by forward hooks.

What llama.cpp's own llama-imatrix collects (tools/imatrix/imatrix.cpp), without its binary; quantising weighs errors by it.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from codex_space.core.recipe import ExportRecipe
from codex_space.core.sections import DatasetSection
from codex_space.data.sources import STDLIB, open_source
from codex_space.work import rows
from codex_space.work.attempt import Attempt

NUM_TEXTS, MAX_TOKENS = 96, 512


@torch.inference_mode()
def write(attempt: Attempt, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> int:
    """Write an .npz of float32 rows by the weights' names in transformers; return the number of tokens measured.

    Raises:
        DataError: The rows cannot be read.
    """
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:  # noqa: ANN401  # torch's hook
        def note(_module: object, given: tuple[torch.Tensor, ...], _output: object) -> None:
            flat = given[0].reshape(-1, given[0].shape[-1]).float()
            sums[name] = sums.get(name, 0) + (flat**2).sum(dim=0)
            counts[name] = counts.get(name, 0) + len(flat)

        return note

    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear | Conv1D)]
    hooks = [part.register_forward_hook(watch(f"{name}.weight")) for name, part in layers]
    limit = min(MAX_TOKENS, int(getattr(model.config, "max_position_embeddings", 0) or MAX_TOKENS))
    num_tokens = 0
    try:
        for text in itertools.islice(_texts(attempt), NUM_TEXTS):
            ids = tokenizer(text)["input_ids"][:limit]
            if ids:
                model(input_ids=torch.tensor([ids], device=model.device))
                num_tokens += len(ids)
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, Any] = {name: (sums[name] / counts[name]).cpu().numpy().astype(np.float32) for name in sums}
    np.savez(target, **found)
    return num_tokens


def _texts(attempt: Attempt) -> Iterator[str]:
    """Yield the rows of the recipe's datasets as plain texts, the standard library's source where it has none."""
    recipe = attempt.recipe
    assert isinstance(recipe, ExportRecipe)  # noqa: S101  # narrows the type
    fetched = rows.fetch(attempt, recipe)
    for section in recipe.datasets or [DatasetSection(path=STDLIB)]:
        for row in open_source(section, attempt.workspace, fetched):
            parts = (each if isinstance(each, str) else _spoken(each) for each in row.values())
            if text := "\n".join(part for part in parts if part).strip():
                yield text


def _spoken(value: Any) -> str:  # noqa: ANN401  # a row's value
    messages = value if isinstance(value, list) else []
    return "\n".join(str(each.get("content") or "") for each in messages if isinstance(each, dict))
