"""Give the database back what a job folder knows: the events read anew from their first byte, and what became of uploads."""

from collections.abc import Mapping

from codex_space.core.events import iter_events
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.jobs.ingest import read_new_events
from codex_space.store import checkpoints, evaluations, runs
from codex_space.store.db import Database
from codex_space.store.runs import Run

LOST = "its files were lost with the machine before they were on the Hub"
NO_ANSWERS = "its answers were lost with the machine"


def replay(db: Database, job: JobDir, run: Run, *, now: float, on_hub: Mapping[int, str]) -> Run:
    """Read a run's events into its fresh row, in one transaction, so that no other thread sees half of it.

    `on_hub` is step -> commit of the run's checkpoints that the Hub is proven to hold.
    """
    with db.transaction():
        read_new_events(db, job, run, now=now, to_end=True)
        runs.update_progress(db, run.id, attempt=max(run.attempt, count_attempts(job)), phase="")
        for step in job.checkpoint_steps():
            if step not in {row.step for row in checkpoints.list_checkpoints(db, run.id)}:
                size_bytes = sum(path.stat().st_size for path in job.checkpoint(step).iterdir() if path.is_file())
                checkpoints.add_checkpoint(db, run.id, step, created_at=now, size_bytes=size_bytes, metrics={})
        for row in checkpoints.list_checkpoints(db, run.id):
            if row.step in on_hub:
                checkpoints.set_upload(db, run.id, row.step, "uploaded", commit_id=on_hub[row.step])
            elif row.upload == "queued" and not _is_here(job, row.step):
                checkpoints.set_upload(db, run.id, row.step, "failed", error=LOST)
        checkpoints.set_on_disk(db, run.id, job.checkpoint_steps())
        for asked in evaluations.list_evaluations(db, state="waiting", limit=100_000):
            if asked.run_id == run.id and not job.evaluation(asked.step, asked.benchmark).is_dir():
                evaluations.fail(db, asked, NO_ANSWERS)
        return runs.read_run(db, run.id)


def count_attempts(job: JobDir) -> int:
    """Return the number of the last start that the events tell of."""
    numbers = (event.get("attempt") for event in iter_events(job.events) if event["e"] == "attempt")
    return max((number for number in numbers if type(number) is int and 0 < number < 1 << 31), default=0)


def _is_here(job: JobDir, step: int) -> bool:
    return any((folder / MANIFEST).is_file() for folder in (job.spooled(step), job.checkpoint(step)))
