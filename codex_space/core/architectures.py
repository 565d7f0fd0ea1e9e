"""The shapes of new models in configs/architectures: read, checked against the size they are named after, and described without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_space.core.errors import ModelError, RecipeError, nearest
from codex_space.core.memory import GIB
from codex_space.core.paths import share_dir
from codex_space.core.quants import QUANTS
from codex_space.core.shapes import Shape, read_shape
from codex_space.core.yaml_text import parse_yaml

TARGET, MAX_OFF = "target_parameters", 0.03
USUAL_VOCAB = 4096
"""Of a shape that leaves its vocabulary to the tokenizer."""
MODEL_TYPES = ("llama", "starcoder2")
_CLASSES = {"llama": "LlamaForCausalLM", "starcoder2": "Starcoder2ForCausalLM"}
_TRAINED_BYTES = 16
"""Of a parameter: weight, gradient and AdamW's two moments in float32."""
_GGUF_TYPES = ("F16", "Q8_0", "Q4_K_M")


@dataclass(frozen=True)
class Architecture:
    """Fields of transformers' own config class; `target` is the number of parameters it is named after, None for none."""

    name: str
    fields: Mapping[str, Any]
    target: int | None = None

    @property
    def model_type(self) -> str:
        """Of transformers."""
        return str(self.fields["model_type"])

    def shape(self, vocab_size: int | None = None) -> Shape:
        """Return its sizes; its own vocabulary goes before the one given.

        Raises:
            ModelError: Sizes that cannot be, or that are more than 3 % off the target; the arithmetic is told.
        """
        found = read_shape({"vocab_size": vocab_size or USUAL_VOCAB, **self.fields}, f"architecture {self.name}")
        if self.target and abs(found.num_parameters / self.target - 1) > MAX_OFF:
            raise ModelError(
                f"it comes to {_millions(found.num_parameters)} parameters, {found.num_parameters / self.target - 1:+.1%} of its "
                f"target of {_millions(self.target)}: {_sum(found)}",
                where=f"architecture {self.name}",
                cure="Change num_hidden_layers, hidden_size or intermediate_size, or target_parameters.",
            )
        return found


def list_architectures() -> list[str]:
    """Return the names of those that ship, in order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read_architecture(ref: str | Mapping[str, Any]) -> Architecture:
    """Return a shipped architecture, that of a YAML file, or one given by its fields.

    Raises:
        RecipeError: There is none of that name.
        ModelError: A type of model that is not made here.
    """
    if isinstance(ref, str):
        path = Path(ref) if ref.endswith(".yaml") and Path(ref).is_file() else _folder() / f"{ref}.yaml"
        if ref not in list_architectures() and not path.is_file():
            cure = nearest(ref, list_architectures())
            raise RecipeError(f"unknown architecture {ref!r}", where="architecture", cure=cure)
        name, values = path.stem, parse_yaml(path.read_text(encoding="utf-8"), where=path.name)
    else:
        name, values = "of the recipe", dict(ref)
    target = values.pop(TARGET, None)
    fields = {"model_type": "llama", **values}
    if fields["model_type"] not in MODEL_TYPES:
        cure = nearest(str(fields["model_type"]), list(MODEL_TYPES))
        raise ModelError(f"no new model of type {fields['model_type']!r} is made", where="architecture", cure=cure)
    if target is not None and (not isinstance(target, int) or target <= 0):
        raise ModelError(f"{TARGET} is {target!r}", where=f"architecture {name}", cure="Write a whole number.")
    fields.setdefault("num_key_value_heads", fields.get("num_attention_heads"))  # the classes' defaults differ
    return Architecture(name, fields, target)


def describe(architecture: Architecture, vocab_size: int | None = None) -> dict[str, Any]:
    """Return what is known of a model before any memory is taken: `params`, `target`, `config`, sizes in GiB.

    `train_gib` is weights, gradients and AdamW's moments in float32 (activations come on top), `gguf_gib` the F16 file.

    Raises:
        ModelError: As in `Architecture.shape`.
    """
    shape = architecture.shape(vocab_size)
    params, fields = shape.num_parameters, architecture.fields
    length = int(fields.get("max_position_embeddings", 2048))
    ggufs = {name: round(params * QUANTS[name].bits / 8 / GIB, 3) for name in _GGUF_TYPES}
    config = {"architectures": [_CLASSES[architecture.model_type]], "vocab_size": shape.vocab_size, **fields}
    return {
        "name": architecture.name,
        "params": params,
        "target": architecture.target,
        "off_percent": round(100 * (params / architecture.target - 1), 2) if architecture.target else None,
        "sum": _sum(shape),
        "config": config,
        "train_gib": round(params * _TRAINED_BYTES / GIB, 3),
        "gguf_gib": ggufs["F16"],
        "gguf_gib_by_type": ggufs,
        "flops_per_token": shape.flops_per_token(length),
        "kv_cache_bytes_per_token": 4 * shape.num_layers * shape.key_size,
        "context": length,
    }


def _sum(shape: Shape) -> str:
    """Return the arithmetic of a shape's parameters."""
    each = sum(linear.weights + linear.bias for linear in shape.linears)
    tables = f"{shape.vocab_size:,} x {shape.hidden_size:,}" + ("" if shape.is_tied else " x 2")
    return f"embeddings {tables} + {shape.num_layers} layers x {each:,} + norms {shape.norm_parameters:,}"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}M"


def _folder() -> Path:
    return share_dir("configs") / "architectures"
