"""Merge an adapter into its unquantised base, one tensor at a time: memory holds a shard, not the model.

W + s B A in float32, rounded once to what the base is stored in; s = alpha / r, or alpha / sqrt(r) with rsLoRA
(arXiv 2312.03732); DoRA scales each row to its learnt length (arXiv 2402.09353, equation 5). What this does not cover
(adapters on embeddings, new tokens, other methods) PEFT merges itself, with the whole model in memory.
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import SafetensorError, safe_open

from codex_space.core import durable
from codex_space.core.errors import ModelError
from codex_space.work import models

_PREFIX = "base_model.model."
_COPIED = ("*.json", "*.model", "*.txt", "*.jinja")


def merge(adapter: Path, base: Path, target: Path, said: Callable[[str], None]) -> None:
    """Make a folder of the whole model; finished shards of an earlier, cut off call are kept.

    Raises:
        ModelError: The base is quantised, damaged, or does not fit the adapter.
    """
    config = durable.read_json(base / "config.json") or {}
    if config.get("quantization_config"):
        raise ModelError(
            "the base is stored quantised, and merging into it would ruin it",
            where=base.name,
            cure="Name the unquantised model as the adapter's base.",
        )
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.mkdir(exist_ok=True)
    try:
        changes = _Changes(adapter, base)
    except _NotStreamedError as reason:
        said(f"merging in memory: {reason}")
        model = models.load_model(str(adapter), dtype=models.stored_dtype(base))
        model.save_pretrained(temporary)
    else:
        _merge_shards(changes, base, temporary, said)
    models.load_tokenizer(str(adapter)).save_pretrained(temporary)
    if (adapter / "generation_config.json").is_file():
        shutil.copyfile(adapter / "generation_config.json", temporary / "generation_config.json")
    temporary.rename(target)


def as_plain_lora(adapter: Path, target: Path) -> Path:
    """Return a folder of the adapter whose scale is alpha / r, which is all that llama.cpp knows: rsLoRA's alpha is rewritten.

    Raises:
        ModelError: It is more than matrices A and B, so that only the merged model holds all of it.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        plain = all(".lora_A." in key or ".lora_B." in key for key in file.keys())  # noqa: SIM118  # no dict
    if config.get("use_dora") or not plain or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ModelError(
            "this adapter is no plain LoRA, so it has no file of its own",
            where="adapter",
            cure="Leave adapter: true out: the merged files hold all of it.",
        )
    if config.get("use_rslora"):
        config |= {"use_rslora": False, "lora_alpha": config["lora_alpha"] * math.sqrt(config["r"])}
    durable.write_json(target / "adapter_config.json", config)
    (target / "adapter_model.safetensors").symlink_to((adapter / "adapter_model.safetensors").absolute())
    return target


class _NotStreamedError(Exception):
    """This adapter holds something that only PEFT merges."""


