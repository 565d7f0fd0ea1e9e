"""The command line that a recipe stands for, ready to paste."""

import functools
import shlex

import yaml

from codex_space.core.errors import CodexError
from codex_space.core.presets import list_presets
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.core.yaml_text import parse_yaml


def command_line(text: str) -> str:
    """Return `codex-space train PRESET key=value ...` for a shipped recipe, else a command with the text inline."""
    if "sweep" in parse_yaml(text):
        return _inline(text)
    recipe = parse_recipe(text)
    wanted = _flatten(recipe.model_dump(by_alias=True, exclude_defaults=True))
    best: list[str] | None = None
    for preset in list_presets(str(getattr(recipe, "kind", ""))):
        changes = _changes(preset.text, wanted)
        if changes is not None and (best is None or len(changes) < len(best) - 1):
            best = [preset.name, *changes]
    if best is not None and len(best) <= 12:
        return shlex.join(["codex-space", "train", *best])
    return _inline(render_recipe(recipe))


def _inline(text: str) -> str:
    return f"codex-space train - <<'RECIPE'\n{text.rstrip()}\nRECIPE"


def _changes(preset_text: str, wanted: dict[str, object]) -> list[str] | None:
    """Return the overrides that turn a preset into the wanted recipe, None where overrides cannot."""
    given = _settings_of(preset_text)
    if given is None or set(given) - set(wanted):
        return None
    return [f"{key}={_scalar(value)}" for key, value in wanted.items() if given.get(key) != value]


@functools.cache
def _settings_of(preset_text: str) -> dict[str, object] | None:
    """Return what a shipped recipe sets, read once: every change on a page asks for all of them."""
    try:
        return _flatten(parse_recipe(preset_text).model_dump(by_alias=True, exclude_defaults=True))
    except CodexError:
        return None


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20).strip()
    return "null" if value is None else str(value)


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flatten(item, f"{prefix}{key}.").items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for index, item in enumerate(value) for k, v in _flatten(item, f"{prefix}{index}.").items()}
    return {prefix.rstrip("."): value}
