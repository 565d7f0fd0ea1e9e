"""Work out what a recipe needs on a machine: its model's config.json, its rows and the hardware, found without loading anything."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core import estimate as core
from codex_space.core.architectures import read_architecture
from codex_space.core.errors import HubError, ModelError
from codex_space.core.estimate import Estimate, Rows
from codex_space.core.hardware import Hardware, find_hardware, gpu_facts, list_hardware, make_cpu
from codex_space.core.recipe import PretrainRecipe, parse_recipe
from codex_space.core.sections import DatasetSection
from codex_space.core.shapes import Shape, read_shape, shipped_config, shipped_configs
from codex_space.core.shared_recipe import BaseRecipe, TuningRecipe
from codex_space.data import catalog, sources
from codex_space.jobs import references
from codex_space.services import models
from codex_space.services.context import Context
from codex_space.services.prices import PRICES, priced

THIS_MACHINE = "this"
BYTES_PER_TOKEN = 3.3
"""Of source code with chat around it, in tokenizers of 32,000 to 150,000 entries; measured between 2.9 and 3.7."""
MAX_READ_BYTES = 64 << 20
_FRESH_VOCAB = {"fresh:bytes": 259, "fresh:bpe": 4096}


def estimate(ctx: Context, text: str, *, overrides: list[str] | None = None, hardware: str = THIS_MACHINE) -> Estimate:
    """Return what the recipe needs; the Hub is asked only for the config.json of a model that does not ship.

    Raises:
        RecipeError: The recipe, or the name of the hardware, is wrong.
        ModelError: The model's sizes cannot be known.
    """
    machine = this_machine(ctx) if hardware == THIS_MACHINE else priced(ctx.workspace, find_hardware(hardware))
    recipe = parse_recipe(text, overrides)
    if not isinstance(recipe, TuningRecipe | PretrainRecipe):
        return core.estimate(recipe, _fresh("tiny", 259), machine, None)  # refused there, in its words
    return core.estimate(recipe, find_shape(ctx, recipe), machine, count_rows(ctx, recipe))


def vocabulary(ctx: Context, tokenizer: str) -> int:
    """Return the entries of the tokenizer a pretraining recipe names.

    Raises:
        ModelError: It is not on this machine.
    """
    return _FRESH_VOCAB.get(tokenizer) or _tokenizer_size(ctx, tokenizer)


def refresh_prices(ctx: Context) -> int:
    """Ask the Hub what its machines cost now, keep it in the workspace, and return how many it named.

    Raises:
        HubError: It gives no answer; the prices known before stay.
    """
    prices = ctx.hub().prices()
    durable.write_json(ctx.workspace.root / PRICES, {"usd_per_hour": prices, "at": ctx.clock()})
    return len(prices)


def list_priced(ctx: Context) -> list[Hardware]:
    """Return the Hub's machines at the prices it named last, cheapest first by the prices we ship.

    Gradio 6.31 remembers a choice by its place in the list: an order that followed the newest prices would choose another.
    """
    return [priced(ctx.workspace, one) for one in list_hardware().values()]


def priced_at(ctx: Context) -> float:
    """Return when the Hub was asked for its prices last, 0 where it never was."""
    at = (durable.read_json(ctx.workspace.root / PRICES) or {}).get("at")
    return float(at) if isinstance(at, int | float) else 0.0


def this_machine(ctx: Context) -> Hardware:
    """Return the machine this program runs on."""
    found, name, price = models.machine(ctx), ctx.settings.accelerator or "this machine", ctx.usd_per_hour()
    disk_gib, ram_gib = found.disk_free_bytes / core.GIB, found.memory_bytes / core.GIB
    if not found.gpus:
        return make_cpu(name, num_cores=found.num_cores, ram_gib=ram_gib, disk_gib=disk_gib, usd_per_hour=price)
    gpu = found.gpus[0]
    facts: dict[str, Any] = {**gpu_facts(gpu.name), "memory_gib": gpu.memory_bytes / core.GIB}
    return Hardware(name, gpu.name, len(found.gpus), ram_gib=ram_gib, disk_gib=disk_gib, usd_per_hour=price, **facts)


def find_shape(ctx: Context, recipe: TuningRecipe | PretrainRecipe) -> Shape:
    """Return the sizes of the model a recipe trains.

    Raises:
        ModelError: It is not here, or its sizes cannot be known.
        RunError: A run it names is not there.
    """
    if isinstance(recipe, PretrainRecipe):
        architecture = read_architecture(recipe.architecture)
        return architecture.shape(vocabulary(ctx, recipe.tokenizer))
    ref = recipe.model.model_name_or_path
    if ref.startswith("fresh:"):
        return _fresh(ref.partition(":")[2], _FRESH_VOCAB["fresh:bytes"])
    shipped = shipped_config(ref)
    if shipped is not None and not Path(ref).is_dir():
        return read_shape(shipped, ref)
    folder = Path(references.resolve_model(ctx.workspace, ref))
    if folder.is_dir():
        return _read_folder(ctx, folder, ref)
    return read_shape(_fetch_config(ctx, ref, recipe.model.revision or "main"), ref)


def count_rows(ctx: Context, recipe: BaseRecipe) -> Rows | None:
    """Return how many rows there are and how long they are, None where one source cannot be counted here."""
    counted = [_count(ctx, section) for section in recipe.datasets]
    if any(one is None for one in counted):
        return None
    known = [
        (one.num_rows * section.weight, one.tokens_each)
        for one, section in zip(counted, recipe.datasets, strict=True)
        if one
    ]
    total = sum(rows for rows, _ in known)
    return Rows(int(total), sum(rows * each for rows, each in known) / max(total, 1)) if total else None


def _count(ctx: Context, section: DatasetSection) -> Rows | None:
    scheme, _, name = section.path.partition(":")
    if scheme == "dataset":
        info = catalog.read_dataset(ctx.workspace, name)
        return Rows(info.num_rows, info.size_bytes / max(info.num_rows, 1) / BYTES_PER_TOKEN)
    if section.path == sources.STDLIB:
        return _count_stdlib()
    path = sources.sample_file(name) if scheme == "sample" else Path(section.path)
    if not path.is_file() or path.suffix not in {".jsonl", ".ndjson", ".csv", ".txt"}:
        return None
    return _count_lines(path, path.stat().st_size)


@functools.lru_cache(maxsize=64)
def _count_lines(path: Path, size_bytes: int) -> Rows:
    """Return a row a line; the rest of a large file is taken to be like its beginning."""
    with path.open("rb") as file:
        start = file.read(MAX_READ_BYTES)
    lines = start.count(b"\n") + (not start.endswith(b"\n"))
    each = len(start) / max(lines, 1)
    return Rows(max(1, round(size_bytes / max(each, 1))), each / BYTES_PER_TOKEN)


@functools.cache
def _count_stdlib() -> Rows:
    sizes = [path.stat().st_size for _, path in sources.stdlib_files()]
    sizes = [size for size in sizes if 0 < size <= sources.MAX_STDLIB_FILE_BYTES]
    return Rows(len(sizes), sum(sizes) / max(len(sizes), 1) / BYTES_PER_TOKEN)


def _fresh(name: str, vocab_size: int) -> Shape:
    return read_architecture(name).shape(vocab_size)


def _tokenizer_size(ctx: Context, ref: str) -> int:
    """Return the entries of a tokenizer in a folder.

    Raises:
        ModelError: It is not on this machine.
    """
    path = Path(references.resolve_model(ctx.workspace, ref)) / "tokenizer.json"
    found = _read_json(path) if path.is_file() else {}
    if not found:
        raise ModelError("that tokenizer is not on this machine", where=ref, cure="Train it first, or write fresh:bpe.")
    return len(found.get("model", {}).get("vocab", ())) + len(found.get("added_tokens", ()))


def _read_folder(ctx: Context, folder: Path, ref: str) -> Shape:
    """Return the shape of a saved model, or of the base of a saved adapter."""
    adapter = folder / "adapter_config.json"
    if not (folder / "config.json").is_file() and adapter.is_file():
        base = str(_read_json(adapter).get("base_model_name_or_path", ""))
        if base.startswith(("fresh:", "run:")):
            folder = folder.parent / "base"
        elif shipped := shipped_config(base):
            return read_shape(shipped, base)
        else:
            return read_shape(_fetch_config(ctx, base, "main"), base)
    return read_shape(_read_json(folder / "config.json"), ref)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read", where=path.parent.name, cure="Save the model again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} holds no settings", where=path.parent.name, cure="Save the model again.")
    return found


def _fetch_config(ctx: Context, repo_id: str, revision: str) -> dict[str, Any]:
    """Return a Hub model's config.json, asked once for each revision.

    Raises:
        ModelError: The Hub does not have it, or cannot be reached.
    """
    known = _FETCHED.get((repo_id, revision))
    if known is None:
        try:
            with tempfile.TemporaryDirectory(prefix="codex-space-") as folder:
                hub = ctx.hub()
                commit = hub.head(repo_id, revision=revision)  # fails at once where a download would try for 20 s
                known = _read_json(hub.download(repo_id, "config.json", commit, Path(folder)))
        except HubError as error:
            shipped = ", ".join(shipped_configs())
            raise ModelError(
                f"its sizes are not known here, and the Hub did not give its config.json ({error.what})",
                where=repo_id,
                cure=f"Check the name and the network, or name a local folder. Known without the Hub: {shipped}.",
            ) from error
        _FETCHED[repo_id, revision] = known
    return known


_FETCHED: dict[tuple[str, str], dict[str, Any]] = {}
