"""Take a recipe elsewhere: as YAML for the `trl` command or as a Python script, with its rows and model beside it."""

import re
import shlex
import shutil
import zipfile
from pathlib import Path

from codex_space.core.errors import CodexError, RecipeError
from codex_space.core.recipe import TRL_COMMANDS, parse_recipe, render_recipe
from codex_space.core.scratch import Scratch
from codex_space.core.shared_recipe import TuningRecipe
from codex_space.services import checks
from codex_space.services.context import Context
from codex_space.services.preflight import asked

FORMS = ("trl", "python")
MAX_PACKED_BYTES = 2 << 30


def export(ctx: Context, text: str, form: str, out: Path) -> str:
    """Write the folder and return the command line that trains what is in it.

    Rows are prepared and split as a run would; nothing in the folder names this machine.

    Raises:
        RecipeError: Plain TRL would train it differently, or the folder is not empty.
        CodexError: Why a run of it could not start.
    """
    recipe = parse_recipe(text)
    if not isinstance(recipe, TuningRecipe):
        cure = "Take its command line: codex-space show-command."
        raise RecipeError(f"kind {recipe.kind} does not train with TRL", where="kind", cure=cure)
    if form == "trl" and recipe.kind not in TRL_COMMANDS:
        cure = "Take it as a Python script: --as python."
        raise RecipeError(f"the trl command has no kind {recipe.kind}", where="kind", cure=cure)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError("this folder holds something already", where=str(out), cure="Name a new or empty one.")
    checks.require_sources(ctx, recipe)
    with asked(ctx, render_recipe(recipe), portable=form) as (job, told):
        if told["e"] == "failed":
            raise CodexError(told["what"], where=told["where"], cure=told["cure"])
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(job.portable, out, dirs_exist_ok=True)
    runs = f"trl {recipe.kind} --config trl.yaml" if form == "trl" else "python train.py"
    return f"cd {shlex.quote(str(out))} && {runs}"


def pack(ctx: Context, text: str, form: str, into: Path) -> Path:
    """Write the folder as one zip in `into` and return it; its name comes from the recipe's.

    Raises:
        CodexError: As in `export`, or the folder is too large to be handed out through a page.
    """
    name = re.sub(r"[^\w.-]+", "-", parse_recipe(text).name or "recipe").strip("-.") or "recipe"
    with Scratch(ctx.workspace.root, "portable") as folder:
        out = Path(folder) / name
        export(ctx, text, form, out)
        files = [path for path in sorted(out.rglob("*")) if path.is_file()]
        size_bytes = sum(path.stat().st_size for path in files)
        if size_bytes > MAX_PACKED_BYTES:
            raise RecipeError(
                f"rows and model come to {size_bytes / 1e9:.1f} GB, too much to download through the page",
                where=name,
                cure=f"codex-space show-command RECIPE --as {form} --out DIR writes them on this machine.",
            )
        packed = into / f"{name}-{form}.zip"
        with zipfile.ZipFile(packed, "w") as archive:  # weights and Parquet do not get smaller
            for path in files:
                archive.write(path, path.relative_to(out.parent))
    return packed
