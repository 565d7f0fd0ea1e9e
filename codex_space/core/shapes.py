"""Count a model's parameters from its config.json by formula, without torch; shapes of known models ship in configs/models.yaml.

Equal to the count of transformers' own classes on the meta device, for each family (a test compares them).
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from codex_space.core.errors import ModelError, nearest
from codex_space.core.paths import share_dir

_LIMITS = {"hidden_size": 1 << 17, "num_hidden_layers": 1 << 10, "vocab_size": 1 << 22, "intermediate_size": 1 << 19}
_GPT2_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "intermediate_size": "n_inner", "max_position_embeddings": "n_positions",
}  # fmt: skip
_CURE = "Is this the model's config.json?"
_GATED = ("llama", "mistral", "qwen2", "qwen3")
FAMILIES = (*_GATED, "starcoder2", "gpt_neox", "gpt2")


@dataclass(frozen=True)
class Linear:
    """One weight matrix of a layer: `bias` is the number of its bias parameters."""

    name: str
    in_features: int
    out_features: int
    bias: int = 0

    @property
    def weights(self) -> int:
        """Parameters of the matrix alone."""
        return self.in_features * self.out_features


@dataclass(frozen=True)
class Shape:
    """What a model's memory and speed follow from.

    Attributes:
        query_size: Width of all query heads together; `key_size` of the key heads.
        is_gated: Whether the MLP has a gate beside its way up (SwiGLU), as Llama has and GPT-2 has not.
        linears: Those of one layer.
        norm_parameters: Of the whole model.
        other_embeddings: Parameters of learnt positions.
    """

    family: str
    hidden_size: int
    num_layers: int
    num_heads: int
    query_size: int
    key_size: int
    intermediate_size: int
    vocab_size: int
    is_tied: bool
    is_gated: bool
    linears: tuple[Linear, ...]
    norm_parameters: int
    other_embeddings: int = 0

    @property
    def num_embedding(self) -> int:
        """Parameters of the token embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def num_linear(self) -> int:
        """Parameters of all layers' matrices, which 4 bits apply to."""
        return self.num_layers * sum(linear.weights for linear in self.linears)

    @property
    def num_parameters(self) -> int:
        """All parameters, a tied head once."""
        biases = self.num_layers * sum(linear.bias for linear in self.linears)
        embeddings = self.num_embedding * (1 if self.is_tied else 2) + self.other_embeddings
        return self.num_linear + biases + embeddings + self.norm_parameters

    def flops_per_token(self, length: int) -> float:
        """Return the work of training on a token: 6 N + 6 L q T (PaLM, arXiv 2204.02311, appendix B, half the attention)."""
        weights = self.num_parameters - (0 if self.is_tied else self.num_embedding)
        return 6.0 * (weights + self.num_layers * self.query_size * length)

    def lora_parameters(self, rank: int, targets: str | list[str], *, use_dora: bool = False) -> int:
        """Return the parameters of adapters of that rank: r (in + out) for each matrix that has one."""
        names = [targets] if isinstance(targets, str) else targets
        chosen = [
            linear
            for linear in self.linears
            if targets == "all-linear" or any(_names(wanted, linear.name) for wanted in names)
        ]
        each = sum(rank * (one.in_features + one.out_features) + use_dora * one.out_features for one in chosen)
        return self.num_layers * each


def _names(wanted: str, name: str) -> bool:
    """Whether a target (a name, a dotted name, or a regular expression over whole names) may mean that matrix."""
    return wanted.rpartition(".")[2] == name or re.search(rf"\b{name}\b", wanted) is not None


