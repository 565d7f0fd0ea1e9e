"""Keep the notes in the Hub of this workspace's unfinished runs, so that an empty machine finds them.

A note is written when a run is queued, changes its state or has another checkpoint on the Hub, and as a heartbeat while
it trains; one commit for all runs of an account. A dead Hub delays notes, never training. A run that another machine has
taken up meanwhile is ended here: no two train the same run for longer than a heartbeat.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import parse_recipe
from codex_space.core.settings import Settings
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.hub.client import Hub
from codex_space.hub.registry import Entry, Holder, Registry, Snapshot, pack_events
from codex_space.store import runs
from codex_space.store.checkpoints import list_checkpoints
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, FINAL, Run

IN_HAND = frozenset({"queued", *ACTIVE})
"""States in which a machine holds a run; one that was lost is unfinished too, but let go of."""
GAPS_A_BEAT = 5
"""Another step on the Hub is told so many times a heartbeat at most: commits an hour are limited."""
REFUSED_WAIT_S = 600.0
FIRST_WAIT_S = 5.0

_naming = threading.Lock()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """What the Hub was last told of a run."""

    state: str
    step: int
    queued_at: float
    at: float


class Announcer:
    """Owns the notes; only the workspace's owner runs one."""

    def __init__(self, db: Database, workspace: Workspace, hub_factory: Callable[[], Hub], settings: Settings) -> None:
        """Touch nothing yet."""
        self._db, self._workspace, self._hub_factory, self._settings = db, workspace, hub_factory, settings
        self._told: dict[str, Told | None] = {}
        self._never: set[str] = set()  # runs of which there is nothing to note
        self._owners: dict[str, str] = {}  # run -> account, of those told of in this process
        self._registries: dict[str, Registry] = {}
        self._made: set[str] = set()
        self._not_before: dict[str, tuple[float, int]] = {}  # account -> (when to try again, tries)

    def step(self, now: float) -> bool:
        """Tell what is new, if anything; return whether there was something to tell."""
        due: dict[str, list[Run]] = {}
        for run in self._watched():
            if run.repo_id and run.id not in self._never and self._is_due(run, now):
                due.setdefault(run.repo_id.split("/")[0], []).append(run)
        for run_id in self._deleted():
            due.setdefault(self._owners[run_id], [])
        for owner, found in due.items():
            if now >= self._not_before.get(owner, (0.0, 0))[0]:
                self._try(owner, found, now)
        return bool(due)

    def is_settled(self) -> bool:
        """Say whether the Hub knows all there is to say of the runs it was told of, or cannot be told."""
        return not any(
            run.repo_id and self._has_news(run) and run.repo_id.split("/")[0] not in self._not_before
            for run in self._watched()
        )

    def _watched(self) -> list[Run]:
        unfinished = runs.list_runs(self._db, limit=1000, states=("lost", *IN_HAND))
        known = tuple(run_id for run_id, told in self._told.items() if told and not _is_over(told.state))
        ended = runs.list_runs(self._db, limit=100, states=("succeeded", "failed", "stopped"))
        late = runs.list_runs(self._db, limit=1000, ids=known) if known else []
        found = {run.id: run for run in (*unfinished, *ended, *late)}
        return [run for run in found.values() if run.place == "local"]  # a Job's own owner speaks for what it trains

    def _deleted(self) -> list[str]:
        """Return the runs told of that a person has deleted since: they are unfinished in the Hub, and nowhere else."""
        known = tuple(self._owners)
        there = {run.id for run in runs.list_runs(self._db, limit=10_000, ids=known)} if known else set()
        return [run_id for run_id in known if run_id not in there]

    def _is_due(self, run: Run, now: float) -> bool:
        told = self._told_of(run)
        if run.state not in IN_HAND and told is None:
            return False  # it ended before anything was told of it
        if told is None or (told.state, told.queued_at) != (run.state, run.queued_at):
            return not (told and _is_over(told.state) and _is_over(run.state))
        beat_s = self._settings.heartbeat_s
        if run.state in IN_HAND and now - told.at >= beat_s:
            return True
        gap_s = 0.0 if run.state == "lost" else beat_s / GAPS_A_BEAT
        return not _is_over(run.state) and now - told.at >= gap_s and self._step_on_hub(run) > told.step

    def _has_news(self, run: Run) -> bool:
        told = self._told_of(run)
        return told is not None and (told.state != run.state or self._step_on_hub(run) > told.step)

    def _told_of(self, run: Run) -> Told | None:
        if run.id not in self._told:
            found = durable.read_json(self._workspace.job(run.id).announced) or {}
            try:
                told = Told(str(found["state"]), int(found["step"]), float(found["queued_at"]), float(found["at"]))
            except (KeyError, TypeError, ValueError):
                told = None
            self._told[run.id] = told
        return self._told[run.id]

    def _try(self, owner: str, found: list[Run], now: float) -> None:
        try:
            self._tell(owner, found, now)
        except HubBusyError as error:
            tries = self._not_before.get(owner, (0.0, 0))[1] + 1
            wait_s = min(self._settings.heartbeat_s, FIRST_WAIT_S * 2.0 ** min(tries - 1, 20))
            self._not_before[owner] = (now + wait_s, tries)
            _log.info("the notes of %s wait %.0f s: %s", owner, wait_s, error)
        except (CodexError, OSError) as error:
            self._not_before[owner] = (now + REFUSED_WAIT_S, 0)
            self._made.discard(owner)
            _log.warning("an empty machine will not find these runs in the Hub: %s", error)
        else:
            self._not_before.pop(owner, None)

    def _tell(self, owner: str, found: list[Run], now: float) -> None:
        registry = self._registries.setdefault(owner, Registry(self._hub_factory(), owner))
        if owner not in self._made:
            registry.make()
            self._made.add(owner)
        seen = registry.read()
        holder = make_holder(self._settings, self._workspace, now)
        entries, ended, events = [], [], {}
        told: dict[str, Told] = {}
        for run in found:
            if self._is_taken(run, seen, holder, now):
                self._yield(run, seen.entries[run.id].holder, now)
                continue
            entry = make_entry(run, self._workspace.job(run.id), self._step_on_hub(run), holder)
            if entry is None:
                self._never.add(run.id)
                continue
            (ended if _is_over(run.state) else entries).append(entry)
            before = self._told_of(run)
            if entry.step > (before.step if before else 0) and (
                packed := pack_events(self._workspace.job(run.id).events)
            ):
                events[run.id] = packed
            told[run.id] = Told(run.state, entry.step, run.queued_at, now)
        deleted = [run_id for run_id in self._deleted() if self._owners[run_id] == owner]
        ended += [seen.entries[run_id] for run_id in deleted if run_id in seen.entries]
        if entries or ended:
            registry.write(seen, entries, ended, events)
        for run_id in deleted:
            del self._owners[run_id]
            self._told.pop(run_id, None)
        for run_id, words in told.items():
            self._note(run_id, words)
            self._owners[run_id] = owner

    def _is_taken(self, run: Run, seen: Snapshot, holder: Holder, now: float) -> bool:
        entry = seen.entries.get(run.id)
        if entry is None or entry.holder.workspace == holder.workspace:
            return False
        return entry.holder.is_live(now)

    def _yield(self, run: Run, other: Holder, now: float) -> None:
        """Let go of a run that trains elsewhere; only the supervisor may end what has been started."""
        _log.warning("%s goes on at %s and is ended here", run.id, other.name)
        if run.state == "queued":
            runs.change_state(self._db, run.id, "stopped", now=now, reason=f"It goes on at {other.name}.")
        elif run.state in ACTIVE and run.intent != "yield":
            runs.set_intent(self._db, run.id, "yield", now)
            if run.state != "stopping":
                runs.change_state(self._db, run.id, "stopping", now=now)
        self._note(run.id, Told("lost" if run.state == "lost" else "stopped", 0, run.queued_at, now))

    def _note(self, run_id: str, told: Told) -> None:
        self._told[run_id] = told
        job = self._workspace.job(run_id)
        if job.root.is_dir():
            durable.write_json(job.announced, vars(told))

    def _step_on_hub(self, run: Run) -> int:
        return max((row.step for row in list_checkpoints(self._db, run.id) if row.upload == "uploaded"), default=0)


