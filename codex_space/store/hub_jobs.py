"""The rows of Hugging Face Jobs: one for each attempt of a run that trains there, with what it costs."""

import sqlite3
from dataclasses import dataclass, fields

from codex_space.store.db import Database, Value

TERMINAL = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})


@dataclass(frozen=True)
class HubJob:
    """One Job.

    Attributes:
        namespace: Who pays; empty until the Job is there.
        job_id: Empty until the Hub has taken it.
        stage: The Hub's word: SCHEDULING, RUNNING, or one of `TERMINAL`.
        message: The Hub's own words about the stage.
        usd_per_hour: Of the flavor when it was submitted; None where the Hub did not say.
        running_s: Seconds it has run, which are what is paid for.
        log_offset: Bytes of the run's log that earlier attempts wrote.
    """

    run_id: str
    attempt: int
    flavor: str
    namespace: str
    job_id: str
    url: str
    stage: str
    message: str
    usd_per_hour: float | None
    running_s: float
    timeout_s: float
    created_at: float
    log_offset: int

    @property
    def cost_usd(self) -> float | None:
        """What it has cost so far."""
        return None if self.usd_per_hour is None else self.usd_per_hour * self.running_s / 3600


_COLUMNS = ", ".join(field.name for field in fields(HubJob))


def add_job(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database, run_id: str, attempt: int, *, flavor: str, timeout_s: float, now: float, log_offset: int
) -> None:
    """Note that a Job is about to be submitted: after a crash it is looked for by its labels."""
    with db.transaction() as cursor:
        cursor.execute(
            "INSERT OR IGNORE INTO hub_jobs (run_id, attempt, flavor, timeout_s, created_at, log_offset) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, attempt, flavor, timeout_s, now, log_offset),
        )


def update_job(db: Database, run_id: str, attempt: int, **changes: Value) -> None:
    """Set columns of a row by name."""
    unknown = set(changes) - {field.name for field in fields(HubJob)}
    if unknown:
        raise ValueError(f"hub_jobs has no column {sorted(unknown)}")
    assignments = ", ".join(f"{name} = ?" for name in changes)
    with db.transaction() as cursor:
        cursor.execute(
            f"UPDATE hub_jobs SET {assignments} WHERE run_id = ? AND attempt = ?",  # noqa: S608  # checked above
            [*changes.values(), run_id, attempt],
        )


def list_jobs(db: Database, run_id: str = "") -> list[HubJob]:
    """Return the Jobs of a run, or of all runs, oldest first."""
    where, given = ("WHERE run_id = ?", (run_id,)) if run_id else ("", ())
    sql = f"SELECT {_COLUMNS} FROM hub_jobs {where} ORDER BY created_at, attempt"  # noqa: S608  # our own names
    return [_job(row) for row in db.query(sql, given)]


def newest_job(db: Database, run_id: str) -> HubJob | None:
    """Return the Job of a run's newest attempt, None where it never trained as one."""
    found = list_jobs(db, run_id)
    return max(found, key=lambda job: job.attempt) if found else None


def _job(row: sqlite3.Row) -> HubJob:
    return HubJob(**dict(row))
