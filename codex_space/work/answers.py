"""The folder that a worker leaves answers in for the owner to grade, and the problems they answer; no torch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.grade import library
from codex_space.grade.library import ASKED, PROTOCOL
from codex_space.work.attempt import Attempt


def load_problems(attempt: Attempt, name: str) -> library.Loaded:
    """Return the problems of a benchmark, from the Hub where they do not come with the program.

    Raises:
        GradeError: They cannot be read.
        HubError: The Hub refuses them.
    """
    cache = Workspace(attempt.workspace or attempt.job.root).benchmarks
    path, limit = library.asked_of(attempt.recipe, name, cache)
    if not getattr(attempt.recipe, "problems", None):
        library.fetch(library.find(name), cache, lambda one: _download(attempt, one))
    return library.load(name, path, limit)


def begin_answers(
    attempt: Attempt, benchmark: str, step: int, num: int, protocol: Mapping[str, Any], line: str
) -> Path:
    """Return the empty folder that answers go into, and announce their number and how they are asked."""
    folder = attempt.job.evaluation(step, benchmark)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / PROTOCOL).write_text(json.dumps(protocol, indent=1), encoding="utf-8")
    attempt.say("samples", step=step, benchmark=benchmark, num_samples=num, protocol=line)
    return folder


def end_answers(folder: Path, count: int, wanted: int) -> None:
    """Mark a folder that holds every answer: one without the mark is asked again."""
    if count == wanted:
        durable.write_json(folder / ASKED, {"num_samples": count})


def _download(attempt: Attempt, entry: library.Entry) -> list[library.Row]:
    from codex_space.data.read import iter_rows
    from codex_space.hub.client import Hub
    from codex_space.hub.dataset_files import fetch_dataset_files

    token = read_settings().hf_token
    hub = Hub(token.reveal() if token else None)
    attempt.say("phase", phase="benchmark", detail=f"downloading {entry.repo_id}")
    files = fetch_dataset_files(
        hub, entry.repo_id, entry.config, entry.split, None, attempt.job.root / "cache" / entry.name
    )
    return [row for path in files for _, row in iter_rows(path)]
