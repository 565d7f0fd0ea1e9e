"""Read a recipe's YAML without accepting a key twice, and set values in it by `a.b.0.c=VALUE`."""

import copy
import functools
from typing import Any

import yaml

from codex_space.core.errors import RecipeError

LONGEST_KEPT = 20_000
"""Characters of a text that is remembered."""


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice (the second would win in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1 if node.start_mark else 1
            raise RecipeError(
                f"the key {twice!r} is given twice", where=f"recipe line {line}", cure="Keep one of them."
            )
        return super().construct_mapping(node, deep)


def _read(text: str) -> Any:  # noqa: ANN401  # any YAML value
    # not libyaml's reader: ten thousand brackets in a row end the whole process there, and a RecursionError here
    return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader


_read_again = functools.lru_cache(maxsize=64)(_read)


def parse_yaml(text: str, where: str = "recipe") -> dict[str, Any]:
    """Return the mapping a YAML text holds.

    Raises:
        RecipeError: Not YAML, too long, or not a mapping.
    """
    if len(text) > 200_000:
        raise RecipeError("the text is longer than 200,000 characters", where=where, cure="A recipe fits on a page.")
    try:
        # one look at the Train tab reads the same text a dozen times
        values = copy.deepcopy((_read_again if len(text) <= LONGEST_KEPT else _read)(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{where} line {mark.line + 1}" if mark else where
        raise RecipeError(f"this is not YAML: {getattr(error, 'problem', error)}", where=line) from error
    except RecursionError as error:
        raise RecipeError("the YAML is nested too deeply", where=where) from error
    if not isinstance(values, dict):
        raise RecipeError("a recipe is a mapping that starts with `kind:`", where=where, cure="See configs/recipes.")
    return {str(key): value for key, value in values.items()}


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `a.b.0.c=VALUE` in a nested mapping, VALUE read as YAML.

    Raises:
        RecipeError: No `=`, or the path runs through something that is not a mapping or list.
    """
    path, found, text = override.partition("=")
    if not found or not path.strip():
        raise RecipeError(f"{override!r} is not key=value", cure="Write it like train.learning_rate=1e-4.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of {path} is not YAML", where=override) from error
    here: Any = values
    *parents, last = path.strip().split(".")
    for part in parents:
        here = _descend(here, part, override)
    if isinstance(here, list) and last.isdigit() and int(last) < len(here):
        here[int(last)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise RecipeError(f"{path} does not lead to a key", where=override)


def _descend(here: Any, part: str, override: str) -> Any:  # noqa: ANN401  # any YAML value
    if isinstance(here, list) and part.isdigit() and int(part) <= len(here):
        if int(part) == len(here):
            here.append({})
        return here[int(part)]
    if isinstance(here, dict):
        child = here.get(part)
        if child is None:
            child = here[part] = {}
        return child
    raise RecipeError(f"{part!r} does not lead to a key", where=override)
