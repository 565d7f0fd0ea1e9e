"""The types of a GGUF file: what a weight costs in each, and how large a file will be before it is made."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codex_space.core.errors import ModelError

MAX_HEADER_BYTES = 100 << 20  # safetensors' own limit


@dataclass(frozen=True)
class Quant:
    """One type.

    Attributes:
        ftype: llama.cpp's number (`llama_ftype`).
        bits: Per weight of a matrix, scales included; of mixed types as llama.cpp's tools/quantize/README.md has it for 8B.
        narrow_bits: Where a row is no multiple of 256 and llama.cpp takes another type.
        max_kl: Mean KL divergence from the model, in nats a token, above which a file is not offered.
    """

    ftype: int
    bits: float
    narrow_bits: float
    max_kl: float
    about: str
    needs_imatrix: bool = False


QUANTS: Mapping[str, Quant] = {
    "F32": Quant(0, 32, 32, 1e-3, "32 bits, for further work"),
    "F16": Quant(1, 16, 16, 1e-3, "16 bits, the model as it is"),
    "BF16": Quant(32, 16, 16, 1e-2, "16 bits with bfloat16's range; coarser than F16"),
    "Q8_0": Quant(7, 8.5, 8.5, 0.1, "8 bits, hardly to be told from F16"),
    "Q6_K": Quant(18, 6.56, 8.5, 0.2, "6 bits, very close"),
    "Q5_K_M": Quant(17, 5.7, 6.0, 0.5, "5 bits, close"),
    "Q5_K_S": Quant(16, 5.57, 6.0, 0.5, "5 bits, a little smaller"),
    "Q4_K_M": Quant(15, 4.89, 5.5, 1.0, "4 bits, the usual choice"),
    "Q4_K_S": Quant(14, 4.67, 5.5, 1.0, "4 bits, a little smaller"),
    "IQ4_XS": Quant(30, 4.46, 4.5, 1.0, "4 bits, smallest of them, slower on a CPU"),
    "Q3_K_M": Quant(12, 4.0, 4.5, 1.5, "3 bits, where memory is short"),
    "Q2_K": Quant(10, 3.16, 4.5, 2.0, "2 bits, loses much"),
    "IQ3_XXS": Quant(23, 3.25, 4.5, 1.5, "3 bits with an importance matrix", needs_imatrix=True),
    "IQ2_XS": Quant(20, 2.59, 4.5, 2.0, "2 bits with an importance matrix", needs_imatrix=True),
    "Q5_1": Quant(9, 6.0, 6.0, 0.5, "5 bits, older type"),
    "Q5_0": Quant(8, 5.5, 5.5, 0.5, "5 bits, older type"),
    "Q4_1": Quant(3, 5.0, 5.0, 1.0, "4 bits, older type"),
    "Q4_0": Quant(2, 4.55, 4.55, 1.0, "4 bits, older type, quick on phones"),
}
ADAPTER = "LoRA"
"""The type of an adapter's own file, which is loaded on top of its base."""
EXACT = ("F32", "F16", "BF16")
"""What llama.cpp's converter writes; all others are made from its F16."""


@dataclass(frozen=True)
class Weights:
    """How many numbers a model holds: in matrices whose rows are multiples of 256, of 32, of neither, and in vectors."""

    wide: int
    narrow: int
    odd: int
    vectors: int
    tokenizer_bytes: int

    @property
    def total(self) -> int:
        """All parameters stored."""
        return self.wide + self.narrow + self.odd + self.vectors


def predict_bytes(weights: Weights, name: str) -> int:
    """Return about how large a file of that type will be."""
    quant = QUANTS[name]
    matrices = weights.wide * quant.bits + weights.narrow * quant.narrow_bits + weights.odd * max(quant.bits, 16)
    return int(matrices / 8 + 4 * weights.vectors + 0.6 * weights.tokenizer_bytes) + 20_000


def conversions(kinds: Sequence[str]) -> list[str]:
    """Return the types the converter writes for these, what the others are made from among them."""
    exact = [kind for kind in kinds if kind in EXACT]
    return exact if len(exact) == len(kinds) or "F16" in exact else ["F16", *exact]


def written(kinds: Sequence[str]) -> list[str]:
    """Return every type of file that is written on the way to these."""
    return [*conversions(kinds), *(kind for kind in kinds if kind not in EXACT)]


def room_bytes(weights: Weights, kinds: Sequence[str], *, merges: bool) -> int:
    """Return about how much disk an export takes while it is made; an adapter's merged model lies there too."""
    merged = predict_bytes(weights, "F32") if merges else 0
    return merged + sum(predict_bytes(weights, kind) for kind in written(kinds))


def read_weights(folder: Path) -> Weights:
    """Count a folder's parameters from the headers of its safetensors files alone.

    Raises:
        ModelError: There are none, or one is cut off.
    """
    sizes = {"wide": 0, "narrow": 0, "odd": 0, "vectors": 0}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            "the folder holds no safetensors weights", where=folder.name, cure="Train again, or name another."
        )
    for path in files:
        for shape in _shapes(path):
            count = 1
            for size in shape:
                count *= size
            group = "vectors" if len(shape) < 2 else _row_group(shape)
            sizes[group] += count
    tokenizer = folder / "tokenizer.json"
    return Weights(**sizes, tokenizer_bytes=tokenizer.stat().st_size if tokenizer.is_file() else 0)


def _row_group(shape: list[int]) -> str:
    return "wide" if shape[-1] % 256 == 0 else "narrow" if shape[-1] % 32 == 0 else "odd"


def _shapes(path: Path) -> list[list[int]]:
    """Return the shapes in a safetensors header (8 bytes of length, then JSON), checked against the file's size."""
    cut = ModelError(
        f"{path.name} is cut off or damaged", where=path.parent.name, cure="Fetch or train that model again."
    )
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER_BYTES
        if length >= MAX_HEADER_BYTES:
            raise cut
        try:
            header = json.loads(file.read(length))
            tensors = [each for name, each in header.items() if name != "__metadata__"]
            end = max((each["data_offsets"][1] for each in tensors), default=0)
            shapes = [[int(size) for size in each["shape"]] for each in tensors]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise cut from error
    if path.stat().st_size < 8 + length + end:
        raise cut
    return shapes
