"""Turn a flat TRL or Hugging Face config, or the older `codex.json`, into a recipe, saying what became of each key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_space.core.errors import RecipeError
from codex_space.core.recipe import SCHEMA, TRACKERS, nearest, parse_yaml, validate
from codex_space.core.train_fields import OWNED, train_fields

# Flat name -> place in a recipe. TRL's ModelConfig, ScriptArguments and the older codex.json meet here.
_PLACES: dict[str, str] = {
    "model_name_or_path": "model.model_name_or_path",
    "model": "model.model_name_or_path",
    "model_revision": "model.revision",
    "dtype": "model.dtype",
    "torch_dtype": "model.dtype",
    "attn_implementation": "model.attn_implementation",
    "load_in_4bit": "model.load_in_4bit",
    "lora_r": "lora.r",
    "lora_alpha": "lora.lora_alpha",
    "lora_dropout": "lora.lora_dropout",
    "lora_target_modules": "lora.target_modules",
    "lora_modules_to_save": "lora.modules_to_save",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "dataset_name": "datasets.path",
    "train_file": "datasets.path",
    "dataset_config": "datasets.name",
    "dataset_train_split": "datasets.split",
    "hub_model_id": "hub.repo_id",
    "hub_repo_id": "hub.repo_id",
    "hub_private_repo": "hub.private",
    "seed": "seed",
    "run_name": "name",
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep_last",
    "metric_for_best_model": "checkpoints.metric",
}
# Names that transformers 5 removed, with today's.
_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "max_seq_length": "max_length",
    "warmup_ratio": "warmup_steps",
    "gradient_checkpointing_enable": "gradient_checkpointing",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
}
_SILENT = {"output_dir", "push_to_hub", "use_peft", "precision", "hub_strategy"}


@dataclass(frozen=True)
class Imported:
    """A recipe's values and one sentence for each key that was renamed, moved or left out."""

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def import_flat(path: Path) -> Imported:
    """Read a flat YAML or JSON file and return the recipe it stands for.

    Raises:
        RecipeError: Not YAML or JSON, or what comes out is not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError("there is no such file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise RecipeError("the file is not UTF-8 text", where=str(path)) from error
    if path.suffix == ".json":
        try:
            flat = json.loads(text)
        except json.JSONDecodeError as error:
            raise RecipeError(f"this is not JSON: {error.msg}", where=f"{path} line {error.lineno}") from error
        if not isinstance(flat, dict):
            raise RecipeError("a flat config is one JSON object", where=str(path))
    else:
        flat = parse_yaml(text, where=str(path))
    imported = convert_flat(flat)
    validate(imported.values)
    return imported


def convert_flat(flat: Mapping[str, Any]) -> Imported:
    """Place each flat key in a recipe of kind sft; unknown ones are named, not dropped in silence."""
    values: dict[str, Any] = {"schema": SCHEMA, "kind": "sft", "datasets": [{}], "train": {}}
    notes: list[str] = []
    for key, value in flat.items():
        _place(key, value, values, notes)
    _precision(flat, values, notes)
    if flat.get("validation_file") is not None:
        notes.append("validation_file: left out; a share of the training rows is held out (validation.fraction)")
    if flat.get("use_peft") and "lora" not in values:
        values["lora"] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05}  # the defaults of TRL's ModelConfig
        notes.append("use_peft: became a lora section with TRL's defaults")
    if not values["datasets"][0].get("path"):
        raise RecipeError("no dataset is named", cure="Add dataset_name (Hub) or train_file (local) to the file.")
    if not values["train"]:
        del values["train"]
    return Imported(values, notes)


def _place(key: str, value: Any, values: dict[str, Any], notes: list[str]) -> None:  # noqa: ANN401  # YAML value
    if key in {"hub_token", "token", "use_auth_token"}:
        notes.append(f"{key}: left out; a token never stands in a recipe, the program uses HF_TOKEN")
    elif key in {"lora", "peft"} and isinstance(value, Mapping):
        values["lora"] = {{"alpha": "lora_alpha", "dropout": "lora_dropout"}.get(k, k): v for k, v in value.items()}
        notes.append(f"{key}: became the lora section")
    elif key in _PLACES:
        _put(values, _PLACES[key], value)
        if _PLACES[key].rpartition(".")[2] != key:
            notes.append(f"{key}: became {_PLACES[key]}")
    elif key == "report_to":
        _place_trackers([value] if isinstance(value, str) else list(value or []), values, notes)
    elif key in _SILENT or key == "validation_file":
        return
    else:
        _place_train(key, value, values, notes)


def _place_trackers(names: list[Any], values: dict[str, Any], notes: list[str]) -> None:
    known = [name for name in names if name in TRACKERS]
    if known:
        values["track"] = {"to": known}
        notes.append("report_to: became track.to; files are written in the run's folder, nothing is sent")
    if left := [str(name) for name in names if name not in {*TRACKERS, "none", "all"}]:
        notes.append(f"report_to: {', '.join(left)} left out; curves are always kept by the program")


def _place_train(key: str, value: Any, values: dict[str, Any], notes: list[str]) -> None:  # noqa: ANN401  # YAML value
    name = _RENAMED.get(key, key)
    fields = train_fields("sft")
    if name in OWNED:
        notes.append(f"{key}: left out; {OWNED[name]}")
    elif name in fields:
        values["train"][name] = value
        if name != key:
            notes.append(f"{key}: became train.{name}, its name since transformers 5")
    else:
        notes.append(f"{key}: refused, unknown. {nearest(key, [*fields, *_PLACES])}")


def _put(values: dict[str, Any], place: str, value: Any) -> None:  # noqa: ANN401  # YAML value
    section, _, name = place.rpartition(".")
    if section == "datasets":
        values["datasets"][0][name] = value
    elif section:
        values.setdefault(section, {})[name] = value
    else:
        values[name] = value


def _precision(flat: Mapping[str, Any], values: dict[str, Any], notes: list[str]) -> None:
    precision = flat.get("precision")
    if precision is None:
        return
    field_name = {"fp16": "fp16", "float16": "fp16", "bf16": "bf16", "bfloat16": "bf16"}.get(str(precision))
    if field_name:
        values["train"][field_name] = True
    notes.append(f"precision: became train.{field_name}" if field_name else "precision: float32 is the default on CPU")
