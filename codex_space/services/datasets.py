"""List, check, import, preview and delete the workspace's datasets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_space.core.errors import DataError, RunError
from codex_space.core.recipe import parse_recipe
from codex_space.core.scratch import Scratch
from codex_space.data import catalog
from codex_space.data.catalog import DatasetInfo, Inspection
from codex_space.hub import fetch
from codex_space.services.context import Context
from codex_space.store import runs as run_rows

__all__ = ["DatasetInfo", "Inspection", "delete", "import_file", "import_hub", "inspect", "list_datasets", "preview"]


def list_datasets(ctx: Context) -> list[DatasetInfo]:
    """Return the datasets of this workspace, newest first."""
    return catalog.list_datasets(ctx.workspace)


def inspect(path: Path, columns: Mapping[str, str] | None = None) -> Inspection:
    """Read a whole file in bounded memory and say what it is and what is wrong with it.

    Raises:
        DataError: It cannot be read at all.
    """
    return catalog.inspect_file(path, columns)


def import_file(
    ctx: Context, path: Path, name: str | None = None, columns: Mapping[str, str] | None = None
) -> DatasetInfo:
    """Check a file and keep a copy of it as a dataset.

    Raises:
        DataError: File, line and cure of the first thing that is wrong.
    """
    info = catalog.import_file(ctx.workspace, path, name or path.name, ctx.clock(), columns=columns)
    ctx.note("add a dataset", info.name)
    return info


def import_hub(
    ctx: Context, repo_id: str, name: str | None = None, split: str = "train", revision: str | None = None
) -> DatasetInfo:
    """Download one split of a Hub dataset and keep it as a dataset.

    Raises:
        HubError: It is not there, gated, or the Hub does not answer.
        DataError: Its rows fit no format.
    """
    with Scratch(ctx.workspace.root, "import") as folder:
        files = fetch.fetch_dataset_files(ctx.hub(), repo_id, name, split, revision, Path(folder))
        if len(files) > 1:
            raise DataError(
                f"the split {split!r} lies in {len(files)} files",
                where=repo_id,
                cure="Name it as path: in a recipe instead; there all files are read.",
            )
        info = catalog.import_file(ctx.workspace, files[0], repo_id.replace("/", "-"), ctx.clock(), source=repo_id)
    ctx.note("add a dataset", f"{info.name} from {repo_id}")
    return info


def preview(ctx: Context, name: str, offset: int = 0, limit: int = 20) -> list[dict[str, Any]]:
    """Return some rows of a dataset.

    Raises:
        DataError: There is no such dataset.
    """
    return catalog.preview(catalog.read_dataset(ctx.workspace, name), offset, limit)


def delete(ctx: Context, name: str) -> None:
    """Remove a dataset that no unfinished run needs.

    Raises:
        DataError: There is no such dataset.
        RunError: A run that has not ended still needs it.
    """
    for run in run_rows.list_runs(ctx.db, limit=1000, states=("queued", *sorted(run_rows.ACTIVE))):
        if any(section.path == f"dataset:{name}" for section in parse_recipe(run.recipe).datasets):
            raise RunError(f"the run {run.name!r} needs this dataset and has not ended", cure="Stop that run first.")
    catalog.delete_dataset(ctx.workspace, name)
    ctx.note("delete a dataset", name)
