"""The few fields of a recipe that people change, read from its text and written back, touching nothing else."""

from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from codex_space.core.recipe import SCHEMA
from codex_space.core.sections import ExportSection, LaunchSection
from codex_space.core.train_fields import train_fields
from codex_space.core.yaml_text import parse_yaml

FULL, LORA, QLORA = "full", "lora", "qlora"
EPOCHS, STEPS = "epochs", "steps"
BYTE_BPE = "byte_bpe"
HERE = "local"
FLAVOR = LaunchSection().flavor


@dataclass(frozen=True)
class Form:
    """The few fields people change; those a kind does not have stay None.

    Attributes:
        weights: Shares of several datasets, as typed: `0.7, 0.3`.
        loss_type: One or several losses: `sigmoid, sft`.
        learning_rate: As typed, so that `1e-4` stays what it was.
        export_types: Types of GGUF file that are made once the run has succeeded.
        where: This machine (`local`), or the flavor of a Hugging Face Job.
        holdout_percent: Share of the rows kept out of training, 0 to 50.
    """

    kind: str = "sft"
    name: str = ""
    base: str | None = None
    architecture: str | None = None
    tokenizer: str | None = None
    vocab_size: int | None = None
    tokenizer_method: str | None = None
    datasets: list[str] = field(default_factory=list)
    weights: str = ""
    method: str | None = None
    lora_r: int | None = None
    beta: float | None = None
    loss_type: str | None = None
    length_unit: str | None = None
    length: float | None = None
    learning_rate: str | None = None
    batch: int | None = None
    accumulation: int | None = None
    max_length: int | None = None
    holdout_percent: float | None = None
    every_steps: int | None = None
    keep_last: int | None = None
    keep_best: int | None = None
    patience: int | None = None
    repo_id: str = ""
    private: bool = True
    keep_rows: bool = False
    where: str = HERE
    export_types: list[str] = field(default_factory=list)


def read_form(text: str) -> Form:
    """Return the fields of a recipe text, defaults filled in.

    Raises:
        RecipeError: The text is not YAML.
    """
    values = parse_yaml(text)
    kind = str(values.get("kind", "sft"))
    sources = [entry for entry in _list(values.get("datasets")) if isinstance(entry, dict)]
    common: dict[str, Any] = {
        "kind": kind,
        "name": str(values.get("name") or ""),
        "datasets": [str(entry.get("path", "")) for entry in sources],
        "weights": _weights_text(sources),
    }
    if kind == "tokenizer":
        method = str(values.get("method") or BYTE_BPE)
        return Form(**common, vocab_size=values.get("vocab_size", 4096), tokenizer_method=method)
    special = _pretraining(values) if kind == "pretrain" else _tuning(values, kind)
    return Form(**common, **_training(values, kind), **special)


def write_form(text: str, form: Form) -> str:
    """Return the recipe text with the fields that differ put in; all else stays as it was.

    Raises:
        RecipeError: The text is not YAML.
    """
    values, before = parse_yaml(text), read_form(text)
    changed = {name: value for name, value in asdict(form).items() if value != getattr(before, name)}
    for name in changed.keys() & _PLACES.keys():
        put(values, _PLACES[name], _typed(name, changed[name]))
    if changed.keys() & {"datasets", "weights"}:
        values["datasets"] = _sources(values, form)
    if "method" in changed:
        _put_method(values, form)
    if changed.keys() & {"length", "length_unit"}:
        steps = form.length_unit == STEPS
        put(values, "train.max_steps", int(form.length) if steps and form.length else None)
        put(values, "train.num_train_epochs", None if steps else _whole(form.length))
    if "max_length" in changed:
        put(values, "block_size" if form.kind == "pretrain" else "train.max_length", form.max_length)
    if changed.keys() & {"repo_id", "private", "keep_rows"}:
        _put_hub(values, form)
    if "export_types" in changed:
        _put_export(values, form)
    if "where" in changed:
        put(values, "launch.where", None if form.where == HERE else "hf-jobs")
        put(values, "launch.flavor", None if form.where == HERE else form.where)
    return dump(values)


def dump(values: dict[str, Any]) -> str:
    """Return values as YAML in reading order."""
    head = {"schema": values.get("schema", SCHEMA), "kind": values.get("kind", "sft")}
    ordered = {**head, **{key: value for key, value in values.items() if key not in head}}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)


def put(values: dict[str, Any], path: str, value: Any) -> None:  # noqa: ANN401  # YAML value
    """Set `a.b.c`, or take it out where the value is None; a section left empty goes too."""
    *parents, last = path.split(".")
    here, trail = values, []
    for part in parents:
        child = here.get(part)
        if not isinstance(child, dict):
            if value is None:
                return
            child = here[part] = {}
        trail.append((here, part))
        here = child
    if value is not None:
        here[last] = value
        return
    here.pop(last, None)
    for parent, part in reversed(trail):
        if parent[part] == {}:
            del parent[part]


_PLACES = {
    "name": "name",
    "base": "model.model_name_or_path",
    "architecture": "architecture",
    "tokenizer": "tokenizer",
    "vocab_size": "vocab_size",
    "tokenizer_method": "method",
    "lora_r": "lora.r",
    "beta": "train.beta",
    "loss_type": "train.loss_type",
    "learning_rate": "train.learning_rate",
    "batch": "train.per_device_train_batch_size",
    "accumulation": "train.gradient_accumulation_steps",
    "holdout_percent": "validation.fraction",
    "every_steps": "checkpoints.every_steps",
    "keep_last": "checkpoints.keep_last",
    "keep_best": "checkpoints.keep_best",
    "patience": "checkpoints.early_stopping_patience",
}


