"""Turn a flat TRL or Hugging Face config, or the older `codex.json`, into a recipe, saying what became of each key."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_space.core.errors import RecipeError, nearest
from codex_space.core.recipe import SCHEMA, validate
from codex_space.core.sections import TRACKERS
from codex_space.core.train_fields import OWNED, train_fields
from codex_space.core.yaml_text import parse_yaml

KINDS = ("sft", "dpo", "kto", "orpo", "reward")
"""Kinds a flat file can be of; where its keys fit several, the first."""

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
    "push_to_hub_model_id": "hub.repo_id",
    "hub_private_repo": "hub.private",
    "seed": "seed",
    "run_name": "name",
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep_last",
    "metric_for_best_model": "checkpoints.metric",
    "test_split_size": "validation.fraction",
}
# Names that TRL and transformers 5 removed, with today's.
_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "max_seq_length": "max_length",
    "warmup_ratio": "warmup_steps",
    "gradient_checkpointing_enable": "gradient_checkpointing",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
}
_LEFT_OUT = {
    **{name: why for name, why in OWNED.items() if name not in _PLACES},
    "overwrite_output_dir": "each run has a folder of its own",
    "logging_dir": "set track.to",
    "save_safetensors": "weights are always saved as safetensors",
    "include_tokens_per_second": "tokens/s are always drawn",
    "fp16_backend": "transformers 5 has one way",
    "half_precision_backend": "transformers 5 has one way",
    "use_bnb_nested_quant": "4-bit weights are always quantised twice",
    "lora_task_type": "it follows from the kind",
    "streaming": "rows are read once and kept beside the run",
    "dataset_streaming": "rows are read once and kept beside the run",
}
_TOKENS = {"hub_token", "push_to_hub_token", "token", "use_auth_token"}
_PRECISIONS = {
    "fp16": {"fp16", "float16", "16", "16-mixed", "fp16-mixed"},
    "bf16": {"bf16", "bfloat16", "bf16-mixed"},
    "fp32": {"fp32", "float32", "32", "no", "full"},
}
# What a machine without a GPU gets anyway, so that no recipe has to say it.
_OF_A_CPU = {
    "dtype": "float32",
    "bf16": False,
    "fp16": False,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
}
# Read by functions of their own, each of which says what became of them.
_TOGETHER = {
    "kind", "precision", "use_peft", "push_to_hub", "datasets", "validation_file", "dataset_test_split", "use_cpu", "env",
    "bnb_4bit_quant_type", "group_by_length",
}  # fmt: skip
_WRITTEN_FOR = re.compile(r"^#\s*(?:accelerate launch\s+)?trl (\w+) --config", re.MULTILINE)


@dataclass
class Imported:
    """A recipe's values and one sentence for each key that was renamed, moved or left out."""

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The recipe's kind."""
        return str(self.values["kind"])

    def note(self, key: str, text: str) -> None:
        """Say what became of a key."""
        self.notes.append(f"{key}: {text}")

    def put(self, place: str, value: Any) -> None:  # noqa: ANN401  # YAML value
        """Set `section.name`; of datasets, the first."""
        section, _, name = place.rpartition(".")
        if section == "datasets":
            self.values["datasets"][0][name] = value
        elif section:
            self.values.setdefault(section, {})[name] = value
        else:
            self.values[name] = value


