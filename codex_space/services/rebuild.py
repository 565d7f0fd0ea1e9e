"""Make the database again from the job folders, where it is missing or damaged; a damaged file is set aside, never deleted.

Equal to what was: runs with their states, times, names and reasons (from run.json), curves and checkpoints (from the
events), uploads (what is here is compared with the Hub by the uploader, the rest is asked of the Hub's manifests). Not
equal: verdicts and scores of evaluations, which the grader works out again from the answers in the folders, with the
curves of pass@1; the keys that make a double click one run; wishes not yet granted; the log of who did what; the
links to Jobs on other machines, whose runs are marked lost. A backup (services/backup.py) has all of it.
"""

import logging
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from codex_space.core import durable
from codex_space.core.errors import CodexError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import parse_recipe
from codex_space.hub.client import Hub
from codex_space.jobs.replay import count_attempts, replay
from codex_space.services.from_hub import checkpoints_on_hub
from codex_space.store import runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, ALLOWED, Run

NEVER_RAN = "Its folder was found without a record of a start. Resume it to train it."
NO_JOB = "It trained as a Job, and the link to that went with the database."
_RUN_ID = re.compile(r"(\d{8}-\d{6})-([a-z]+)-[a-z0-9]{4}")

_log = logging.getLogger(__name__)


def needs_rebuild(workspace: Workspace) -> bool:
    """Say whether there are runs and no database."""
    return not workspace.database.exists() and any(workspace.runs.glob("*/recipe.yaml"))


def set_aside(workspace: Workspace, now: float) -> Path | None:
    """Rename the database with what belongs to it, and return its new name; None where there is none."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    target = None
    for ending in ("-wal", "-shm", ""):
        path = workspace.database.with_name(workspace.database.name + ending)
        if path.exists():
            target = path.with_name(f"{workspace.database.name}.damaged-{stamp}{ending}")
            path.replace(target)
    return target


def rebuild(db: Database, workspace: Workspace, hub_factory: Callable[[], Hub], now: float) -> list[str]:
    """Give each run folder without a row its row; return their ids."""
    made = []
    for root in sorted(workspace.runs.iterdir()):
        if root.is_symlink() or not _RUN_ID.fullmatch(root.name) or runs.list_runs(db, ids=(root.name,)):
            continue
        if not JobDir(root).recipe.exists():  # a checkpoint that was brought here for a run that builds on it
            continue
        try:
            _restore(db, JobDir(root), hub_factory, now)
        except (CodexError, OSError, ValueError, OverflowError, sqlite3.Error) as error:  # a worker may write there
            _log.warning("%s cannot be brought back: %s", root.name, error)
        else:
            made.append(root.name)
    return made


def _restore(db: Database, job: JobDir, hub_factory: Callable[[], Hub], now: float) -> None:
    run_id, text = job.root.name, job.recipe.read_text(encoding="utf-8")
    recipe = parse_recipe(text)
    section = getattr(recipe, "hub", None)
    repo_id = section.repo_id if section else None
    on_hub: dict[int, str] = {}
    if repo_id:
        try:
            on_hub = checkpoints_on_hub(hub_factory(), repo_id, run_id)
        except CodexError as error:
            _log.warning("what of %s is on the Hub is not known: %s", run_id, error)
    record = durable.read_json(job.record) or {}
    kind = str(getattr(recipe, "kind", ""))
    created_at = datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    with db.transaction():
        runs.insert_run(
            db, id=run_id, name=recipe.name or kind, kind=kind, recipe=text, repo_id=repo_id, now=created_at,
            place=recipe.launch.where,
        )  # fmt: skip
        replayed = replay(db, job, runs.read_run(db, run_id), now=now, on_hub=on_hub)
        runs.restore_run(db, run_id, **_facts(record, replayed, job))


def _facts(record: dict[str, object], run: Run, job: JobDir) -> dict[str, object]:
    """Return the columns that events do not tell; a state that needs a process is left to the supervisor to judge."""
    state = record.get("state")
    if not isinstance(state, str) or state not in ALLOWED:
        if not count_attempts(job):
            return {"state": "stopped", "reason": NEVER_RAN}
        state = "running"
    told: dict[str, object] = {"state": state}
    for name in ("name", "reason", "intent", "intent_reason", "place", "verdict", "phase"):
        if isinstance(record.get(name), str):
            told[name] = record[name]
    for name in ("created_at", "queued_at", "started_at", "ended_at", "intent_at"):
        value = record.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            told[name] = float(value)
    attempt = record.get("attempt")
    if isinstance(attempt, int) and attempt > run.attempt:
        told["attempt"] = attempt
    if told.get("place", run.place) != "local" and (state == "queued" or state in ACTIVE):
        told |= {"state": "lost", "reason": NO_JOB}
    return told
