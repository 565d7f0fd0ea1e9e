"""Which files of a Hub dataset make up a split, by the Hub's naming rules; its code is never run.

The rules are those of `datasets` 5.2 (data_files.py): data files named in the README's `configs`, else shards
`data/SPLIT-00000-of-00001`, else split names in folder names, else in file names, else every file is train.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from codex_space.core.errors import DataError, HubNotFoundError, WorkspaceError
from codex_space.core.yaml_text import load_bounded
from codex_space.hub.client import Hub

_DATA_FILE = re.compile(r".+\.(parquet|jsonl|json|csv|jsonl\.gz|json\.gz|csv\.gz)")
_NOT_DATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "metadata.json"}
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_PARQUET_BRANCH = "refs/convert/parquet"
_SPARE_BYTES = 256 << 20


def fetch_dataset_files(
    hub: Hub, repo_id: str, name: str | None, split: str, revision: str | None, into: Path
) -> list[Path]:
    """Download the data files of one split below `into` and return them in order.

    Raises:
        HubNotFoundError: No such dataset or revision.
        HubGatedError: Its terms are not accepted yet.
        DataError: It has no such split or configuration, or nothing but a loading script.
        WorkspaceError: Not enough disk space.
    """
    if not re.fullmatch(r"[\w.-]+", split):
        raise DataError(f"{split!r} is not the name of a split", where=repo_id, cure="Write train, not train[:10%].")
    commit = hub.head(repo_id, "dataset", revision)
    tree = hub.tree(repo_id, commit, "dataset")
    readme = hub.read_text(repo_id, "README.md", commit, "dataset") if "README.md" in tree else ""
    data_files = [path for path in sorted(tree) if _is_data(path)]
    if data_files:
        chosen = choose_files(data_files, name, split, readme, where=repo_id)
    else:
        try:
            commit = hub.head(repo_id, "dataset", _PARQUET_BRANCH)
        except HubNotFoundError as error:
            raise _nothing_to_read(repo_id, tree) from error
        tree = hub.tree(repo_id, commit, "dataset")
        chosen = choose_converted(sorted(tree), name, split, where=repo_id)
    size_bytes = sum(tree[path].size for path in chosen)
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if free < size_bytes + _SPARE_BYTES:
        what = f"{size_bytes / 2**20:,.0f} MiB are to be downloaded and {free / 2**20:,.0f} MiB of disk are free"
        raise WorkspaceError(what, where=repo_id, cure="Free some space, or take a smaller dataset.")
    return [hub.download(repo_id, path, commit, into, "dataset") for path in chosen]


def choose_files(paths: list[str], name: str | None, split: str, readme: str, *, where: str) -> list[str]:
    """Return the files of a split, of those that hold data.

    Raises:
        DataError: There is no such configuration or split; the ones found are named.
    """
    config = _config(_configs(readme, where), name, where)
    if config is not None:
        splits = _splits_of_config(config, paths)
    elif name not in {None, "default"}:
        raise DataError(f"there is no configuration {name!r}", where=where, cure="Leave `name` out: it has none.")
    else:
        splits = _splits_by_name(paths)
    if not splits.get(split):
        found = ", ".join(sorted(key for key, files in splits.items() if files)) or "none"
        raise DataError(f"there is no split {split!r}", where=where, cure=f"It has: {found}.")
    return splits[split]


def choose_converted(paths: list[str], name: str | None, split: str, *, where: str) -> list[str]:
    """Return the files of a split in the Hub's own Parquet copy (CONFIG/SPLIT/0000.parquet).

    Raises:
        DataError: There is no such configuration or split.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        parts = path.split("/")
        if len(parts) == 3 and path.endswith(".parquet"):
            found.setdefault((parts[0], parts[1].removeprefix("partial-")), []).append(path)
    configs = sorted({config for config, _ in found})
    wanted = name or ("default" if "default" in configs else configs[0] if len(configs) == 1 else None)
    if wanted not in configs:
        raise _no_config(wanted, configs, where)
    if (wanted, split) not in found:
        splits = ", ".join(sorted(key for config, key in found if config == wanted))
        raise DataError(f"there is no split {split!r}", where=where, cure=f"It has: {splits}.")
    return found[wanted, split]


