"""The benchmarks the program knows: their problems fetched, chosen and read."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import GradeError, nearest
from codex_space.core.recipe import EvaluateRecipe
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.grade import benchmarks
from codex_space.grade.entry import ENTRIES, Entry
from codex_space.grade.files import read_objects
from codex_space.grade.problems import Benchmark, Problem, load_problems

Row = dict[str, Any]

SAMPLES, PROTOCOL, ASKED = "samples.jsonl", "protocol.json", "asked.json"
"""What the worker writes into an evaluation's folder; `asked.json` last, once every answer is there."""
VERDICTS, RESULTS, SCORES = "verdicts.jsonl", "results.csv", "scores.json"
"""What the owner adds."""
PASS_RATE = "pass@1 "  # noqa: S105  # the name of a score
"""Begins the name of a metric that the owner grades and no trainer logs."""


def entries() -> list[Entry]:
    """Return all benchmarks: what comes with the program first, then by name."""
    benchmarks.load_all()
    return sorted(ENTRIES.values(), key=lambda entry: (entry.shipped is None, entry.name))


def find(name: str) -> Entry:
    """Return the benchmark of that name.

    Raises:
        GradeError: There is none; the nearest is told.
    """
    benchmarks.load_all()
    if name not in ENTRIES:
        raise GradeError(f"there is no benchmark {name!r}", where="benchmark", cure=nearest(name, list(ENTRIES)))
    return ENTRIES[name]


def fetch(entry: Entry, cache: Path, download: Callable[[Entry], list[Row]]) -> Path:
    """Return the problems file, brought from the Hub once where it is not there.

    Raises:
        GradeError: A problem of it has no base tests in the benchmark that should hold them.
    """
    path = entry.file(cache)
    if path.is_file():
        return path
    rows = download(entry)
    if entry.base:
        tests = {row.get("task_id"): row.get("test") for row in download(find(entry.base))}
        missing = next((row.get("task_id") for row in rows if row.get("task_id") not in tests), None)
        if missing is not None:
            raise GradeError(
                f"{entry.base} has no tests of it", where=str(missing), cure=f"Use EvalPlus's {entry.release}."
            )
        rows = [{**row, "base_test": tests[row.get("task_id")]} for row in rows]
    cache.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def version_of(path: Path) -> str:
    """Return the file's name and the beginning of its SHA-256."""
    return f"{path.name} {sha256(path.read_bytes()).hexdigest()[:12]}"


def choose(items: list[Any], limit: int | None) -> list[Any]:
    """Return at most `limit` of the items, spread evenly over all; the same ones each time."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


@dataclass(frozen=True)
class Loaded:
    """A benchmark with the problems that are asked; `questions` are what `protocol.ask` reads, by task id."""

    benchmark: Benchmark
    problems: list[Problem]
    questions: dict[str, dict[str, str]]
    tiers: dict[str, int]
    version: str


def load(name: str, path: Path, limit: int | None = None) -> Loaded:
    """Read a problems file and choose those that are asked; the last few are kept in memory while the file stays as it is.

    Raises:
        GradeError: It cannot be read, or is not of this benchmark.
    """
    try:
        facts = path.stat()
    except OSError:
        return _load(name, path, limit, (0, 0))  # it says what is wrong
    return _load(name, path, limit, (facts.st_mtime_ns, facts.st_size))


@functools.lru_cache(maxsize=4)
def _load(name: str, path: Path, limit: int | None, _version: tuple[int, int]) -> Loaded:
    benchmark = benchmarks.find(name)
    problems = choose(load_problems(benchmark, path), limit)
    rows = {str(row.get("task_id")): row for _, row in read_objects(path)}
    questions, tiers = {}, {}
    for problem in problems:
        row = rows.get(problem.task_id) or {}
        questions[problem.task_id] = {
            "task_id": problem.task_id,
            "prompt": problem.prompt,
            "entry_point": problem.tests[0].names[0] if problem.tests[0].names else "",
            **({"request": row["request"]} if isinstance(row.get("request"), str) else {}),
        }
        if isinstance(row.get("tier"), int):
            tiers[problem.task_id] = row["tier"]
    return Loaded(benchmark, problems, questions, tiers, version_of(path))


def asked_of(recipe: BaseRecipe, benchmark: str, cache: Path) -> tuple[Path, int | None]:
    """Return the problems file of one of a recipe's benchmarks, and how many problems are asked at most.

    Raises:
        GradeError: There is no such benchmark.
    """
    named = recipe.problems if isinstance(recipe, EvaluateRecipe) else None
    path = Path(named) if named else find(benchmark).file(cache)
    if isinstance(recipe, EvaluateRecipe):
        return path, recipe.limit
    return path, recipe.evaluate.limit if isinstance(recipe, TrainingRecipe) and recipe.evaluate else None


def program_hash(program: str) -> str:
    """Return what tells whether the program shown later is the one that was graded."""
    return sha256(program.encode("utf-8", "surrogatepass")).hexdigest()


def read_lines(chunk: bytes) -> Iterator[Row]:
    """Yield the JSON objects of some lines; one that is none (cut off by a full disk, say) is passed over."""
    for line in chunk.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