def read_shape(config: Mapping[str, Any], where: str) -> Shape:
    """Return the shape that a config.json describes.

    Raises:
        ModelError: A family that is not known here, or sizes that cannot be.
    """
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise ModelError(
            f"the sizes of a model of type {family!r} cannot be worked out",
            where=where,
            cure=f"{nearest(family, list(FAMILIES))} It may still train; the probe then measures its memory.",
        )
    sizes = _Sizes(config, where)
    hidden, layers, heads = (
        sizes.whole(f"{name}") for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
    )
    if config.get("head_dim") is None and hidden % heads:
        raise ModelError(f"hidden_size {hidden} is not a multiple of the {heads} heads", where=where, cure=_CURE)
    width = sizes.whole("head_dim", hidden // heads)
    queries, keys = heads * width, sizes.whole("num_key_value_heads", heads) * width
    wide = sizes.whole("intermediate_size", 4 * hidden if family == "gpt2" else None)
    layer_norm = hidden if family in _GATED else 2 * hidden  # a LayerNorm has a bias too
    return Shape(
        family=family,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        query_size=queries,
        key_size=keys,
        intermediate_size=wide,
        vocab_size=sizes.whole("vocab_size"),
        is_tied=sizes.flag("tie_word_embeddings", default=family in {"starcoder2", "gpt2"}),
        is_gated=family in _GATED,
        linears=_linears(family, sizes, hidden, queries, keys, wide),
        norm_parameters=layers * (2 * layer_norm + (2 * width if family == "qwen3" else 0)) + layer_norm,
        other_embeddings=sizes.whole("max_position_embeddings", 1024) * hidden if family == "gpt2" else 0,
    )


def _linears(family: str, sizes: "_Sizes", hidden: int, queries: int, keys: int, wide: int) -> tuple[Linear, ...]:
    """Return the matrices of one layer, under transformers' names."""
    if family == "gpt2":
        plain = [
            ("c_attn", hidden, 3 * hidden),
            ("c_proj", hidden, hidden),
            ("c_fc", hidden, wide),
            ("c_proj", wide, hidden),
        ]
        return tuple(Linear(name, size_in, size_out, size_out) for name, size_in, size_out in plain)
    if family == "gpt_neox":
        bias = sizes.flag("attention_bias", default=True)
        return (
            Linear("query_key_value", hidden, 3 * hidden, bias * 3 * hidden),
            Linear("dense", hidden, hidden, bias * hidden),
            Linear("dense_h_to_4h", hidden, wide, wide),
            Linear("dense_4h_to_h", wide, hidden, hidden),
        )
    is_qwen2, is_starcoder2 = family == "qwen2", family == "starcoder2"
    bias = is_qwen2 or sizes.flag("use_bias" if is_starcoder2 else "attention_bias", default=is_starcoder2)
    out_bias = bias and not is_qwen2
    attention = (
        Linear("q_proj", hidden, queries, bias * queries),
        Linear("k_proj", hidden, keys, bias * keys),
        Linear("v_proj", hidden, keys, bias * keys),
        Linear("o_proj", queries, hidden, out_bias * hidden),
    )
    if is_starcoder2:
        return (*attention, Linear("c_fc", hidden, wide, bias * wide), Linear("c_proj", wide, hidden, bias * hidden))
    bias = family == "llama" and sizes.flag("mlp_bias", default=False)
    return (
        *attention,
        Linear("gate_proj", hidden, wide, bias * wide),
        Linear("up_proj", hidden, wide, bias * wide),
        Linear("down_proj", wide, hidden, bias * hidden),
    )


class _Sizes:
    """A config.json read with care: it comes from anywhere."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config, self._where = config, where
        self._names = _GPT2_NAMES if config.get("model_type") == "gpt2" else {}

    def whole(self, name: str, default: int | None = None) -> int:
        spelled = self._names.get(name, name)
        found = self._config.get(spelled)
        value = default if found is None else found
        limit = _LIMITS.get(name, 1 << 20)
        if value is None:
            raise ModelError(f"{spelled} is missing", where=self._where, cure=_CURE)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
            what = f"{spelled} is {str(value)[:40]}, and it has to be a whole number from 1 to {limit:,}"
            raise ModelError(what, where=self._where, cure=_CURE)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        return bool(self._config.get(name, default))


@functools.cache
def shipped_configs() -> dict[str, dict[str, Any]]:
    """Return the config.json fields that ship with the program, by Hub id."""
    return yaml.safe_load((share_dir("configs") / "models.yaml").read_text(encoding="utf-8"))


def shipped_config(repo_id: str) -> dict[str, Any] | None:
    """Return the fields of a known model, None for another; one tuned to chat has its base's shape."""
    names = {repo_id, repo_id.replace("-Instruct", ""), repo_id.replace("-instruct", "-base")}
    return next((config for known, config in shipped_configs().items() if known in names), None)
