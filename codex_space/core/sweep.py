"""Make a recipe of each point of the grid that a recipe's `sweep:` section spans."""

import copy
import itertools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from codex_space.core.errors import RecipeError
from codex_space.core.recipe import render_recipe, validate
from codex_space.core.yaml_text import apply_override, parse_yaml

MAX_RUNS = 64
MAX_NAME = 80


def expand(text: str, overrides: Sequence[str] = ()) -> list[str]:
    """Return the recipe texts of all points, first key slowest; of a recipe without `sweep` its own.

    Raises:
        RecipeError: The section is no mapping of keys to lists, spans too many runs, or one of them is no recipe.
    """
    values = parse_yaml(text)
    for override in overrides:
        apply_override(values, override)
    if "sweep" not in values:
        return [render_recipe(validate(values))]
    grid = values.pop("sweep")
    if not isinstance(grid, dict) or not grid or not all(isinstance(each, list) and each for each in grid.values()):
        raise RecipeError(
            "this is no mapping of recipe keys to lists of values",
            where="sweep",
            cure="Write it like sweep: {train.learning_rate: [1e-4, 3e-4], lora.r: [8, 16]}.",
        )
    num_runs = math.prod(map(len, grid.values()))
    if num_runs > MAX_RUNS:
        raise RecipeError(
            f"this grid spans {num_runs:,} runs", where="sweep", cure=f"Shorten its lists: {MAX_RUNS} at most."
        )
    points = [dict(zip(map(str, grid), point, strict=True)) for point in itertools.product(*grid.values())]
    return [_at(_apart(values, grid, number), point) for number, point in enumerate(points, 1)]


def _apart(values: dict[str, Any], grid: dict[str, Any], number: int) -> dict[str, Any]:
    """Give runs that train at the same time a repository each."""
    launch, hub = values.get("launch"), values.get("hub")
    if not isinstance(launch, dict) or launch.get("where") != "hf-jobs" or not isinstance(hub, dict):
        return values
    if "hub.repo_id" in grid or "repo_id" not in hub:
        return values
    return {**values, "hub": {**hub, "repo_id": f"{hub['repo_id']}-{number}"}}


def _at(values: dict[str, Any], changes: dict[str, Any]) -> str:
    point = copy.deepcopy(values)
    for key, value in changes.items():
        apply_override(point, f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    told = " ".join(f"{key.rpartition('.')[2]} {value}" for key, value in changes.items())
    name = f"{values.get('name') or values.get('kind', '')} {told}"
    point["name"] = re.sub(r"[^\w .+-]+", "-", name)[:MAX_NAME].strip()
    return render_recipe(validate(point))