def _training(values: dict[str, Any], kind: str) -> dict[str, Any]:
    train, kept, hub, launch = (_section(values, name) for name in ("train", "checkpoints", "hub", "launch"))

    max_steps = train.get("max_steps")
    by_steps = isinstance(max_steps, int | float) and max_steps > 0
    fraction = _section(values, "validation").get("fraction", 0.05)
    return {
        "length_unit": STEPS if by_steps else EPOCHS,
        "length": max_steps if by_steps else _default(train, kind, "num_train_epochs"),
        "learning_rate": _rate_text(_default(train, kind, "learning_rate")),
        "batch": _default(train, kind, "per_device_train_batch_size"),
        "accumulation": _default(train, kind, "gradient_accumulation_steps"),
        "holdout_percent": round(fraction * 100, 4) if isinstance(fraction, int | float) else None,
        "every_steps": kept.get("every_steps"),
        "keep_last": kept.get("keep_last", 2),
        "keep_best": kept.get("keep_best", 1),
        "patience": kept.get("early_stopping_patience"),
        "repo_id": str(hub.get("repo_id") or ""),
        "private": bool(hub.get("private", True)),
        "keep_rows": bool(hub.get("keep_rows", False)),
        "export_types": _export_types(values),
        "where": str(launch.get("flavor", FLAVOR)) if launch.get("where") == "hf-jobs" else HERE,
    }


def _tuning(values: dict[str, Any], kind: str) -> dict[str, Any]:
    model, lora, train = _section(values, "model"), values.get("lora"), _section(values, "train")
    method = FULL if not isinstance(lora, dict) else QLORA if model.get("load_in_4bit") else LORA
    losses = _default(train, kind, "loss_type")
    return {
        "base": str(model.get("model_name_or_path") or ""),
        "method": method,
        "lora_r": lora.get("r", 16) if isinstance(lora, dict) else 16,
        "beta": _default(train, kind, "beta"),
        "loss_type": ", ".join(map(str, losses)) if isinstance(losses, list) else losses,
        "max_length": _default(train, kind, "max_length"),
    }


def _default(train: dict[str, Any], kind: str, name: str) -> Any:  # noqa: ANN401  # YAML value
    """Return what `train:` sets, or the trainer's own default."""
    known = train_fields(kind).get(name)
    return train.get(name, known.default if known else None)


def _pretraining(values: dict[str, Any]) -> dict[str, Any]:
    shape = values.get("architecture")
    return {
        "architecture": shape if isinstance(shape, str) else None,
        "tokenizer": str(values.get("tokenizer") or ""),
        "max_length": values.get("block_size", 512),
    }


def _put_method(values: dict[str, Any], form: Form) -> None:
    put(values, "model.load_in_4bit", True if form.method == QLORA else None)
    if form.method == FULL:
        values.pop("lora", None)
    elif not isinstance(values.get("lora"), dict):
        rank = int(form.lora_r or 16)
        values["lora"] = {"r": rank, "lora_alpha": 2 * rank}


def _put_hub(values: dict[str, Any], form: Form) -> None:
    if not form.repo_id.strip():
        values.pop("hub", None)
        return
    put(values, "hub.repo_id", form.repo_id.strip())
    put(values, "hub.private", None if form.private else False)
    put(values, "hub.keep_rows", True if form.keep_rows else None)


def _export_types(values: dict[str, Any]) -> list[str]:
    if "export" not in _list(values.get("after")):
        return []
    return [str(name) for name in _list(_section(values, "export").get("gguf", ExportSection().gguf))]


def _put_export(values: dict[str, Any], form: Form) -> None:
    if not form.export_types:
        values.pop("after", None)
        values.pop("export", None)
        return
    values["after"] = ["export"]
    put(values, "export.gguf", list(form.export_types))


def _sources(values: dict[str, Any], form: Form) -> list[dict[str, Any]]:
    known = {str(entry.get("path")): dict(entry) for entry in _list(values.get("datasets")) if isinstance(entry, dict)}
    entries = [known.get(path, {"path": path}) for path in form.datasets]
    shares = _numbers(form.weights)
    for index, entry in enumerate(entries):
        entry.pop("weight", None)
        if index < len(shares) and len(set(shares)) > 1:
            entry["weight"] = shares[index]
    return entries


def _weights_text(sources: list[dict[str, Any]]) -> str:
    if len(sources) < 2 or not any("weight" in entry for entry in sources):
        return ""
    return ", ".join(f"{entry.get('weight', 1)}" for entry in sources)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        return []


def _typed(name: str, value: Any) -> Any:  # noqa: ANN401  # YAML value
    """Text that is no number stays as typed, so that the checklist can name it."""
    if value in (None, ""):
        return None
    if name == "loss_type":
        losses = [part.strip() for part in str(value).split(",") if part.strip()]
        return losses if len(losses) > 1 else next(iter(losses), None)
    if name == "holdout_percent":
        return round(float(value) / 100, 6)
    if name == "learning_rate":
        try:
            return float(value)
        except ValueError:
            return value
    return _whole(value)


def _whole(value: Any) -> Any:  # noqa: ANN401  # YAML value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rate_text(value: Any) -> str:  # noqa: ANN401  # YAML value
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "" if value is None else str(value)
    return f"{value:.6g}"


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401  # YAML value
    return value if isinstance(value, list) else []
