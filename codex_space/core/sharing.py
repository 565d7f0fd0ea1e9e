"""What of a recipe may leave this machine: no path of it, no secret."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from codex_space.core import scrub
from codex_space.core.yaml_text import parse_yaml

_LOCAL = re.compile(r"(/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")


def share_recipe(text: str) -> str:
    """Return a recipe's text with paths of this machine cut to their last part; all else stays as written.

    Raises:
        RecipeError: The text is not YAML.
    """
    for value in sorted(_strings(parse_yaml(text)), key=len, reverse=True):
        if _LOCAL.match(value):
            text = text.replace(value, last_part(value))
    left = parse_yaml(text)
    if any(_LOCAL.match(value) for value in _strings(left)):  # written in another way than it reads: quoted, or folded
        text = yaml.safe_dump(_shared(left), sort_keys=False, allow_unicode=True, width=1 << 20)
    return scrub.clean(text)


def last_part(value: str) -> str:
    """Return the last part of a path of this machine; anything else as it is."""
    if not _LOCAL.match(value):
        return value
    return PureWindowsPath(value).name if "\\" in value else PurePosixPath(value).name or "local"


def _shared(value: Any) -> Any:  # noqa: ANN401  # any YAML value
    if isinstance(value, str):
        return last_part(value)
    if isinstance(value, dict):
        return {key: _shared(item) for key, item in value.items()}
    return [_shared(item) for item in value] if isinstance(value, list) else value


def _strings(value: Any) -> list[str]:  # noqa: ANN401  # walks any YAML value
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]
