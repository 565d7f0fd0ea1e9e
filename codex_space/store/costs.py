"""What runs have cost on machines that are paid for, by run and month."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from codex_space.store.db import Database

IDLE = ""
"""In place of a run's id: the machine was on and trained nothing."""
Sums = Mapping[tuple[str, str], tuple[float, float]]
"""(run id, month) -> (seconds, US dollars)."""


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
        cursor.execute(_ADD, (run_id, month_of(at), seconds, usd))


def by_run(db: Database, run_ids: tuple[str, ...]) -> dict[str, float]:
    """Return US dollars by run, of this machine and of Jobs, for those that have cost anything."""
    marks = ",".join("?" * len(run_ids))
    sql = f"SELECT run_id, sum(usd) AS usd FROM ({_ALL}) WHERE run_id IN ({marks}) GROUP BY run_id"  # noqa: S608  # our own
    return {str(row["run_id"]): float(row["usd"]) for row in db.query(sql, run_ids) if row["usd"]}


def of_month(db: Database, month: str) -> float:
    """Return US dollars spent in a month: runs, Jobs, and a machine that was on without any."""
    sql = f"SELECT coalesce(sum(usd), 0) AS usd FROM ({_ALL}) WHERE month = ?"  # noqa: S608  # our own
    return float(db.query(sql, (month,))[0]["usd"])


def months(db: Database) -> dict[str, float]:
    """Return US dollars by month, newest first."""
    sql = f"SELECT month, sum(usd) AS usd FROM ({_ALL}) GROUP BY month ORDER BY month DESC"  # noqa: S608  # our own
    return {str(row["month"]): float(row["usd"]) for row in db.query(sql)}


def own(db: Database) -> Sums:
    """Return what this very database has counted."""
    sql = f"SELECT run_id, month, sum(seconds) AS seconds, sum(usd) AS usd FROM ({_OWN}) GROUP BY run_id, month"  # noqa: S608  # our own
    rows = db.query(sql)
    return {(row["run_id"], row["month"]): (round(row["seconds"], 1), round(row["usd"], 6)) for row in rows}


def count_earlier(db: Database, part: str, sums: Sums) -> None:
    """Count what another database has counted before, in the place of what it was known to have."""
    rows = [(part, *key, *value) for key, value in sums.items()]
    with db.transaction() as cursor:
        cursor.executemany("INSERT OR REPLACE INTO earlier_costs VALUES (?, ?, ?, ?, ?)", rows)


def catch_up(db: Database, sums: Sums) -> None:
    """Add what this database once had counted, and no longer knows of.

    A run's Jobs are found and counted again where it still follows them, so of those it is the least that they cost.
    """
    with db.transaction() as cursor:
        known = own(db)
        on_jobs = {str(row["id"]) for row in db.query("SELECT id FROM runs WHERE place != 'local'")}
        for key, (seconds, usd) in sums.items():
            known_s, known_usd = known.get(key, (0.0, 0.0))
            if usd <= known_usd:
                continue
            missing = max(0.0, seconds - known_s), usd - known_usd
            if key[0] in on_jobs:
                cursor.execute(_RAISE, {"run_id": key[0], "month": key[1], "seconds": missing[0], "usd": missing[1]})
            else:
                cursor.execute(_ADD, (*key, *missing))


def settle_jobs(db: Database, run_id: str) -> None:
    """Write down what the Jobs of a run have cost as spent, before their rows go with it."""
    with db.transaction() as cursor:
        cursor.execute(f"{_ADD_FROM} SELECT * FROM ({_JOBS}) WHERE run_id = ?{_ON_CONFLICT}", (run_id,))  # noqa: S608  # our own
        for table in ("hub_jobs", "told_jobs"):
            cursor.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608  # our own


_SEEN_JOBS = (
    "SELECT run_id, strftime('%Y-%m', created_at, 'unixepoch') AS month, sum(running_s) AS seconds,"
    " sum(coalesce(usd_per_hour, 0) * running_s / 3600) AS usd FROM hub_jobs GROUP BY 1, 2"
)
_JOBS = (
    f"SELECT run_id, month, max(seconds) AS seconds, max(usd) AS usd FROM ({_SEEN_JOBS}"  # noqa: S608  # our own
    " UNION ALL SELECT run_id, month, seconds, usd FROM told_jobs) GROUP BY run_id, month"
)
_RAISE = (
    f"WITH now AS (SELECT seconds, usd FROM ({_JOBS}) WHERE run_id = :run_id AND month = :month)"  # noqa: S608  # our own
    " INSERT OR REPLACE INTO told_jobs VALUES (:run_id, :month, coalesce((SELECT seconds FROM now), 0) + :seconds,"
    " coalesce((SELECT usd FROM now), 0) + :usd)"
)
_OWN = f"SELECT run_id, month, seconds, usd FROM costs UNION ALL {_JOBS}"  # noqa: S608  # our own
_ALL = f"{_OWN} UNION ALL SELECT run_id, month, seconds, usd FROM earlier_costs"  # noqa: S608  # our own
_ADD_FROM = "INSERT INTO costs (run_id, month, seconds, usd)"
_ON_CONFLICT = (
    " ON CONFLICT (run_id, month) DO UPDATE SET seconds = seconds + excluded.seconds, usd = usd + excluded.usd"
)
_ADD = f"{_ADD_FROM} VALUES (?, ?, ?, ?){_ON_CONFLICT}"
