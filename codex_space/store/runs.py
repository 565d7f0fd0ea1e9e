"""The runs' rows: one per submitted recipe, the table of allowed state changes, and the wishes of other processes."""

import sqlite3
from dataclasses import dataclass, fields
from typing import Literal, get_args

from codex_space.core.errors import RunError
from codex_space.store import costs
from codex_space.store.db import Database, Value

ALLOWED: dict[str, frozenset[str]] = {
    "queued": frozenset({"preflight", "stopped", "failed"}),
    "preflight": frozenset({"running", "stopping", "failed", "stopped", "lost"}),
    "running": frozenset({"stopping", "succeeded", "failed", "stopped", "lost"}),
    "stopping": frozenset({"succeeded", "failed", "stopped", "lost"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "stopped": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
}
"""From each state, the states that may follow it; the only place that says so."""

ACTIVE = frozenset({"preflight", "running", "stopping"})
FINAL = frozenset({"succeeded", "failed", "stopped", "lost"})
Verb = Literal["stop", "cancel", "save", "resume"]


@dataclass(frozen=True)
class Run:
    """One submitted recipe and what became of it.

    Attributes:
        reason: Why it is in this state, a sentence for a person.
        queued_at: When it entered the queue last (a resume enters it again).
        attempt: How often its worker was started.
        events_offset: Bytes of events.jsonl that are in this database already.
        verdict: What the worker said of its end in this attempt: done, stopped, failed, or nothing yet.
        intent: What the owner is doing to it: stop, cancel, or nothing. Stored before the first signal.
        intent_reason: Why, where it was not a person who asked.
        place: Where it trains: `local`, or `hf-jobs` for a Job of Hugging Face.
    """

    id: str
    name: str
    kind: str
    recipe: str
    state: str
    phase: str
    reason: str
    created_at: float
    queued_at: float
    started_at: float | None
    ended_at: float | None
    step: int
    max_steps: int
    attempt: int
    repo_id: str | None
    events_offset: int
    verdict: str
    intent: str
    intent_at: float | None
    place: str = "local"
    intent_reason: str = ""


@dataclass(frozen=True)
class Wish:
    """Something a process that is not the owner wants done."""

    run_id: str
    verb: Verb
    reason: str = ""


_COLUMNS = ", ".join(field.name for field in fields(Run))


def insert_run(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database,
    *,
    id: str,
    name: str,
    kind: str,
    recipe: str,
    repo_id: str | None,
    now: float,
    request_key: str | None = None,
    place: str = "local",
) -> Run:
    """Queue a run, or return the one that the same `request_key` queued before.

    Raises:
        RunError: The id is taken.
    """
    with db.transaction() as cursor:
        if request_key is not None:
            row = cursor.execute("SELECT id FROM runs WHERE request_key = ?", (request_key,)).fetchone()
            if row:
                return read_run(db, row["id"])
        if cursor.execute("SELECT 1 FROM runs WHERE id = ?", (id,)).fetchone():
            raise RunError("there is a run with this id already", where=id, cure="Submit it once more.")
        cursor.execute(
            "INSERT INTO runs (id, name, kind, recipe, repo_id, request_key, created_at, queued_at, place) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (id, name, kind, recipe, repo_id, request_key, now, now, place),
        )
        return read_run(db, id)


def read_run(db: Database, run_id: str) -> Run:
    """Return one run.

    Raises:
        RunError: There is none with this id.
    """
    rows = db.query(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run_id,))  # noqa: S608  # our own column names
    if not rows:
        raise RunError("there is no such run", where=run_id, cure="`codex-space runs list` shows them.")
    return _run(rows[0])


def list_runs(  # noqa: PLR0913  # what narrows the list, by keyword
    db: Database,
    *,
    limit: int = 50,
    offset: int = 0,
    search: str = "",
    states: tuple[str, ...] = (),
    ids: tuple[str, ...] = (),
    place: str = "",
) -> list[Run]:
    """Return runs whose name, id or kind holds `search`, newest first; with `place` only those that train there."""
    where, params = _filter(search, states, ids, place)
    sql = f"SELECT {_COLUMNS} FROM runs {where} ORDER BY created_at DESC, sequence DESC LIMIT ? OFFSET ?"  # noqa: S608  # our own names; values are bound
    return [_run(row) for row in db.query(sql, [*params, limit, offset])]


def list_queue(db: Database, place: str = "local") -> list[Run]:
    """Return the runs queued to train there, in the order they are to start."""
    sql = f"SELECT {_COLUMNS} FROM runs WHERE state = 'queued' AND place = ? ORDER BY queued_at, sequence"  # noqa: S608  # our own column names
    return [_run(row) for row in db.query(sql, (place,))]


def list_succeeded(db: Database, *, holding: str) -> list[Run]:
    """Return the runs of this machine that have succeeded and whose recipe holds that text, the first to end first."""
    sql = (
        f"SELECT {_COLUMNS} FROM runs WHERE state = 'succeeded' AND place = 'local' AND instr(recipe, ?)"  # noqa: S608  # our own column names
        " ORDER BY ended_at, sequence"
    )
    return [_run(row) for row in db.query(sql, (holding,))]


def count_runs(db: Database, *, search: str = "", states: tuple[str, ...] = (), place: str = "") -> int:
    """Return how many runs `list_runs` would give without its limit."""
    where, params = _filter(search, states, (), place)
    return int(db.query(f"SELECT count(*) FROM runs {where}", params)[0][0])  # noqa: S608  # our own names


def change_state(db: Database, run_id: str, to: str, *, now: float, reason: str = "") -> Run:
    """Move a run to another state, with the times and marks that go with it.

    Raises:
        RunError: There is no such run, or `ALLOWED` has no such change.
    """
    with db.transaction() as cursor:
        run = read_run(db, run_id)
        if to not in ALLOWED[run.state]:
            raise RunError(f"a run that is {run.state} cannot become {to}", where=run_id)
        cursor.execute("UPDATE runs SET state = ?, reason = ? WHERE id = ?", (to, reason, run_id))
        if to == "queued":
            cursor.execute("UPDATE runs SET queued_at = ?, ended_at = NULL WHERE id = ?", (now, run_id))
        if to == "preflight":
            cursor.execute(
                "UPDATE runs SET started_at = ?, attempt = attempt + 1, verdict = '' WHERE id = ?", (now, run_id)
            )
        if to in FINAL:
            cursor.execute("UPDATE runs SET ended_at = ?, phase = '' WHERE id = ?", (now, run_id))
        if to in FINAL or to == "queued":
            cursor.execute("UPDATE runs SET intent = '', intent_at = NULL, intent_reason = '' WHERE id = ?", (run_id,))
        return read_run(db, run_id)


def update_progress(  # noqa: PLR0913  # the row's columns, by keyword
    db: Database,
    run_id: str,
    *,
    step: int | None = None,
    max_steps: int | None = None,
    phase: str | None = None,
    verdict: str | None = None,
    reason: str | None = None,
    events_offset: int | None = None,
    attempt: int | None = None,
) -> None:
    """Set what is given; None leaves a column as it is."""
    given = {
        "step": step,
        "max_steps": max_steps,
        "phase": phase,
        "verdict": verdict,
        "reason": reason,
        "events_offset": events_offset,
        "attempt": attempt,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if changes:
        assignments = ", ".join(f"{name} = ?" for name in changes)
        with db.transaction() as cursor:
            cursor.execute(f"UPDATE runs SET {assignments} WHERE id = ?", [*changes.values(), run_id])  # noqa: S608  # our own column names


def restore_run(db: Database, run_id: str, **columns: object) -> None:
    """Set columns of a row that is made again from what was written down of it; its states are not checked.

    Raises:
        RunError: There is no such column.
    """
    unknown = set(columns) - {field.name for field in fields(Run)} | set(columns) & {"id", "recipe"}
    if unknown:
        raise RunError(f"a run has no {', '.join(sorted(unknown))} to restore", where=run_id)
    assignments = ", ".join(f"{name} = ?" for name in columns)
    with db.transaction() as cursor:
        cursor.execute(f"UPDATE runs SET {assignments} WHERE id = ?", [*columns.values(), run_id])  # noqa: S608  # our own column names


def set_intent(db: Database, run_id: str, intent: str, now: float, reason: str = "") -> None:
    """Note what is about to be done to a run, before it is done."""
    with db.transaction() as cursor:
        sql = "UPDATE runs SET intent = ?, intent_at = ?, intent_reason = ? WHERE id = ?"
        cursor.execute(sql, (intent, now, reason, run_id))


def rename_run(db: Database, run_id: str, name: str) -> None:
    """Give a run another name."""
    with db.transaction() as cursor:
        cursor.execute("UPDATE runs SET name = ? WHERE id = ?", (name, run_id))


def delete_run(db: Database, run_id: str) -> None:
    """Remove a run and everything that hangs on it: points, checkpoints, wishes; what it has cost stays spent."""
    costs.settle_jobs(db, run_id)
    with db.transaction() as cursor:
        cursor.execute("DELETE FROM runs WHERE id = ?", (run_id,))


def add_wish(db: Database, run_id: str, verb: Verb, now: float, reason: str = "") -> None:
    """Leave a wish for the owner; a reason is told to people when the run has ended.

    Raises:
        RunError: There is no such run, or no such verb.
    """
    if verb not in get_args(Verb):
        raise RunError(f"there is no wish {verb!r}", where=run_id, cure=f"Known: {', '.join(get_args(Verb))}.")
    with db.transaction() as cursor:
        read_run(db, run_id)
        sql = "INSERT INTO wishes (run_id, verb, asked_at, reason) VALUES (?, ?, ?, ?)"
        cursor.execute(sql, (run_id, verb, now, reason))


def is_wished(db: Database, run_id: str) -> bool:
    """Say whether something is wished of a run that the owner has not done yet."""
    return bool(db.query("SELECT 1 FROM wishes WHERE run_id = ? LIMIT 1", (run_id,)))


def take_wishes(db: Database) -> list[Wish]:
    """Remove and return all wishes, oldest first; call it inside the transaction that grants them."""
    with db.transaction() as cursor:
        rows = cursor.execute("SELECT run_id, verb, reason FROM wishes ORDER BY sequence").fetchall()
        if rows:
            cursor.execute("DELETE FROM wishes")
    return [Wish(row["run_id"], row["verb"], row["reason"]) for row in rows]


def _filter(search: str, states: tuple[str, ...], ids: tuple[str, ...], place: str) -> tuple[str, list[Value]]:
    parts: list[str] = []
    params: list[Value] = []
    if search:
        escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        parts.append("(name LIKE ? ESCAPE '\\' OR id LIKE ? ESCAPE '\\' OR kind LIKE ? ESCAPE '\\')")
        params += [f"%{escaped}%"] * 3
    for column, wanted in (("state", states), ("id", ids), ("place", (place,) if place else ())):
        if wanted:
            parts.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            params += wanted
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), params


def _run(row: sqlite3.Row) -> Run:
    return Run(**dict(row))
