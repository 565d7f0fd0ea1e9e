"""Export models to GGUF: what a file of each type will weigh, what was made and proven, and which file may be fetched."""

import re
from pathlib import Path
from typing import Any

from codex_space.core import durable, quants
from codex_space.core.errors import CodexError, ModelError, RunError
from codex_space.core.quants import QUANTS
from codex_space.core.recipe import ExportRecipe, parse_recipe, render_recipe, validate
from codex_space.hub import ollama
from codex_space.hub.gguf_cards import say_trained_in_4bit
from codex_space.jobs import references
from codex_space.services import evaluations
from codex_space.services.context import Context
from codex_space.store import runs as run_rows
from codex_space.store.runs import Run

MACHINES_GB = (4, 8, 16)
CLOSE_KL = 0.02
"""Below it a file answers as the model does, nearly always; of such files the smallest is the best choice."""
_OTHER_FILES = ("Modelfile", "template", "params", "system", "README.md", "codex_model.json", "curves.svg")


def recipe_text(  # noqa: PLR0913  # the recipe's own keys, by keyword
    ref: str,
    kinds: list[str],
    *,
    name: str = "",
    system: str = "",
    imatrix: bool = False,
    adapter: bool = False,
    repo_id: str = "",
) -> str:
    """Return the recipe of an export.

    Raises:
        RecipeError: A type is not known, or a value out of range.
    """
    values: dict[str, Any] = {"kind": "export", "name": name, "model": {"model_name_or_path": ref}, "gguf": kinds}
    hub = {"hub": {"repo_id": repo_id}} if repo_id else {}
    return render_recipe(validate({**values, "system": system, "imatrix": imatrix, "adapter": adapter, **hub}))


def pin(ctx: Context, recipe: ExportRecipe) -> ExportRecipe:
    """Return the recipe with the step written into a bare `run:ID`, and a name for the files where it has none.

    Raises:
        ModelError: That run has no checkpoint here.
    """
    ref = references.pin_model(ctx.workspace, recipe.model.model_name_or_path)
    run_id, _, _ = ref.removeprefix("run:").partition("@")
    named = run_rows.list_runs(ctx.db, ids=(run_id,)) if ref.startswith("run:") else []
    name = re.sub(r"[^\w.+-]+", "-", named[0].name if named else Path(ref).name).strip("-")[:60]
    model = recipe.model.model_copy(update={"model_name_or_path": ref})
    return recipe.model_copy(update={"model": model, "name": recipe.name or name})


def list_types(ctx: Context, ref: str | None) -> list[dict[str, Any]]:
    """Return {type, about, bytes, needs_imatrix} of every type; bytes is None where the model's size is not known here."""
    weights = None
    if ref:
        try:
            weights = quants.read_weights(_base_folder(Path(references.resolve_model(ctx.workspace, ref))))
        except CodexError:  # a model on the Hub, or one that is gone: its size is told once it is here
            weights = None
    return [
        {
            "type": name,
            "about": quant.about,
            "bytes": quants.predict_bytes(weights, name) if weights else None,
            "needs_imatrix": quant.needs_imatrix,
        }
        for name, quant in QUANTS.items()
    ]


def list_exports(ctx: Context) -> list[dict[str, Any]]:
    """Return the newest 50 exports, newest first, without their files."""
    found = run_rows.list_runs(ctx.db, limit=50, search="-export-")
    return [_brief(run) for run in found if run.kind == "export"]


def read(ctx: Context, run_id: str) -> dict[str, Any]:
    """Return an export: its files with what was proven of each, `best` naming the machine each suits, lines to copy.

    Raises:
        RunError: There is none of that id.
    """
    run = _find(ctx, run_id)
    folder = ctx.workspace.job(run.id).export
    results = durable.read_json(folder / "export.json") or {}
    rows = [row for row in results.get("files", []) if isinstance(row, dict)]
    best = _best(rows)
    scores = _scores(ctx, run.id)
    files = [
        {**row, "best": [gb for gb, path in best.items() if path == row["path"]], "scores": scores.get(row["path"], [])}
        for row in rows
    ]
    usual = str(results.get("usual") or "")
    return {
        **_brief(run),
        "name": str(results.get("name") or run.name),
        "files": files,
        "reference": results.get("reference") or {},
        "note": say_trained_in_4bit(results.get("reference") or {}),
        "card": str(results.get("card") or ""),
        "others": [name for name in _OTHER_FILES if (folder / name).is_file()],
        "use": [list(pair) for pair in ollama.use_lines(str(results.get("name")), usual)] if usual else [],
    }


def file_path(ctx: Context, run_id: str, name: str) -> Path:
    """Return where a file lies that may be fetched: one that passed, or one that goes with those.

    Raises:
        RunError: There is no such file, or it failed its comparison.
    """
    found = read(ctx, run_id)
    passed = [row["path"] for row in found["files"] if row["passed"]]
    path = ctx.workspace.job(found["run_id"]).export / name
    if name not in (*passed, *found["others"]) or path.is_symlink() or not path.is_file():
        raise RunError(f"{name[:200]!r} is not offered", where=run_id, cure="The Export tab lists what is.")
    return path


def _scores(ctx: Context, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the pass rates of an export's files by name, newest first, from the evaluations that were asked of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in evaluations.list_evaluations(ctx):
        run, _, name = str(one["model"]).removeprefix(references.GGUF).partition("/")
        score = next((each for each in one["scores"] if each["name"] == one["benchmark"]), None)
        if run == run_id and one["state"] == "done" and score:
            found.setdefault(name, []).append({"benchmark": one["benchmark"], "value": score["value"]})
    return found


def _best(rows: list[dict[str, Any]]) -> dict[int, str]:
    """Return the file to choose for a machine of so many GB: of those that fit the smallest close one, else the closest."""
    found: dict[int, str] = {}
    whole = [row for row in rows if row.get("passed") and row["type"] != quants.ADAPTER]
    for gb in MACHINES_GB:
        fits = [row for row in whole if 1.2 * row["bytes"] + 1.5e9 < 0.9e9 * gb]
        close = [row for row in fits if row["kl"] <= CLOSE_KL]
        if fits:
            found[gb] = (
                min(close, key=lambda row: row["bytes"])["path"]
                if close
                else min(fits, key=lambda row: row["kl"])["path"]
            )
    return found


def _base_folder(folder: Path) -> Path:
    """Return the folder that holds whole weights: an adapter's base where that is a folder of this machine."""
    config = durable.read_json(folder / "adapter_config.json")
    if config is None:
        return folder
    ref = str(config.get("base_model_name_or_path", ""))
    base = folder.parent / "base" if ref.startswith(("fresh:", "run:")) else Path(ref)
    if not base.is_dir():
        raise ModelError("the adapter's base is not in a folder here", where=folder.name)
    return base


def _find(ctx: Context, run_id: str) -> Run:
    runs = run_rows.list_runs(ctx.db, ids=(run_id,))
    if not runs or runs[0].kind != "export":
        raise RunError("there is no such export", where=run_id[:200], cure="The Export tab lists them.")
    return runs[0]


def _brief(run: Run) -> dict[str, Any]:
    recipe = parse_recipe(run.recipe)
    return {
        "run_id": run.id,
        "name": run.name,
        "state": run.state,
        "phase": run.phase,
        "reason": run.reason,
        "percent": run.step,
        "at": run.created_at,
        "model": recipe.model.model_name_or_path if isinstance(recipe, ExportRecipe) else "",
        "types": recipe.gguf if isinstance(recipe, ExportRecipe) else [],
    }
