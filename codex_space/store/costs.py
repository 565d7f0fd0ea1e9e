"""What runs have cost on machines that are paid for, by run and month."""

from dataclasses import dataclass
from datetime import UTC, datetime

from codex_space.store.db import Database

IDLE = ""
"""In place of a run's id: the machine was on and trained nothing."""


@dataclass(frozen=True)
class Cost:
    """What one run has cost in one month."""

    run_id: str
    month: str
    seconds: float
    usd: float


def month_of(at: float) -> str:
    """Return the month of a time, as 2026-11, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def add(db: Database, run_id: str, *, at: float, seconds: float, usd: float) -> None:
    """Add some seconds to a run's account."""
    with db.transaction() as cursor:
        cursor.execute(
            "INSERT INTO costs (run_id, month, seconds, usd) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (run_id, month) DO UPDATE SET seconds = seconds + excluded.seconds, usd = usd + excluded.usd",
            (run_id, month_of(at), seconds, usd),
        )


def by_run(db: Database, run_ids: tuple[str, ...]) -> dict[str, float]:
    """Return US dollars by run, of this machine and of Jobs, for those that have cost anything."""
    marks = ",".join("?" * len(run_ids))
    sql = (
        f"SELECT run_id, sum(usd) AS usd FROM (SELECT run_id, usd FROM costs UNION ALL {_JOBS})"  # noqa: S608  # our own
        f" WHERE run_id IN ({marks}) GROUP BY run_id"
    )
    return {str(row["run_id"]): float(row["usd"]) for row in db.query(sql, run_ids) if row["usd"]}


def of_month(db: Database, month: str) -> float:
    """Return US dollars spent in a month: runs, Jobs, and a machine that was on without any."""
    sql = f"SELECT coalesce(sum(usd), 0) AS usd FROM (SELECT usd, month FROM costs UNION ALL {_JOBS_BY_MONTH}) WHERE month = ?"  # noqa: S608  # our own
    return float(db.query(sql, (month,))[0]["usd"])


def months(db: Database) -> dict[str, float]:
    """Return US dollars by month, newest first."""
    sql = f"SELECT month, sum(usd) AS usd FROM (SELECT usd, month FROM costs UNION ALL {_JOBS_BY_MONTH}) GROUP BY month ORDER BY month DESC"  # noqa: S608  # our own
    return {str(row["month"]): float(row["usd"]) for row in db.query(sql)}


_JOB_USD = "coalesce(usd_per_hour, 0) * running_s / 3600 AS usd"
_JOBS = f"SELECT run_id, {_JOB_USD} FROM hub_jobs"  # noqa: S608  # our own
_JOBS_BY_MONTH = f"SELECT {_JOB_USD}, strftime('%Y-%m', created_at, 'unixepoch') AS month FROM hub_jobs"  # noqa: S608  # our own
