"""One dial for a new model: its depth decides width, heads, batch, learning rate and tokens; the result is a recipe."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from codex_space.core.architectures import Architecture
from codex_space.core.shapes import Shape

MIN_DEPTH, MAX_DEPTH = 2, 32
WIDTH_PER_LAYER = 64
"""nanochat's aspect ratio: a model of 20 layers is 1,280 wide."""
TOKENS_PER_PARAMETER = 20
"""Chinchilla's (arXiv 2203.15556): more text is better still, at the same cost of use."""
REFERENCE_WIDTH, REFERENCE_RATE = 256, 6e-3
"""Where the learning rate was tried; from there it falls with the root of the width."""
TOKENS_PER_STEP_PER_PARAMETER = 1e-3
"""4,096 tokens a step at 4M parameters was tried, 524,288 at 561M is nanochat's."""
MICRO_TOKENS = 16_384
"""Of one forward pass at most: what a GPU works through at once without being too large for it."""
SHORT, LONG = 256, 2048
"""Block sizes below and from 8 layers on."""


@dataclass(frozen=True)
class Dial:
    """What the dial comes to; `tokens` are those of the whole run, `step_tokens` of one optimizer step."""

    architecture: Architecture
    shape: Shape
    block_size: int
    batch: int
    accumulation: int
    learning_rate: float
    max_steps: int

    @property
    def step_tokens(self) -> int:
        """Of one optimizer step on one device."""
        return self.batch * self.accumulation * self.block_size

    @property
    def tokens(self) -> int:
        """Of the run."""
        return self.max_steps * self.step_tokens

    @property
    def flops(self) -> float:
        """Of the run."""
        return self.shape.flops_per_token(self.block_size) * self.tokens

    def recipe(self, datasets: list[dict[str, Any]], tokenizer: str, name: str) -> dict[str, Any]:
        """Return the values of a pretraining recipe."""
        return {
            "schema": 1,
            "kind": "pretrain",
            "name": name,
            "architecture": dict(self.architecture.fields),
            "tokenizer": tokenizer,
            "block_size": self.block_size,
            "datasets": datasets,
            "validation": {"fraction": 0.01},
            "train": {
                "max_steps": self.max_steps,
                "per_device_train_batch_size": self.batch,
                "gradient_accumulation_steps": self.accumulation,
                "learning_rate": self.learning_rate,
                "packing_strategy": "wrapped" if self.block_size < LONG else "best_fit",
            },
            "samples": {"every_steps": max(50, self.max_steps // 10)},
        }


def turn(
    depth: int,
    vocab_size: int,
    *,
    style: Literal["llama", "starcoder2"] = "llama",
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
) -> Dial:
    """Return what a depth comes to.

    Raises:
        ModelError: Sizes that cannot be.
    """
    width = max(WIDTH_PER_LAYER * depth, 128)
    width += -width % 128
    head_dim = 128 if width >= 1024 else 64
    heads = width // head_dim
    fields: dict[str, Any] = {
        "model_type": style,
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": next(part for part in range(max(heads // 4, 1), heads + 1) if heads % part == 0),
        "tie_word_embeddings": True,
    }
    block_size = SHORT if depth < 8 else LONG
    fields["max_position_embeddings"] = max(block_size, 1024)
    if style == "llama":
        fields["intermediate_size"] = math.ceil(width * 8 / 3 / 128) * 128
    else:
        fields |= {"intermediate_size": 4 * width, "use_bias": True, "sliding_window": None}
        fields |= {f"{part}_dropout": 0.0 for part in ("attention", "residual", "embedding")}
    architecture = Architecture(f"depth {depth}", fields)
    shape = architecture.shape()
    # A vocabulary weighs little in what a layer can learn: batch and tokens follow all parameters, as Chinchilla's do.
    step_tokens = 2 ** round(math.log2(max(shape.num_parameters * TOKENS_PER_STEP_PER_PARAMETER, 2 * block_size)))
    micro = min(step_tokens, MICRO_TOKENS)
    steps = math.ceil(tokens_per_parameter * shape.num_parameters / step_tokens)
    rate = REFERENCE_RATE * math.sqrt(REFERENCE_WIDTH / width)
    return Dial(
        architecture,
        shape,
        block_size,
        batch=max(micro // block_size, 1),
        accumulation=max(step_tokens // max(micro, block_size), 1),
        learning_rate=float(f"{rate:.2g}"),
        max_steps=steps,
    )
