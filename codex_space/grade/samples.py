"""Read samples in EvalPlus's JSON-lines form: `task_id` with `solution` (a whole program) or `completion`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_space.core.errors import GradeError
from codex_space.grade.files import read_objects
from codex_space.grade.problems import Problem

MAX_PROGRAM_CHARS = 4_000_000


@dataclass(frozen=True)
class Sample:
    """One answer to one task; `programs` are its readings, of which the first that compiles counts."""

    sample_id: str
    task_id: str
    programs: tuple[str, ...]


def read_samples(path: Path, problems: Iterable[Problem]) -> list[Sample]:
    """Return every sample, at least one a problem.

    Raises:
        GradeError: A line is broken or of an unknown task, or a task has no sample; file and line are named.
    """
    prompts = {problem.task_id: problem.prompt for problem in problems}
    seen: Counter[str] = Counter()
    samples = []
    for number, row in read_objects(path):
        where = f"{path.name} line {number}"
        task_id = _task_id(row, prompts, where)
        samples.append(Sample(f"{task_id}#{seen[task_id]}", task_id, programs_of(row, prompts[task_id], where)))
        seen[task_id] += 1
    missing = [task_id for task_id in prompts if task_id not in seen]
    if missing:
        raise GradeError(
            f"{len(missing)} of {len(prompts)} tasks have no sample, the first is {missing[0]}",
            where=path.name,
            cure="A score counts every task of the benchmark: add them, with an empty completion where there is none.",
        )
    return samples


def programs_of(row: dict[str, Any], prompt: str, where: str = "") -> tuple[str, ...]:
    """Return the readings of a sample: a solution as it is; a completion after the prompt, else by itself.

    Raises:
        GradeError: There is neither, or it is no text.
    """
    text = row.get("solution", row.get("completion"))
    if not isinstance(text, str):
        raise GradeError("there is no text in solution or completion", where=where, cure="Each sample has one of them.")
    if len(text) > MAX_PROGRAM_CHARS:
        raise GradeError(
            f"the program has {len(text):,} characters", where=where, cure=f"At most {MAX_PROGRAM_CHARS:,}."
        )
    return (text,) if "solution" in row else (prompt + text, text)


def _task_id(row: dict[str, Any], known: dict[str, str], where: str) -> str:
    value = row.get("task_id")
    for task_id in (value, f"Mbpp/{value}"):  # Google numbers its tasks
        if isinstance(task_id, str) and task_id in known:
            return task_id
    if value is None:
        raise GradeError("there is no task_id", where=where, cure="Each sample names its task.")
    raise GradeError(
        f"the benchmark has no task {str(value)[:80]!r}",
        where=where,
        cure=f"Its tasks are named as {next(iter(known))!r} is.",
    )
