"""How fast a run trains: tokens a second, the share of the GPU's peak, and how long it waits for data."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from codex_space.core.hardware import find_gpu
from codex_space.core.shared_recipe import TrainingRecipe


class Speed:
    """Measures from one log to the next; the time of evaluations and of saving is left out."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Start with nothing known of the model: no share of the peak is given then."""
        self._monotonic = monotonic
        self._since_s, self._tokens, self._waited_s = 0.0, 0, 0.0
        self._paused_at_s: float | None = None
        self._idle_from_s: float | None = None
        self.flops_per_token, self.peak_flops = 0.0, 0.0

    def begin(self, num_tokens: int) -> None:
        """Start to measure."""
        self._since_s, self._tokens = self._monotonic(), num_tokens
        self._idle_from_s = self._since_s

    def pause(self) -> None:
        """Leave out what comes until the next step."""
        self._paused_at_s = self._monotonic()

    def end_step(self) -> None:
        """Note that what comes until the next step is waiting for its rows."""
        self._idle_from_s = self._monotonic()

    def begin_step(self) -> None:
        """Note that the rows of a step are there."""
        now_s = self._monotonic()
        if self._paused_at_s is not None:
            self._since_s += now_s - self._paused_at_s
        elif self._idle_from_s is not None:
            self._waited_s += now_s - self._idle_from_s
        self._paused_at_s = self._idle_from_s = None

    def metrics(self, num_tokens: int) -> dict[str, float]:
        """Return `tokens_per_s`, `data_wait` (share of the time) and, on a known GPU, `mfu` since the last call."""
        now_s = self._paused_at_s if self._paused_at_s is not None else self._monotonic()
        took_s = max(now_s - self._since_s, 1e-9)
        speed = (num_tokens - self._tokens) / took_s
        found = {"tokens_per_s": speed, "data_wait": min(self._waited_s / took_s, 1.0)}
        if self.flops_per_token and self.peak_flops:
            found["mfu"] = speed * self.flops_per_token / self.peak_flops
        self._since_s, self._tokens, self._waited_s = now_s, num_tokens, 0.0
        return found

    def know(self, model: PreTrainedModel, recipe: TrainingRecipe, length: float, num_processes: int) -> None:
        """Learn what a token costs, sequences having this mean length, and what the GPUs can do at most."""
        if torch.cuda.is_available():
            self.flops_per_token = flops_per_token(model, recipe, length)
            known = find_gpu(torch.cuda.get_device_name()) or {"tflops": 0}
            self.peak_flops = 1e12 * known["tflops"] * num_processes


def flops_per_token(model: Any, recipe: TrainingRecipe, length: float) -> float:  # noqa: ANN401  # a trainer's model
    """Return the floating-point operations one trained token needs; recomputed activations are not counted.

    6 N + 6 L h d T for a causal model (PaLM, arXiv 2204.02311, appendix B, with half the attention), where N counts the
    weights that multiply; frozen weights get no gradient of their own: 4 N. A reference model adds its forward pass, 2 N.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    attention = config.num_hidden_layers * heads * head_dim * length
    weights = _multiplying(model)
    is_frozen = getattr(recipe, "lora", None) is not None
    compared = getattr(recipe, "kind", "") in {"dpo", "kto"} and not recipe.train.get("precompute_ref_log_probs")
    return (4 if is_frozen else 6) * weights + 6 * attention + (2 * weights + 2 * attention if compared else 0)


def _multiplying(model: PreTrainedModel) -> int:
    """Count the weights without the input embedding, which is looked up; where the head is tied to it, it multiplies too."""
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    return model.num_parameters(exclude_embeddings=True) + (head.weight.numel() if tied else 0)
