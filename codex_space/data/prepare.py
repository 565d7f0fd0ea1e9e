"""Mix a recipe's sources, split off validation rows and write both once, so that every attempt reads the same."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codex_space.core import durable
from codex_space.core.errors import DataError
from codex_space.core.recipe import EvaluateRecipe
from codex_space.core.sections import DatasetSection
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.data.formats import Format, Row, convert, format_of, require_kind, unpair
from codex_space.data.sources import iter_keyed

TRAIN, VALIDATION, PREPARED = "train.parquet", "validation.parquet", "prepared.json"
BATCH_BYTES = 8_000_000
BATCH_ROWS = 1000
MAX_WEIGHT = 100

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SCHEMAS: dict[Format, pa.Schema] = {
    "text": pa.schema([("text", pa.string())]),
    "prompt_completion": pa.schema([("prompt", pa.string()), ("completion", pa.string())]),
    "messages": pa.schema([("messages", _MESSAGES)]),
    "preference": pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)]),
    "preference_text": pa.schema([("prompt", pa.string()), ("chosen", pa.string()), ("rejected", pa.string())]),
    "unpaired_preference": pa.schema([("prompt", _MESSAGES), ("completion", _MESSAGES), ("label", pa.bool_())]),
}


@dataclass(frozen=True)
class Prepared:
    """The two files and what they hold."""

    folder: Path
    format: Format
    num_train: int
    num_validation: int
    train_sha256: str
    validation_sha256: str

    @property
    def train(self) -> Path:
        """The rows that are trained on."""
        return self.folder / TRAIN

    @property
    def validation(self) -> Path:
        """The rows kept out; a file without rows where none are."""
        return self.folder / VALIDATION


def prepare_rows(
    recipe: BaseRecipe, workspace: Path | None, out: Path, fetched: Mapping[str, list[Path]] | None = None
) -> Prepared:
    """Write `train.parquet`, `validation.parquet` and, last, `prepared.json`; return what an earlier call wrote.

    A row's side is decided by the hash of its content and the seed (a library file's by its name alone, a pair's by its
    prompt), so equal rows never lie on both sides. A source's weight says how often each of its rows is used: 1 once, 0.5 every second
    one by a seeded choice, 2 twice.

    Raises:
        DataError: A source cannot be read, they hold no row or no common format, or the written files were changed.
    """
    if (out / PREPARED).is_file():
        return read_prepared(out)
    out.mkdir(parents=True, exist_ok=True)
    mix = _Mix(recipe, workspace, fetched or {})
    held = recipe.validation if isinstance(recipe, TrainingRecipe) else None
    fraction = held.fraction if held and not held.dataset else 0.0
    lowest, num_train, num_validation = mix.write(out, fraction)
    if fraction and num_train + num_validation > 1 and not num_validation:
        # A small set may by chance keep nothing back: then the one row nearest to it goes.
        lowest, num_train, num_validation = mix.write(out, math.nextafter(lowest, 1))
    if not num_train:
        _, num_train, num_validation = mix.write(out, 0.0)
    if not num_train:
        raise DataError("the sources hold no row", where=", ".join(s.path for s in recipe.datasets), cure="Add rows.")
    if mix.format == "unpaired_preference":
        _require_both_labels(out / TRAIN, ", ".join(section.path for section in recipe.datasets))
    found = Prepared(out, mix.format, num_train, num_validation, _sha256(out / TRAIN), _sha256(out / VALIDATION))
    durable.write_json(out / PREPARED, {k: v for k, v in asdict(found).items() if k != "folder"})
    return found


def _require_both_labels(path: Path, where: str) -> None:
    labels = pq.read_table(path, columns=["label"]).column(0).unique().to_pylist()
    if len(labels) < 2:
        only, other = ("good", "bad") if labels[0] else ("bad", "good")
        raise DataError(
            f"every training row has the label {str(labels[0]).lower()}, and kto learns from good and bad answers",
            where=where,
            cure=f"Add {other} answers (label: {str(not labels[0]).lower()})"
            + (f", or train on the {only} ones with kind sft." if labels[0] else "."),
        )


def read_prepared(folder: Path) -> Prepared:
    """Return what `prepare_rows` wrote, hashes verified.

    Raises:
        DataError: A file is missing or is not the one that was written.
    """
    facts = durable.read_json(folder / PREPARED) or {}
    try:
        found = Prepared(folder=folder, **facts)
    except TypeError as error:
        raise DataError("this is not what we wrote", where=PREPARED, cure="Start the run afresh.") from error
    for path, expected in ((found.train, found.train_sha256), (found.validation, found.validation_sha256)):
        if not path.is_file() or _sha256(path) != expected:
            raise DataError(
                "the prepared rows were changed or removed since the run began",
                where=path.name,
                cure="An exact resume needs the same rows: clone the run to start afresh.",
            )
    return found


class _Mix:
    """The sources of one recipe as one stream that can be read again."""

    def __init__(self, recipe: BaseRecipe, workspace: Path | None, fetched: Mapping[str, list[Path]]) -> None:
        self._recipe, self._workspace, self._fetched = recipe, workspace, fetched
        for section in recipe.sources:
            if section.weight > MAX_WEIGHT:
                cure = f"A row is repeated {MAX_WEIGHT} times at most."
                raise DataError(f"the weight {section.weight:g} is too large", where=section.path, cure=cure)
        self.format = self._common_format()
        self._datasets = self._blend() if recipe.datasets and recipe.datasets[0].share else recipe.datasets

    def _blend(self) -> list[DatasetSection]:
        """Return the sources with weights that give each its share of all bytes: the scarcest is used whole, none twice.

        Raises:
            DataError: A source holds nothing.
        """
        wanted: list[float] = []
        for section in self._recipe.datasets:
            rows = iter_keyed(section, self._workspace, self._fetched)
            size = sum(len(convert(row, "text")["text"].encode()) for _, row in rows)
            if not size:
                cure = "Add rows to it, or take it out of the blend."
                raise DataError("this source of the blend holds no text", where=section.path, cure=cure)
            wanted.append((section.share or 0) / size)
        weights = [each / max(wanted) for each in wanted]
        return [
            section.model_copy(update={"weight": weight})
            for section, weight in zip(self._recipe.datasets, weights, strict=True)
        ]

    def write(self, out: Path, fraction: float) -> tuple[float, int, int]:
        """Write both files; return the lowest place of any row and the two counts."""
        lowest = 1.0
        with _Writer(out / TRAIN, self.format) as train, _Writer(out / VALIDATION, self.format) as validation:
            for place, times, row in self._rows(self._datasets):
                lowest = min(lowest, place)
                if place < fraction:
                    validation.add(row)
                    continue
                for _ in range(times):
                    train.add(row)
            for _, times, row in self._rows(self._recipe.sources[len(self._recipe.datasets) :]):
                for _ in range(times):
                    validation.add(row)
        return lowest, train.num_rows, validation.num_rows

    def _rows(self, sections: list[DatasetSection]) -> Iterator[tuple[float, int, Row]]:
        """Yield each used row with its place in [0, 1) for the split and how often it is trained on."""
        seed = self._recipe.seed
        for number, section in enumerate(sections):
            whole, part = divmod(section.weight, 1)
            for index, (key, row) in enumerate(iter_keyed(section, self._workspace, self._fetched)):
                times = int(whole) + (_place(f"{seed}/{number}/{index}") < part)
                if not times:
                    continue
                place = _place(key or f"{seed}/{_content(row)}")
                for one in unpair(row) if self.format == "unpaired_preference" else (row,):
                    yield place, times, convert(one, self.format)

    def _common_format(self) -> Format:
        found: set[Format] = set()
        kind = str(getattr(self._recipe, "kind", ""))
        for section in self._recipe.sources:
            for _, row in iter_keyed(section, self._workspace, self._fetched):
                found.add(format_of(row))
                require_kind(kind, format_of(row), section.path)
                break
        if isinstance(self._recipe, EvaluateRecipe) and self._recipe.benchmark == "answers":
            return "prompt_completion"
        if not isinstance(self._recipe, TrainingRecipe) or kind == "pretrain":
            return "text"
        if kind == "kto":
            return "unpaired_preference"
        if len(found) > 1 and not found.isdisjoint({"text", "preference_text"}):
            raise DataError(
                f"the sources have different formats: {', '.join(sorted(found))}",
                where="datasets",
                cure="Plain text cannot be mixed with prompts or chats: train on it in a run of its own.",
            )
        return "messages" if "messages" in found else next(iter(found), "text")


class _Writer:
    """One Parquet file written in batches under a temporary name, renamed when whole."""

    def __init__(self, path: Path, format_: Format) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.name}.tmp")
        self._schema = _SCHEMAS[format_]
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
        self._batch: list[Row] = []
        self._batch_bytes = 0
        self.num_rows = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is not None:
            self._temporary.unlink(missing_ok=True)
            return
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)

    def add(self, row: Row) -> None:
        """Take one row; rows go to disk in batches bounded in number and size."""
        self._batch.append(row)
        self._batch_bytes += _size(row)
        self.num_rows += 1
        if len(self._batch) >= BATCH_ROWS or self._batch_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            self._writer.write_table(pa.Table.from_pylist(self._batch, schema=self._schema))
        self._batch, self._batch_bytes = [], 0


def _size(value: Any) -> int:  # noqa: ANN401  # a row or what it holds
    """Return the characters in it, about."""
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_size, parts))


def _content(row: Row) -> str:
    """Return what decides a row's side: of answers to one prompt, all lie on the same."""
    told = row["prompt"] if "chosen" in row or "label" in row else row
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def _place(key: str) -> float:
    """Return a number in [0, 1) that only the key decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
