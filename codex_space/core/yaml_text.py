"""Read a recipe's YAML without accepting a key twice, and set values in it by `a.b.0.c=VALUE`."""

import copy
import functools
from collections import Counter
from typing import Any

import yaml

from codex_space.core.errors import RecipeError

LONGEST_KEPT = 20_000
"""Characters of a text that is remembered."""
MAX_VALUES = 100_000


class _TooManyError(yaml.YAMLError):
    """A text of a few lines can stand for more values than any memory holds: each alias (*name) repeats all that it names."""


class _BoundedLoader(yaml.SafeLoader):
    """YAML that, with its aliases written out, stays within MAX_VALUES."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        sizes = self.__dict__.setdefault("sizes", dict[int, int]())  # of whole nodes, all of which the tree keeps alive
        if is_alias and id(node) not in sizes:
            raise _TooManyError("a value in it holds itself, without end")
        if node is not None and not is_alias:
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            flat = (one for part in parts for one in (part if isinstance(part, tuple) else (part,)))
            sizes[id(node)] = 1 + sum(sizes.get(id(one), 1) for one in flat)
        if node is not None and sizes[id(node)] > MAX_VALUES:
            raise _TooManyError(f"it stands for more than {MAX_VALUES:,} values")
        return node


class _Loader(_BoundedLoader):
    """YAML that refuses a key given twice (the second would win in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key, times in Counter(keys).items() if times > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1 if node.start_mark else 1
            raise RecipeError(
                f"the key {twice!r} is given twice", where=f"recipe line {line}", cure="Keep one of them."
            )
        return super().construct_mapping(node, deep)


def load_bounded(text: str) -> Any:  # noqa: ANN401  # any YAML value
    """Return what a YAML text holds that anybody may have written.

    Raises:
        yaml.YAMLError: Not YAML, nested too deeply, a date that is none, or its aliases make too much of it.
    """
    try:
        return yaml.load(text, Loader=_BoundedLoader)  # noqa: S506  # a SafeLoader
    except (RecursionError, ValueError) as error:
        raise yaml.YAMLError(str(error)) from error


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
    except _TooManyError as error:
        raise RecipeError(f"the text is too long: {error}", where=where, cure="A recipe fits on a page.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{where} line {mark.line + 1}" if mark else where
        raise RecipeError(f"this is not YAML: {getattr(error, 'problem', error)}", where=line) from error
    except RecursionError as error:
        raise RecipeError("the YAML is nested too deeply", where=where) from error
    except ValueError as error:
        cure = "Put text that looks like a date in quotes."
        raise RecipeError(f"the YAML holds a date or number that is none: {error}", where=where, cure=cure) from error
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
        value = load_bounded(text)
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