class _Changes:
    """What an adapter changes of its base, by the name of the base's tensor."""

    def __init__(self, adapter: Path, base: Path) -> None:
        self.config: Any = PeftConfig.from_pretrained(str(adapter))
        self._file = adapter / "adapter_model.safetensors"
        with safe_open(self._file, "pt") as file:
            keys = list(file.keys())
        stored = _tensor_names(base)
        self.lora: dict[str, str] = {}
        self.whole: dict[str, str] = {}
        for key in keys:
            name = key.removeprefix(_PREFIX)
            module, _, part = name.partition(".lora_")
            if part.split(".")[0] in {"A", "B", "magnitude_vector"}:
                self.lora[_find(f"{module}.weight", stored)] = key.partition(".lora_")[0]
            elif name in stored and "lora_" not in name and "token_adapter" not in name:
                self.whole[name] = key
            else:
                raise _NotStreamedError(f"it holds {name}")
        if str(self.config.peft_type).rpartition(".")[2] != "LORA":
            raise _NotStreamedError(f"its method is {self.config.peft_type}")
        if self.config.use_dora and self.config.fan_in_fan_out:
            raise _NotStreamedError("DoRA on transposed matrices")
        if self.config.rank_pattern or self.config.alpha_pattern or self.config.bias != "none":
            raise _NotStreamedError("ranks or biases of its own")
        rows = (durable.read_json(base / "config.json") or {}).get("vocab_size")
        if (adapter / "tokenizer_config.json").is_file() and len(models.load_tokenizer(str(adapter))) > (rows or 0):
            raise _NotStreamedError("it has more tokens than its base")
        if self.whole and (durable.read_json(base / "config.json") or {}).get("tie_word_embeddings"):
            raise _NotStreamedError("embeddings that share their weights")

    def apply(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the merged tensor, in the precision it came in."""
        if name in self.whole:
            return self._read(self.whole[name]).to(weight.dtype)
        if name not in self.lora:
            return weight
        key, config = self.lora[name], self.config
        a, b = self._read(f"{key}.lora_A.weight").float(), self._read(f"{key}.lora_B.weight").float()
        scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
        change = scale * (b @ a)
        if config.fan_in_fan_out:
            change = change.T
        if change.shape != weight.shape:
            raise ModelError(f"the adapter does not fit {name}", where="adapter", cure="It belongs to another model.")
        merged = weight.float() + change
        if config.use_dora:
            merged *= (self._read_magnitude(key).float() / merged.norm(dim=1)).unsqueeze(1)
        return merged.to(weight.dtype)

    def _read_magnitude(self, key: str) -> torch.Tensor:
        with safe_open(self._file, "pt") as file:
            name = next(each for each in file.keys() if each.startswith(f"{key}.lora_magnitude_vector"))  # noqa: SIM118  # no dict
            return file.get_tensor(name).flatten()

    def _read(self, key: str) -> torch.Tensor:
        with safe_open(self._file, "pt") as file:
            return file.get_tensor(key)


def _merge_shards(changes: _Changes, base: Path, target: Path, said: Callable[[str], None]) -> None:
    shards = sorted(base.glob("*.safetensors"))
    for number, shard in enumerate(shards, 1):
        done = target / shard.name
        if done.is_file():
            continue
        said(f"shard {number} of {len(shards)}")
        part = target / f".{shard.name}.part"
        try:
            _merge_shard(changes, shard, part)
        except SafetensorError as error:
            raise _damaged(shard, error) from error
        part.rename(done)
    for pattern in _COPIED:
        for path in base.glob(pattern):
            shutil.copyfile(path, target / path.name)


def _merge_shard(changes: _Changes, source: Path, target: Path) -> None:
    """Write a shard anew, tensor by tensor, under the very header it had: no shape and no precision changes."""
    with source.open("rb") as raw:
        length = raw.read(8)
        header = raw.read(int.from_bytes(length, "little"))
    places = {name: each["data_offsets"] for name, each in json.loads(header).items() if name != "__metadata__"}
    with safe_open(source, "pt") as file, target.open("wb") as out:
        out.write(length + header)
        for name in sorted(places, key=lambda each: places[each]):
            out.write(changes.apply(name, file.get_tensor(name)).contiguous().flatten().view(torch.uint8).numpy())
        out.flush()
        os.fsync(out.fileno())


def _damaged(shard: Path, error: Exception) -> ModelError:
    cure = "Fetch or train that model again."
    return ModelError(f"{shard.name} is damaged ({error})", where=shard.parent.name, cure=cure)


def _find(name: str, stored: set[str]) -> str:
    """Return a module's tensor as the base's files spell it: some leave out the part that holds all but the head."""
    short = name.partition(".")[2]
    found = next((each for each in (name, short) if each in stored), None)
    if found is None:
        raise _NotStreamedError(f"its layer {name} is spelled another way in the base's files")
    return found


def _tensor_names(base: Path) -> set[str]:
    names: set[str] = set()
    for path in sorted(base.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                names.update(file.keys())
        except SafetensorError as error:
            raise _damaged(path, error) from error
    if not names:
        raise ModelError("the base holds no safetensors weights", where=base.name)
    return names
