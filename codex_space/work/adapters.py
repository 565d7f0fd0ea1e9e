"""Decide which layers of a model get LoRA adapters, and refuse what would not attach."""

import re
from collections.abc import Sequence

import torch
from peft import LoraConfig
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedModel

from codex_space.core.errors import ModelError, nearest
from codex_space.core.sections import LoraSection


def lora_config(
    section: LoraSection, model: PreTrainedModel, *, task_type: str = "CAUSAL_LM", new_tokens: Sequence[int] = ()
) -> LoraConfig:
    """Return PEFT's settings after checking that each named layer is there; of the embeddings the new tokens' are trained.

    Raises:
        ModelError: A name fits no layer; PEFT would pass over it in silence as long as another one fits.
    """
    names = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Embedding)}
    last_parts = sorted({name.rpartition(".")[2] for name in names})
    given = section.target_modules
    targets = given if isinstance(given, list) else [given] if given != "all-linear" else []
    for wanted in [*targets, *(section.modules_to_save or [])]:
        as_pattern = wanted is given  # PEFT reads one text as a regular expression for whole names
        if not any(_names(wanted, name, as_pattern=as_pattern) for name in names):
            raise ModelError(
                f"no layer of this model is named {wanted!r}",
                where="lora.target_modules",
                cure=f"{nearest(wanted, last_parts)} Or write all-linear.",
            )
    if "lm_head" in targets:
        raise ModelError(
            "an adapter on lm_head would not be trained",
            where="lora.target_modules",
            cure="Take it out, or train it in full with lora.modules_to_save.",
        )
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    return LoraConfig(
        task_type=task_type,
        r=section.r,
        lora_alpha=section.lora_alpha,
        lora_dropout=section.lora_dropout,
        target_modules=section.target_modules,
        modules_to_save=section.modules_to_save,
        use_rslora=section.use_rslora,
        use_dora=section.use_dora,
        ensure_weight_tying=tied and bool(section.modules_to_save),
        trainable_token_indices=_token_rows(section, model, new_tokens, tied=tied),
    )


def _token_rows(
    section: LoraSection, model: PreTrainedModel, new_tokens: Sequence[int], *, tied: bool
) -> dict[str, list[int]] | None:
    """Return which rows of which embeddings are trained; a tied head follows by itself."""
    layers = [model.get_input_embeddings(), None if tied else model.get_output_embeddings()]
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    found = [names[id(layer)] for layer in layers if layer is not None]
    rows = {name: list(new_tokens) for name in found if new_tokens and name not in (section.modules_to_save or [])}
    return rows or None


# TRL's fused head multiplies by the head's weight and adds its bias; PEFT 0.21 wraps both, and passes on the weight alone.
TrainableTokensWrapper.bias = property(  # ty: ignore[missing-attribute]
    lambda self: getattr(self.original_module, "bias", None)
)


def _names(wanted: str, name: str, *, as_pattern: bool) -> bool:
    if as_pattern:
        try:
            return re.fullmatch(wanted, name) is not None
        except re.error:
            return False
    return name == wanted or name.endswith(f".{wanted}")