def make_holder(settings: Settings, workspace: Workspace, now: float) -> Holder:
    """Return who this workspace is; its name is made at the first call and lies in the workspace."""
    with _naming:  # the announcer and the look for interrupted runs may both be first
        known = (durable.read_json(workspace.identity) or {}).get("workspace")
        if not isinstance(known, str) or not known:
            known = secrets.token_hex(8)
            durable.write_json(workspace.identity, {"workspace": known})
    is_space = settings.space_id is not None
    return Holder(settings.holder, known, is_space=is_space, at=now, beat_s=settings.heartbeat_s)


def make_entry(run: Run, job: JobDir, step: int, holder: Holder) -> Entry | None:
    """Return the note of a run, None where it is none that trains and pushes."""
    try:
        recipe = parse_recipe(run.recipe)
    except CodexError:
        return None
    if not isinstance(recipe, TrainingRecipe) or recipe.hub is None or recipe.launch.where != "local":
        return None  # a Job's own owner looks after what it trains
    facts = durable.read_json(job.launch) or {}
    threads = facts.get("num_threads")
    at_step, times = read_rises(job)
    in_hand = run.state in IN_HAND
    return Entry(
        run_id=run.id, name=run.name, kind=run.kind, repo_id=recipe.hub.repo_id, state=run.state, step=step,
        keep_rows=recipe.hub.keep_rows, recipe=share_recipe(run.recipe), queued_at=run.queued_at, attempt=run.attempt,
        num_threads=threads if isinstance(threads, int) else None, rises=(at_step, times),
        holder=Holder(holder.name, holder.workspace, holder.is_space, holder.at, holder.beat_s, not in_hand),
    )  # fmt: skip


def read_rises(job: JobDir) -> tuple[int, int]:
    """Return (step, times): how often the run went on by itself from that step."""
    found = durable.read_json(job.rises) or {}
    step, times = found.get("step"), found.get("times")
    return (step, times) if isinstance(step, int) and isinstance(times, int) else (0, 0)


def _is_over(state: str) -> bool:
    return state in FINAL and state != "lost"