def import_flat(path: Path, kind: str | None = None) -> Imported:
    """Read a flat YAML or JSON file and return the recipe it stands for; `kind` where it cannot be told from the file.

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
    told = _WRITTEN_FOR.search(text)
    imported = convert_flat(flat, kind or (told[1] if told else None), path.parent)
    validate(imported.values)
    return imported


def convert_flat(flat: Mapping[str, Any], kind: str | None = None, folder: Path | None = None) -> Imported:
    """Place each flat key in a recipe; unknown ones are named, not dropped in silence.

    Names that are files or folders in `folder`, where the flat file lies, are taken as these.

    Raises:
        RecipeError: The kind is none of ours, or no dataset is named.
    """
    notes: list[str] = []
    kind = _kind_of(flat, kind, notes)
    found = Imported({"schema": SCHEMA, "kind": kind, "datasets": [{}], "train": {}}, notes)
    for key, value in flat.items():
        _place(key, value, found)
    _precision(flat, found)
    _adapters(flat, found)
    _datasets(flat, found, folder)
    _validation(flat, found, folder)
    _checkpoints(found)
    _machine(flat, found)
    _hub(flat, found)
    if not found.values["datasets"][0].get("path"):
        raise RecipeError("no dataset is named", cure="Add dataset_name (Hub) or train_file (local) to the file.")
    if not found.values["train"]:
        del found.values["train"]
    return found


def _kind_of(flat: Mapping[str, Any], told: str | None, notes: list[str]) -> str:
    wanted = told or flat.get("kind")
    if wanted is not None:
        if wanted not in KINDS:
            raise RecipeError(
                f"a flat file of kind {wanted} cannot be read", where="kind", cure=f"Known: {', '.join(KINDS)}."
            )
        return str(wanted)
    keys = {_RENAMED.get(key, key) for key in flat}
    if flat.get("lora_task_type") == "SEQ_CLS":
        return "reward"
    fits = {kind: len(keys & train_fields(kind).keys()) for kind in KINDS}
    best = [kind for kind in KINDS if fits[kind] == max(fits.values())]
    if "sft" not in best:
        own = ", ".join(sorted(keys & train_fields(best[0]).keys() - train_fields("sft").keys()))
        others = (
            f"; {' and '.join(best[1:])} have it too, say kind: in the file if it is one of these" if best[1:] else ""
        )
        notes.append(f"kind: taken as {best[0]}, because of {own}{others}")
    return "sft" if "sft" in best else best[0]


def _place(key: str, value: Any, found: Imported) -> None:  # noqa: ANN401  # YAML value
    if key in _TOKENS:
        found.note(key, "left out; a token never stands in a recipe, the program uses HF_TOKEN")
    elif key in {"lora", "peft"} and isinstance(value, Mapping):
        found.values["lora"] = {
            {"alpha": "lora_alpha", "dropout": "lora_dropout"}.get(k, k): v for k, v in value.items()
        }
        found.note(key, "became the lora section")
    elif key == "report_to":
        _trackers(value if isinstance(value, list) else [value] if value else [], found)
    elif key in _TOGETHER:
        return
    elif key in _PLACES:
        found.put(_PLACES[key], value)
        if _PLACES[key].rpartition(".")[2] != key:
            found.note(key, f"became {_PLACES[key]}")
    elif key in _LEFT_OUT:
        if key != "data_seed" or value != found.values.get("seed"):
            found.note(key, f"left out; {_LEFT_OUT[key]}")
    else:
        _train(key, value, found)


def _trackers(names: list[Any], found: Imported) -> None:
    if known := [name for name in names if name in TRACKERS]:
        found.values["track"] = {"to": known}
        found.note("report_to", "became track.to; files are written in the run's folder, nothing is sent")
    if left := [str(name) for name in names if name not in {*TRACKERS, "none", "all"}]:
        found.note("report_to", f"{', '.join(left)} left out; curves are always kept by the program")


def _train(key: str, value: Any, found: Imported) -> None:  # noqa: ANN401  # YAML value
    name, fields = _RENAMED.get(key, key), train_fields(found.kind)
    if name not in fields:
        found.note(key, f"refused, unknown. {nearest(key, [*fields, *_PLACES])}")
        return
    found.values["train"][name] = value
    if name != key:
        found.note(key, f"became train.{name}, its name today")


def _precision(flat: Mapping[str, Any], found: Imported) -> None:
    if flat.get("group_by_length"):
        found.values["train"]["train_sampling_strategy"] = "group_by_length"
        found.note("group_by_length", "became train.train_sampling_strategy, its name today")
    elif "group_by_length" in flat:
        found.note("group_by_length", "left out; it is the default")
    quantised = flat.get("bnb_4bit_quant_type", "nf4")
    if quantised != "nf4":
        found.note("bnb_4bit_quant_type", f"refused, {quantised}: 4-bit weights are NF4 here")
    if (precision := flat.get("precision")) is None:
        return
    meant = next((name for name, words in _PRECISIONS.items() if str(precision).lower() in words), None)
    if meant is None:
        cure = "Set train.bf16, train.fp16 or model.load_in_4bit."
        found.note("precision", f"refused, {precision!r} is not known. {cure}")
        return
    name, value = ("bf16", False) if meant == "fp32" else (meant, True)
    found.values["train"][name] = value
    found.note("precision", f"became train.{name}: {str(value).lower()}")


def _adapters(flat: Mapping[str, Any], found: Imported) -> None:
    """Read the LoRA keys as TRL does: only with `use_peft`, with its defaults, one name as a pattern."""
    if flat.get("use_peft") is False and "lora" not in flat and "peft" not in flat:
        if found.values.pop("lora", None):
            found.note("use_peft", "false, so that TRL trains all weights: the lora keys are left out")
        return
    if flat.get("use_peft"):
        given = dict(found.values.get("lora") or {})
        found.values["lora"] = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, **given}  # of TRL's ModelConfig
        found.note("use_peft", "became a lora section, with TRL's defaults where the file gives none")
        if "target_modules" not in given:
            found.note(
                "use_peft",
                "TRL would take the layers PEFT knows for this model; here it is lora.target_modules: all-linear",
            )
    lora = found.values.get("lora")
    targets = lora.get("target_modules") if isinstance(lora, dict) else None
    if isinstance(lora, dict) and isinstance(targets, list) and len(targets) == 1:
        name = str(targets[0]).removeprefix(r"(.*\.)?")
        lora["target_modules"] = name if name == "all-linear" or name == targets[0] else [name]


def _datasets(flat: Mapping[str, Any], found: Imported, folder: Path | None) -> None:
    model = found.values.get("model", {})
    if folder and (folder / str(model.get("model_name_or_path", ""))).is_dir() and model.get("model_name_or_path"):
        model["model_name_or_path"] = str(folder / model["model_name_or_path"])
    mixed = flat.get("datasets")
    if isinstance(mixed, list) and mixed:
        found.values["datasets"] = [_one_of_many(entry, found) for entry in mixed if isinstance(entry, Mapping)] or [{}]
    for section in found.values["datasets"]:
        if section.get("path"):
            section["path"] = _local(section["path"], "train", folder)


def _one_of_many(entry: Mapping[str, Any], found: Imported) -> dict[str, Any]:
    files = entry.get("data_files")
    if isinstance(files, str):
        found.note("datasets", f"{entry.get('path')} with data_files became the file itself")
        return {"path": files}
    for key in sorted(set(entry) - {"path", "name", "split"}):
        found.note("datasets", f"{key} of {entry.get('path')} left out; see weight and columns of a dataset")
    return {key: entry[key] for key in ("path", "name", "split") if entry.get(key) is not None}


def _local(ref: str, split: str, folder: Path | None) -> str:
    """Return the file of that split where the name is a file, or a folder of Parquet files, beside the flat file."""
    beside = folder / ref if folder else Path(ref)
    if (beside / f"{split}.parquet").is_file():
        return str(beside / f"{split}.parquet")
    return str(beside) if folder and beside.is_file() else ref


def _validation(flat: Mapping[str, Any], found: Imported, folder: Path | None) -> None:
    train, file, split = found.values["train"], flat.get("validation_file"), flat.get("dataset_test_split")
    if file is not None:
        found.values["validation"] = {"dataset": {"path": _local(str(file), "validation", folder)}}
        found.note("validation_file", "became validation.dataset")
    elif split is not None and (flat.get("dataset_name") or flat.get("dataset_name") == ""):
        ref = str(flat["dataset_name"])
        local = _local(ref, str(split), folder)
        own = {"path": local} if local != ref else {**found.values["datasets"][0], "path": ref, "split": split}
        found.values["validation"] = {"dataset": own}
        found.note("dataset_test_split", "became validation.dataset")
    elif "validation" not in found.values:
        found.values["validation"] = {"fraction": 0.0}
        found.note("validation", "none is named, so no rows are held out; set validation.fraction for a share")
    pace, every = train.get("eval_steps"), found.values.get("checkpoints", {}).get("every_steps")
    if train.get("eval_strategy") == "steps" and pace == every and pace is not None:
        del train["eval_strategy"], train["eval_steps"]
        found.note("eval_steps", "left out; rows are evaluated on at each checkpoint")


def _checkpoints(found: Imported) -> None:
    every = found.values.get("checkpoints", {}).get("every_steps")
    if isinstance(every, float) and every < 1:
        del found.values["checkpoints"]["every_steps"]
        found.note(
            "save_steps",
            f"left out; {'' if every == 0.1 else f'{every} of the run, but '}ten over the run is the default",
        )


def _machine(flat: Mapping[str, Any], found: Imported) -> None:
    """Leave out what only says that the file was written for a machine without a GPU."""
    env = flat.get("env")
    for name, value in (env if isinstance(env, Mapping) else {}).items():
        if name == "OMP_NUM_THREADS" and str(value).isdecimal():
            found.put("launch.num_threads", int(value))
            found.note("env", "OMP_NUM_THREADS became launch.num_threads")
        else:
            found.note("env", f"{name} left out; set it where the program starts")
    if "use_cpu" not in flat:
        return
    same = [name for name, value in _OF_A_CPU.items() if flat["use_cpu"] and name in flat and flat[name] == value]
    for name in same:
        found.values["model" if name == "dtype" else "train"].pop(name, None)
    beside = f", and with it {', '.join(same)}" if same else ""
    found.note("use_cpu", f"left out; the machine decides{beside}")


def _hub(flat: Mapping[str, Any], found: Imported) -> None:
    if "push_to_hub" not in flat:
        return
    repo_id = found.values.get("hub", {}).get("repo_id")
    if flat["push_to_hub"]:
        found.note(
            "push_to_hub", f"checkpoints are pushed to {repo_id}" if repo_id else "left out; set hub.repo_id to push"
        )
    elif found.values.pop("hub", None):
        found.note("push_to_hub", "false, so the hub keys are left out")
