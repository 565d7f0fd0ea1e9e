"""What the database alone knows of a run, kept beside it as run.json, so that a lost database can be made again."""

import contextlib
from dataclasses import asdict

from codex_space.core import durable
from codex_space.core.paths import JobDir, Workspace
from codex_space.store import runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, FINAL, Run

_LEFT_OUT = ("id", "recipe", "events_offset")


def write_record(job: JobDir, run: Run) -> None:
    """Write it down; a full disk must not keep a run from going on."""
    if job.root.is_dir():
        with contextlib.suppress(OSError):
            durable.write_json(job.record, {k: v for k, v in asdict(run).items() if k not in _LEFT_OUT})


class Recorder:
    """Writes a run's record whenever its state has changed."""

    def __init__(self, db: Database, workspace: Workspace) -> None:
        """Know nothing yet: each run is written once at the start."""
        self._db, self._workspace = db, workspace
        self._known: dict[str, tuple[object, ...]] = {}

    def step(self) -> None:
        """Write down what has changed since the last call."""
        unfinished = runs.list_runs(self._db, limit=1000, states=("queued", *ACTIVE))
        current = {run.id for run in unfinished}
        left = tuple(
            run_id for run_id, (state, *_) in self._known.items() if state not in FINAL and run_id not in current
        )
        ended = runs.list_runs(self._db, limit=1000, ids=left) if left else []
        for run in (*unfinished, *ended):
            key = (run.state, run.name, run.attempt, run.queued_at, run.intent)
            if self._known.get(run.id) != key:
                write_record(self._workspace.job(run.id), run)
                self._known[run.id] = key
        for run_id in set(left) - {run.id for run in ended}:  # deleted
            del self._known[run_id]
