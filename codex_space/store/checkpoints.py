"""The checkpoints' rows: what each run has saved, and how far each checkpoint is on its way to the Hub."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from codex_space.store.db import Database

Upload = Literal["none", "queued", "uploading", "uploaded", "failed"]


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint.

    Attributes:
        on_disk: Whether checkpoint-N is still in the job folder (the worker rotates them).
        tries: Uploads that failed since it was queued.
        next_try_at: Not to be tried before this time.
    """

    run_id: str
    step: int
    created_at: float
    size_bytes: int
    metrics: dict[str, Any]
    on_disk: bool
    upload: Upload
    upload_error: str
    commit_id: str | None
    tries: int
    next_try_at: float


def add_checkpoint(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database,
    run_id: str,
    step: int,
    *,
    created_at: float,
    size_bytes: int,
    metrics: Mapping[str, Any],
    upload: Upload = "none",
) -> None:
    """Note a checkpoint; one that a resumed run made again replaces the first and is uploaded anew."""
    with db.transaction() as cursor:
        cursor.execute(
            "INSERT OR REPLACE INTO checkpoints (run_id, step, created_at, size_bytes, metrics, upload) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, step, created_at, size_bytes, json.dumps(dict(metrics)), upload),
        )


def list_checkpoints(db: Database, run_id: str) -> list[Checkpoint]:
    """Return a run's checkpoints, oldest first."""
    return [_checkpoint(row) for row in db.query("SELECT * FROM checkpoints WHERE run_id = ? ORDER BY step", (run_id,))]


def list_sent(db: Database) -> list[Checkpoint]:
    """Return the checkpoints of ended runs that are on the Hub, by this database's word, and here; oldest runs first."""
    rows = db.query(
        "SELECT c.* FROM checkpoints AS c JOIN runs AS r ON r.id = c.run_id WHERE c.upload = 'uploaded' AND c.on_disk "
        "AND c.commit_id IS NOT NULL AND r.state IN ('succeeded', 'failed', 'stopped', 'lost') "
        "ORDER BY r.created_at, r.sequence, c.step"
    )
    return [_checkpoint(row) for row in rows]


def set_on_disk(db: Database, run_id: str, steps: Collection[int]) -> None:
    """Note which checkpoints are still in the job folder."""
    with db.transaction() as cursor:
        for row in list_checkpoints(db, run_id):
            if row.on_disk != (row.step in steps):
                cursor.execute(
                    "UPDATE checkpoints SET on_disk = ? WHERE run_id = ? AND step = ?",
                    (int(row.step in steps), run_id, row.step),
                )


def set_upload(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database,
    run_id: str,
    step: int,
    upload: Upload,
    *,
    error: str = "",
    commit_id: str | None = None,
    tries: int = 0,
    next_try_at: float = 0.0,
) -> None:
    """Set the state of an upload; a commit id once known is kept."""
    with db.transaction() as cursor:
        cursor.execute(
            "UPDATE checkpoints SET upload = ?, upload_error = ?, commit_id = coalesce(?, commit_id), tries = ?, "
            "next_try_at = ? WHERE run_id = ? AND step = ?",
            (upload, error, commit_id, tries, next_try_at, run_id, step),
        )


def due_uploads(db: Database, now: float) -> list[Checkpoint]:
    """Return the newest queued checkpoint of each run where its time has come, longest waiting first.

    Newest first, since only the newest takes its resume state along: oldest first, uploads slower than the training
    would leave nothing on the Hub to go on from until the run is over. A Hub that asked one checkpoint to wait has asked
    its run: a newer one waits too.
    """
    rows = db.query(
        "SELECT * FROM checkpoints AS c WHERE upload = 'queued' AND NOT EXISTS (SELECT 1 FROM checkpoints AS o WHERE "
        "o.run_id = c.run_id AND o.upload IN ('queued', 'uploading') AND (o.step > c.step OR o.next_try_at > ?)) "
        "ORDER BY created_at, step",
        (now,),
    )
    return [_checkpoint(row) for row in rows]


def count_uploads(db: Database) -> dict[str, int]:
    """Return how many checkpoints are in each state of their upload."""
    rows = db.query("SELECT upload, count(*) FROM checkpoints GROUP BY upload")
    return dict.fromkeys(get_args(Upload), 0) | {str(row[0]): int(row[1]) for row in rows}


def next_steps_to_upload(db: Database) -> dict[str, int]:
    """Return run id -> its newest checkpoint that waits for the Hub; 0 where all that are left were refused by it."""
    rows = db.query(
        "SELECT run_id, max(CASE upload WHEN 'failed' THEN 0 ELSE step END) AS step FROM checkpoints "
        "WHERE upload IN ('queued', 'uploading', 'failed') GROUP BY run_id"
    )
    return {row["run_id"]: row["step"] for row in rows}


def newest_waiting(db: Database) -> list[str]:
    """Return the runs whose newest checkpoint is still to reach the Hub, and may."""
    rows = db.query(
        "SELECT run_id FROM checkpoints AS c WHERE upload IN ('queued', 'uploading') AND step = "
        "(SELECT max(step) FROM checkpoints AS o WHERE o.run_id = c.run_id)"
    )
    return [row["run_id"] for row in rows]


def reset_uploading(db: Database) -> None:
    """Queue again what was being uploaded when the last owner ended."""
    with db.transaction() as cursor:
        cursor.execute("UPDATE checkpoints SET upload = 'queued' WHERE upload = 'uploading'")


def _checkpoint(row: sqlite3.Row) -> Checkpoint:
    values: dict[str, Any] = dict(row)
    values.update(metrics=json.loads(row["metrics"]), on_disk=bool(row["on_disk"]))
    return Checkpoint(**values)
