"""The fields that `train:` may hold, checked without importing TRL or transformers.

Names, types, defaults and help come from `configs/fields/KIND.json`, written from the installed packages by
`make fields`; a test fails when they differ.
"""

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codex_space.core.errors import RecipeError
from codex_space.core.paths import share_dir

OWNED: dict[str, str] = {
    "output_dir": "the run's own folder is used",
    "push_to_hub": "set hub.repo_id",
    "hub_model_id": "set hub.repo_id",
    "hub_private_repo": "set hub.private",
    "hub_strategy": "every checkpoint is pushed; set hub.repo_id",
    "hub_token": "the program's own token is used; never write one into a recipe",
    "hub_always_push": "every checkpoint is pushed; set hub.repo_id",
    "hub_revision": "checkpoints are tagged step-N; set hub.repo_id",
    "save_strategy": "set checkpoints.every_steps",
    "save_steps": "set checkpoints.every_steps",
    "save_total_limit": "set checkpoints.keep_last and keep_best",
    "save_only_model": "checkpoints can always be resumed",
    "load_best_model_at_end": "set checkpoints.keep_best",
    "metric_for_best_model": "set checkpoints.metric",
    "greater_is_better": "set checkpoints.metric",
    "resume_from_checkpoint": "use Resume, or `codex-space runs resume`",
    "restore_callback_states_from_checkpoint": "use Resume, or `codex-space runs resume`",
    "report_to": "curves are always kept by the program; set track.to for others",
    "seed": "set seed at the top of the recipe",
    "data_seed": "set seed at the top of the recipe",
    "do_train": "a training run always trains",
    "do_eval": "set validation.fraction",
    "do_predict": "set validation.fraction",
    "model_init_kwargs": "set the model section",
    "trust_remote_code": "code that comes with a model is never run",
    "eos_token": "the tokenizer's own end token is used and checked",
    "ddp_backend": "set launch",
    "local_rank": "set launch",
    "use_cpu": "the machine decides",
    "no_cuda": "the machine decides",
    "enable_jit_checkpoint": "Stop saves a checkpoint by itself",
    "disable_tqdm": "progress is shown by the program",
}
"""Fields the program owns, each with what to do instead."""


@dataclass(frozen=True)
class TrainField:
    """One field of a trainer's config.

    Attributes:
        type: One of bool, int, float, str, list, dict, any.
        default: As JSON.
        help: One sentence from the trainer's own documentation.
    """

    name: str
    type: str
    default: Any
    help: str


@functools.cache
def train_fields(kind: str) -> dict[str, TrainField]:
    """Return the fields for that kind by name, those the program owns left out."""
    path = share_dir("configs") / "fields" / f"{kind}.json"
    if not path.is_file():
        return {}
    table = json.loads(path.read_text(encoding="utf-8"))
    return {name: TrainField(name=name, **entry) for name, entry in table.items() if name not in OWNED}


def check_train(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `train:` with text turned into the numbers meant (YAML reads 1e-4 as text).

    Raises:
        RecipeError: An unknown or owned field, or a value of the wrong type.
    """
    fields = train_fields(kind)
    return {str(name): _check_one(str(name), value, fields) for name, value in values.items()}


def _check_one(name: str, value: Any, fields: Mapping[str, TrainField]) -> Any:  # noqa: ANN401  # YAML value
    where = f"train.{name}"
    if name in OWNED:
        raise RecipeError("this field belongs to the program", where=where, cure=f"Leave it out: {OWNED[name]}.")
    if not fields:
        return value
    if name not in fields:
        close = difflib.get_close_matches(name, list(fields), n=1, cutoff=0.6)
        cure = f"Did you mean {close[0]!r}?" if close else "See `All settings` or the trainer's documentation."
        raise RecipeError(f"unknown key {name!r}", where=where, cure=cure)
    return None if value is None else _coerce(where, value, fields[name].type)


def _coerce(where: str, value: Any, kind: str) -> Any:  # noqa: ANN401  # YAML value
    if kind == "bool" and not isinstance(value, bool):
        raise RecipeError(f"{value!r} is not true or false", where=where, cure="Write true or false.")
    if kind in {"int", "float"}:
        return _number(where, value, kind)
    return value


def _number(where: str, value: Any, kind: str) -> int | float:  # noqa: ANN401  # YAML value
    try:
        number = float("no number" if isinstance(value, bool) else value)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{value!r} is not a number", where=where, cure="Write it like 1.0e-4 or 500.") from error
    if number != number or number in (float("inf"), float("-inf")):
        raise RecipeError(f"{value!r} is not a finite number", where=where)
    if kind == "int":
        if number != int(number):
            raise RecipeError(f"{value!r} is not a whole number", where=where)
        return int(number)
    return number
