"""What `train:` of a pretraining recipe may hold: the fields our own loop keeps to, under transformers' names."""

from dataclasses import dataclass, field
from typing import Any


def _told(default: Any, text: str) -> Any:  # noqa: ANN401  # a dataclass field
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LoopArguments:
    """A field that is not here is refused by name; none is taken and not kept to."""

    max_steps: int = _told(-1, "Optimizer steps of the run; -1 takes num_train_epochs.")
    num_train_epochs: float = _told(1.0, "Times the text is gone through, where max_steps is not set.")
    per_device_train_batch_size: int = _told(8, "Sequences of block_size tokens in one forward pass, on each device.")
    per_device_eval_batch_size: int = _told(8, "Sequences in one forward pass of an evaluation.")
    gradient_accumulation_steps: int = _told(1, "Forward and backward passes before each optimizer step.")
    packing_strategy: str = _told(
        "wrapped",
        "wrapped: texts one after the other, cut every block_size tokens; best_fit: each row begins with a text and is filled with "
        "those that fit best, the last one cut.",
    )
    optim: str = _told(
        "muon",
        "muon (matrices inside the layers; AdamW for embeddings, head and vectors) or adamw_torch_fused for all.",
    )
    learning_rate: float = _told(3e-3, "Highest learning rate; with Muon it is scaled to updates of AdamW's size.")
    muon_learning_rate: float | None = _told(None, "Of Muon alone; empty takes learning_rate.")
    weight_decay: float = _told(0.1, "On the matrices inside the layers.")
    adam_beta1: float = _told(0.9, "AdamW's mean of gradients.")
    adam_beta2: float = _told(0.95, "AdamW's mean of their squares.")
    adam_epsilon: float = _told(1e-8, "AdamW's epsilon.")
    max_grad_norm: float = _told(1.0, "Longer gradients are cut to this length; 0 for never.")
    lr_scheduler_type: str = _told(
        "warmup_stable_decay", "linear, cosine, warmup_stable_decay or constant_with_warmup."
    )
    warmup_steps: float = _told(0.02, "Steps on which the learning rate rises; below 1 a share of the run.")
    decay_steps: float = _told(0.5, "Last steps, on which warmup_stable_decay falls; below 1 a share of the run.")
    min_lr_ratio: float = _told(0.0, "What the learning rate ends at, as a share of the highest.")
    bf16: bool | None = _told(
        None, "Compute in bfloat16, weights stay float32; empty does where the machine multiplies it fast."
    )
    gradient_checkpointing: bool = _told(False, "Keep less of the forward pass and compute it again: slower, smaller.")
    torch_compile: bool = _told(
        False, "Compile the model first: a minute or more, then faster; for GPUs and long runs."
    )
    logging_steps: int = _told(10, "Optimizer steps between two points of the curves.")