def _is_data(path: str) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.split("/"))
    return not hidden and path.rsplit("/", 1)[-1] not in _NOT_DATA and bool(_DATA_FILE.fullmatch(path))


def _nothing_to_read(repo_id: str, tree: Iterable[str]) -> DataError:
    if any(path.endswith(".py") for path in tree):
        what = "this dataset is only a loading script, and the Hub has no Parquet copy of it"
        return DataError(what, where=repo_id, cure="Scripts are never run; take a dataset with data files.")
    return DataError("there are no data files", where=repo_id, cure="Parquet, JSONL, JSON and CSV can be read.")


def _configs(readme: str, where: str) -> list[dict[str, Any]]:
    """Return the `configs` of the README's front matter that name data files."""
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    if not match:
        return []
    try:
        front = load_bounded(match[1])
    except yaml.YAMLError as error:
        raise DataError("the dataset's README front matter is not YAML", where=where) from error
    configs = front.get("configs") if isinstance(front, dict) else None
    rows = configs if isinstance(configs, list) else []
    return [row for row in rows if isinstance(row, dict) and (row.get("data_files") or row.get("data_dir"))]


def _config(configs: list[dict[str, Any]], name: str | None, where: str) -> dict[str, Any] | None:
    if not configs:
        return None
    by_name = {str(row.get("config_name", "default")): row for row in configs}
    if name is None:
        marked = [row for row in configs if row.get("default") is True]
        if marked or "default" in by_name or len(configs) == 1:
            return marked[0] if marked else by_name.get("default", configs[0])
    if name not in by_name:
        raise _no_config(name, sorted(by_name), where)
    return by_name[name]


def _no_config(name: str | None, configs: list[str], where: str) -> DataError:
    names = ", ".join(configs[:30]) or "none"
    what = f"there is no configuration {name!r}" if name else "it has several configurations and none is chosen"
    return DataError(what, where=where, cure=f"Set `name` to one of: {names}.")


def _splits_of_config(config: dict[str, Any], paths: list[str]) -> dict[str, list[str]]:
    folder = str(config.get("data_dir") or "").strip("/")
    inside = [path for path in paths if not folder or path.startswith(folder + "/")]
    data_files = config.get("data_files")
    if data_files is None:
        return _splits_by_name(inside)
    if isinstance(data_files, str) or (data_files and all(isinstance(row, str) for row in data_files)):
        return {"train": _matching(data_files, folder, inside)}
    if isinstance(data_files, dict):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    rows = [row for row in data_files if isinstance(row, dict)]
    return {str(row.get("split", "train")): _matching(row.get("path") or [], folder, inside) for row in rows}


def _matching(patterns: str | list[str], folder: str, paths: list[str]) -> list[str]:
    listed = [patterns] if isinstance(patterns, str) else patterns
    full = [f"{folder}/{pattern}" if folder else str(pattern) for pattern in listed]
    globs = [_glob(pattern.removeprefix("./")) for pattern in full]
    return [path for path in paths if any(glob.fullmatch(path) for glob in globs)]


def _glob(pattern: str) -> re.Pattern[str]:
    """Translate a glob in which ** crosses folders and * does not."""
    table = {"**/": r"(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    classes = (
        table.get(piece) or (piece if piece.startswith("[") and piece.endswith("]") else None) for piece in pieces
    )
    return re.compile(
        "".join(part if part is not None else re.escape(raw) for part, raw in zip(classes, pieces, strict=True))
    )


def _splits_by_name(paths: list[str]) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = {}
    for path in paths:
        if match := re.fullmatch(r"data/([\w.]+(?:-[\w.]+)*?)-\d{5}-of-\d{5}[^/]*\.[^/]*", path):
            shards.setdefault(match[1], []).append(path)
    if shards:
        return shards
    for part_of in (lambda path: path.rpartition("/")[0], lambda path: path.rpartition("/")[2]):
        found = {split: [p for p in paths if _mentions(part_of(p), split)] for split in _KEYWORDS}
        if any(found.values()):
            return found
    return {"train": paths}


def _mentions(text: str, split: str) -> bool:
    words = "|".join(_KEYWORDS[split])
    return re.search(rf"(?:^|[-._ 0-9/])(?:{words})(?:[-._ 0-9/]|$)", text) is not None
