"""The curves: every logged point, with minimum, maximum and last value per 64 and per 4096 steps kept beside them.

Buckets are computed again from the points they cover whenever one of these changes, so they are never out of step.
"""

import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from codex_space.store.db import Database

WIDTHS = (64, 4096)
READ_FACTOR = 32
"""At most this many rows are read for each point asked for; past it, the next wider buckets are read instead."""

Point = tuple[str, int, float, float]
_Row = tuple[int, float, float, float]


@dataclass(frozen=True)
class Curve:
    """One metric of one run, thinned: each entry is the last value of a stretch with its lowest and highest."""

    metric: str
    steps: list[int]
    lows: list[float]
    highs: list[float]
    values: list[float]


def add_points(db: Database, run_id: str, points: Iterable[Point]) -> None:
    """Store (metric, step, value, t); a step logged twice keeps the second value, NaN and infinity are left out."""
    finite = sorted((point for point in points if math.isfinite(point[2])), key=lambda point: point[0])
    with db.transaction() as cursor:
        for metric, group in groupby(finite, key=lambda point: point[0]):
            curve_id = _make_curve(cursor, run_id, metric)
            rows = [(curve_id, step, float(value), float(t)) for _, step, value, t in group]
            cursor.executemany("INSERT OR REPLACE INTO points (curve_id, step, value, t) VALUES (?, ?, ?, ?)", rows)
            steps = {row[1] for row in rows}
            _recount(cursor, curve_id, min(steps), max(steps))


def truncate_after(db: Database, run_id: str, step: int) -> None:
    """Drop all points above `step`."""
    with db.transaction() as cursor:
        for row in cursor.execute("SELECT id FROM curves WHERE run_id = ?", (run_id,)).fetchall():
            cursor.execute("DELETE FROM points WHERE curve_id = ? AND step > ?", (row["id"], step))
            for width in WIDTHS:
                cursor.execute(
                    "DELETE FROM buckets WHERE curve_id = ? AND width = ? AND number >= ?",
                    (row["id"], width, step // width),
                )
            _recount(cursor, row["id"], step, step)


def read_curve(db: Database, run_id: str, metric: str, *, max_points: int = 1000, after_step: int = -1) -> Curve:
    """Return the points above `after_step`, thinned to at most `max_points`; empty where there are none."""
    found = db.query("SELECT id FROM curves WHERE run_id = ? AND metric = ?", (run_id, metric))
    rows = _read_rows(db, found[0]["id"], after_step, READ_FACTOR * max_points) if found else []
    size = max(1, math.ceil(len(rows) / max_points))
    groups = [rows[first : first + size] for first in range(0, len(rows), size)]
    return Curve(
        metric,
        steps=[group[-1][0] for group in groups],
        lows=[min(row[1] for row in group) for group in groups],
        highs=[max(row[2] for row in group) for group in groups],
        values=[group[-1][3] for group in groups],
    )


def list_metrics(db: Database, run_id: str) -> list[str]:
    """Return the names of all curves that have points."""
    rows = db.query(
        "SELECT metric FROM curves WHERE run_id = ? AND EXISTS (SELECT 1 FROM points WHERE curve_id = curves.id) "
        "ORDER BY metric",
        (run_id,),
    )
    return [row["metric"] for row in rows]


def last_step(db: Database, run_id: str, metric: str) -> int:
    """Return the highest step with a point, -1 where there is none."""
    row = db.query(
        "SELECT max(step) FROM points WHERE curve_id = (SELECT id FROM curves WHERE run_id = ? AND metric = ?)",
        (run_id, metric),
    )[0]
    return -1 if row[0] is None else int(row[0])


def latest(db: Database, run_id: str) -> dict[str, float]:
    """Return the newest value of every metric."""
    rows = db.query(
        "SELECT metric, (SELECT value FROM points WHERE curve_id = curves.id ORDER BY step DESC LIMIT 1) AS value "
        "FROM curves WHERE run_id = ? ORDER BY metric",
        (run_id,),
    )
    return {row["metric"]: row["value"] for row in rows if row["value"] is not None}


def _make_curve(cursor: sqlite3.Cursor, run_id: str, metric: str) -> int:
    cursor.execute("INSERT OR IGNORE INTO curves (run_id, metric) VALUES (?, ?)", (run_id, metric))
    row = cursor.execute("SELECT id FROM curves WHERE run_id = ? AND metric = ?", (run_id, metric)).fetchone()
    return int(row["id"])


def _recount(cursor: sqlite3.Cursor, curve_id: int, first_step: int, last_step: int) -> None:
    """Compute the buckets that hold these steps from the points themselves."""
    for width in WIDTHS:
        first, last = first_step // width, last_step // width
        cursor.execute(
            "INSERT OR REPLACE INTO buckets (curve_id, width, number, num_points, low, high, last_step, last) "
            "SELECT p.curve_id, :width, b.number, b.num_points, b.low, b.high, b.last_step, p.value FROM "
            "(SELECT step / :width AS number, count(*) AS num_points, min(value) AS low, max(value) AS high, "
            "max(step) AS last_step FROM points WHERE curve_id = :curve AND step >= :first AND step < :end "
            "GROUP BY step / :width) AS b JOIN points AS p ON p.curve_id = :curve AND p.step = b.last_step",
            {"width": width, "curve": curve_id, "first": first * width, "end": (last + 1) * width},
        )


def _read_rows(db: Database, curve_id: int, after_step: int, max_rows: int) -> list[_Row]:
    """Return (step, low, high, value) from the finest level that has at most `max_rows` of them."""
    narrow, wide = WIDTHS
    counts = db.query(
        "SELECT width, sum(num_points) AS points, count(*) AS buckets FROM buckets "
        "WHERE curve_id = ? AND width = ? AND number >= ?",
        (curve_id, wide, max(after_step, 0) // wide),
    )[0]
    if (counts["points"] or 0) <= max_rows:
        rows = db.query(
            "SELECT step, value, value, value FROM points WHERE curve_id = ? AND step > ? ORDER BY step",
            (curve_id, after_step),
        )
    else:
        width = narrow if counts["buckets"] * (wide // narrow) <= max_rows else wide
        rows = db.query(
            "SELECT last_step, low, high, last FROM buckets WHERE curve_id = ? AND width = ? AND number >= ? "
            "AND last_step > ? ORDER BY number",
            (curve_id, width, max(after_step, 0) // width, after_step),
        )
    return [(row[0], row[1], row[2], row[3]) for row in rows]
