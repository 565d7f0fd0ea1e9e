"""Every setting a recipe of one kind can have, generated from the recipe's own models, and what differs from a recipe."""

import functools
import json
import types
import typing
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from codex_space.core.errors import RecipeError
from codex_space.core.recipe import KINDS
from codex_space.core.train_fields import train_fields
from codex_space.core.yaml_text import load_bounded, parse_yaml
from codex_space.ui.views.form import dump, put

LEFT_OUT = frozenset({"schema", "kind", "datasets", "train"})
"""Set elsewhere on the tab, or shown field by field."""


@functools.cache
def settings_of(kind: str) -> list[dict[str, Any]]:
    """Return {path, type, choices, default, help} of each setting, sections first, then the trainer's own fields."""
    model = KINDS.get(kind)
    if model is None:
        return []
    trainer = [
        {"path": f"train.{known.name}", "type": known.type, "choices": [], "default": known.default, "help": known.help}
        for known in train_fields(kind).values()
    ]
    return [*_of_model(model, ""), *trainer]


def changed_settings(text: str, preset_text: str) -> list[dict[str, Any]]:
    """Return {path, now, was} for each key in which a recipe differs from the shipped one it began as.

    Raises:
        RecipeError: One of them is not YAML.
    """
    now, was = _flatten(parse_yaml(text)), _flatten(parse_yaml(preset_text))
    paths = [path for path in dict.fromkeys([*now, *was]) if now.get(path) != was.get(path)]
    return [{"path": path, "now": now.get(path), "was": was.get(path)} for path in paths]


def put_setting(text: str, path: str, typed: str) -> str:
    """Return the text with one setting as a person typed it; nothing typed takes it out.

    Raises:
        RecipeError: The text, or what was typed, is not YAML.
    """
    values = parse_yaml(text)
    try:
        value = load_bounded(typed) if typed.strip() else None
    except yaml.YAMLError as error:
        raise RecipeError(
            f"{typed!r} is not YAML", where=path, cure="Put text with special signs in quotes."
        ) from error
    put(values, path, value)
    return dump(values)


def reset_setting(text: str, preset_text: str, path: str) -> str:
    """Return the text with one key as the shipped recipe has it.

    Raises:
        RecipeError: One of them is not YAML.
    """
    values, preset = parse_yaml(text), parse_yaml(preset_text)
    top = path.split(".", 1)[0]
    if isinstance(preset.get(top), list) or isinstance(values.get(top), list):
        put(values, top, preset.get(top))
    else:
        put(values, path, _flatten(preset).get(path))
    return dump(values)


def values_of(text: str) -> dict[str, str]:
    """Return what is set in a text by path, as a person would type it.

    Raises:
        RecipeError: The text is not YAML.
    """
    return {path: _typed(value) for path, value in _flatten(parse_yaml(text)).items()}


def _of_model(model: type[BaseModel], prefix: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, known in model.model_fields.items():
        key = known.alias or name
        if not prefix and key in LEFT_OUT:
            continue
        inner = _model_in(known.annotation)
        if inner is not None:
            found += _of_model(inner, f"{prefix}{key}.")
            continue
        default = known.get_default(call_default_factory=True)
        kind, choices = _type_of(known.annotation)
        found.append(
            {
                "path": f"{prefix}{key}",
                "type": kind,
                "choices": choices,
                "default": None if default is PydanticUndefined else default,
                "help": known.description or "",
            }
        )
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # typing constructs
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {types.UnionType, typing.Union}:
        return next((inner for arg in get_args(annotation) if (inner := _model_in(arg))), None)
    return None


def _type_of(annotation: Any) -> tuple[str, list[str]]:  # noqa: ANN401  # typing constructs
    if get_origin(annotation) is Literal:
        return "choice", [str(arg) for arg in get_args(annotation)]
    if annotation in {bool, int, float, str}:
        return annotation.__name__, []
    inner = [arg for arg in get_args(annotation) if arg is not type(None)]
    if len(inner) == 1 and get_origin(annotation) in {types.UnionType, typing.Union}:
        return _type_of(inner[0])
    return "any", []


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401  # YAML value
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in _flatten(item, f"{prefix}{key}.").items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for index, item in enumerate(value) for k, v in _flatten(item, f"{prefix}{index}.").items()}
    return {prefix.rstrip("."): value}


def _typed(value: Any) -> str:  # noqa: ANN401  # YAML value
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
