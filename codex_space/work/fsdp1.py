"""What PyTorch's older FSDP needs from us where it shares a base in 4 bits: adapters that are saved and found again, exact positions.

PEFT 0.21 finds adapters by the names of modules, among which FSDP 1 puts its own: without a word it saves none and loads none.
"""

import functools
from pathlib import Path
from typing import Any, cast

from peft import set_peft_model_state_dict
from peft.tuners import tuners_utils
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer

from codex_space.core.errors import TrainingError
from codex_space.work import checkpoint

WRAPPER = "_fsdp_wrapped_module."
_prefixes_of_peft = tuners_utils._get_tuner_state_dict_key_prefixes


def prepare(trainer: Trainer, resume_from: Path | None) -> None:
    """Make a trainer ready whose model is not yet in parts; its adapters become those of the checkpoint to go on from.

    Raises:
        TrainingError: The checkpoint is damaged, or another model's.
    """
    plugin: Any = trainer.accelerator.state.fsdp_plugin
    if (
        plugin is not None
    ):  # transformers asks for 16 bits at the start of training: buffers too, the angles of positions
        plugin.set_mixed_precision = functools.partial(plugin.set_mixed_precision, buffer_autocast=True)
    tuners_utils._get_tuner_state_dict_key_prefixes = _prefixes  # ty: ignore[invalid-assignment]
    model = cast("nn.Module", trainer.model)
    if trainer.args.bf16:  # TRL gives adapters of a base in 4 bits bfloat16, in which small steps are lost
        for weight in model.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data
    if resume_from:
        checkpoint.verify(resume_from)
        saved = load_file(resume_from / "adapter_model.safetensors")
        if unknown := set_peft_model_state_dict(model, saved).unexpected_keys:
            raise TrainingError(
                f"{len(unknown)} of its adapters fit no layer of the model, the first is {unknown[0]}",
                where=str(resume_from),
                cure="Go on with the model and lora section that it was trained with.",
            )


def _prefixes(model: nn.Module, adapter_name: str | None = None) -> set[str]:
    return {name.replace(WRAPPER, "") for name in _prefixes_of_peft(model, adapter_name)}
