"""Find and read the recipes that ship in configs/."""

from dataclasses import dataclass
from pathlib import Path

from codex_space.core.errors import RecipeError, nearest
from codex_space.core.paths import share_dir


@dataclass(frozen=True)
class Preset:
    """One shipped recipe: `name` is KIND/FILE, `title` its first comment line."""

    name: str
    title: str
    text: str


def list_presets(kind: str | None = None) -> list[Preset]:
    """Return the shipped recipes, all or of one kind, in name order."""
    root = share_dir("configs") / "recipes"
    return [_read(root, path) for path in sorted(root.glob(f"{kind or '*'}/*.yaml"))]


def read_recipe_text(name_or_path: str) -> str:
    """Return the text of a recipe file, or of a shipped one by name (`sft/tiny-cpu`).

    Raises:
        RecipeError: Neither is there.
    """
    path = Path(name_or_path)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError("the file is not UTF-8 text", where=str(path)) from error
    presets = {preset.name: preset for preset in list_presets()}
    name = name_or_path.removesuffix(".yaml").removeprefix("configs/recipes/")
    if name in presets:
        return presets[name].text
    raise RecipeError("there is no such recipe file", where=name_or_path, cure=nearest(name, list(presets)))


def _read(root: Path, path: Path) -> Preset:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0] if text else ""
    return Preset(str(path.relative_to(root).with_suffix("")), first.removeprefix("#").strip(), text)
