"""Runs that lost their machine: found here and in the Hub, why one cannot go on, and going on with it.

By itself (CODEX_SPACE_RESUME=auto) a run goes on only where it was: what this workspace lost, or what the Hub notes of a
machine of this very name. A run of another machine is offered, once that one has been silent for long, and taken up by a
person alone. A run that was taken up by itself three times without getting further is left alone: it may be what
ends the machine.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubNotFoundError, RunError
from codex_space.core.recipe import parse_recipe
from codex_space.hub.records import Account
from codex_space.hub.registry import Entry, Registry, Snapshot
from codex_space.jobs.announce import make_holder, read_rises
from codex_space.services import checks, from_hub, runs
from codex_space.services.context import Context
from codex_space.store import runs as run_rows
from codex_space.store.runs import ACTIVE, Run

RECENT_S = 7 * 86_400.0
MAX_RISES = 3
MAX_SHOWN = 50
LOOK_AGAIN_S = 60.0
LOCAL_EVERY_S, LOCAL_FOR_S = 0.5, 45.0
"""Until then the supervisor has found out what became of each worker of an earlier owner."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interrupted:
    """A run that could go on.

    Attributes:
        step: Where it would go on from; 0 for the beginning.
        where: "here", or "hub" where this workspace knows nothing of it.
        blocked: Why it cannot go on, a clause; empty where it can.
        is_own: It may go on by itself.
    """

    run_id: str
    name: str
    kind: str
    step: int
    where: str
    told: str
    blocked: str = ""
    is_own: bool = True


class Interruptions:
    """What was found, with the Hub's part remembered, since asking takes seconds."""

    def __init__(self, ctx: Context) -> None:
        """Ask nothing yet."""
        self._ctx = ctx
        self._from_hub: dict[str, tuple[Interrupted, Entry]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_auto = ctx.settings.resume == "auto"
        self.hub_error = ""

    def found(self) -> list[Interrupted]:
        """Return what is known now, without asking the Hub: lost runs of this workspace first."""
        with self._lock:
            remote = [one for one, _ in self._from_hub.values()]
        known = (
            {run.id for run in run_rows.list_runs(self._ctx.db, limit=1000, ids=tuple(self._from_hub))}
            if remote
            else set()
        )
        here = [_describe_lost(self._ctx, run) for run in _lost(self._ctx)]
        return [*here, *(one for one in remote if one.run_id not in known)][:MAX_SHOWN]

    def look(self) -> None:
        """Ask the Hub which runs of its account nobody trains any more.

        Raises:
            HubError: No token, or no answer.
        """
        found: dict[str, tuple[Interrupted, Entry]] = {}
        if self._ctx.settings.resume != "off" and self._ctx.settings.hf_token is not None:
            account = self._ctx.hub().whoami()
            for entry in _unfinished(self._ctx, account):
                is_trusted = entry.repo_id.split("/")[0] in {account.name, self._ctx.settings.space_owner}
                found[entry.run_id] = (_describe_noted(self._ctx, entry, is_trusted=is_trusted), entry)
        with self._lock:
            self._from_hub = found

    def go_on(self, run_id: str, *, by_itself: bool = False) -> Run:
        """Queue a run again, bringing it back from the Hub first where it is not here.

        Raises:
            RunError: It cannot go on; the sentence says why.
            HubError: It cannot be fetched.
        """
        with self._lock:
            entry = self._from_hub[run_id][1] if run_id in self._from_hub else None
        if run_rows.list_runs(self._ctx.db, ids=(run_id,)):
            return self._go_on_here(run_id, by_itself=by_itself)
        if entry is None:
            raise RunError("this run is not among the interrupted ones", where=run_id, cure="Look again.")
        if blocked := _why_not(self._ctx, entry):
            raise RunError(blocked, where=run_id)
        rises = _next_rises(entry.rises, entry.step) if by_itself else (0, 0)
        note = from_hub.claim(self._ctx, entry.repo_id.split("/")[0], run_id, rises=rises)
        if note is None:
            raise RunError("it has ended meanwhile, or was taken up elsewhere", where=run_id)
        try:
            return from_hub.bring_back(self._ctx, note.repo_id, run_id, note)
        except BaseException:
            # to whom it was before: what this workspace notes as its own is offered here no more
            from_hub.let_go(self._ctx, replace(note, holder=entry.holder))
            raise

    def start(self) -> None:
        """Look from a thread of its own, and with CODEX_SPACE_RESUME=auto go on with what may go on by itself."""
        self._thread = threading.Thread(target=self._watch, name="interruptions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a download that takes longer is left behind and begun again at the next start."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _watch(self) -> None:
        was_active = {run.id for run in run_rows.list_runs(self._ctx.db, limit=1000, states=("lost", *ACTIVE))}
        steps: list[Callable[[], bool]] = [self._step_hub]
        if self.is_auto:
            began = self._ctx.clock()
            steps.insert(0, lambda: self._step_here(was_active) or self._ctx.clock() - began < LOCAL_FOR_S)
        due_at = dict.fromkeys(range(len(steps)), 0.0)
        while due_at and not self._closing.wait(LOCAL_EVERY_S):
            for number in list(due_at):
                now = self._ctx.clock()
                if now < due_at[number]:
                    continue
                if not steps[number]():
                    del due_at[number]
                elif steps[number] == self._step_hub:
                    due_at[number] = now + min(LOOK_AGAIN_S, self._ctx.settings.heartbeat_s)

    def _step_here(self, run_ids: set[str]) -> bool:
        """Go on with what this workspace has lost; return whether some are still to be judged by the supervisor."""
        for run in _lost(self._ctx):
            if run.id in run_ids and not _describe_lost(self._ctx, run).blocked:
                run_ids.discard(run.id)
                self._try(run.id)
        active = run_rows.list_runs(self._ctx.db, limit=1000, states=tuple(ACTIVE))
        return any(run.id in run_ids for run in active)

    def _step_hub(self) -> bool:
        """Look in the Hub; return whether to look again: what fell silent just now may be given up for lost later."""
        try:
            self.look()
            self.hub_error = ""
        except HubBusyError as error:
            self.hub_error = str(error)
            return True
        except CodexError as error:
            self.hub_error = str(error)
            _log.info("no unfinished runs are looked for in the Hub: %s", error)
            return False
        except Exception:  # noqa: BLE001  # the watch must not end the page's other threads
            _log.exception("the look for unfinished runs stumbled")
            return False
        for one in self.found():
            if self.is_auto and one.where == "hub" and one.is_own and not one.blocked:
                self._try(one.run_id)
        return True

    def _try(self, run_id: str) -> None:
        try:
            run = self.go_on(run_id, by_itself=True)
            _log.info("%s was interrupted and goes on", run.id)
        except (CodexError, OSError) as error:
            _log.warning("%s does not go on by itself: %s", run_id, error)

    def _go_on_here(self, run_id: str, *, by_itself: bool) -> Run:
        job, step = self._ctx.workspace.job(run_id), runs.resume_point(self._ctx, run_id)
        if by_itself:
            at, times = _next_rises(read_rises(job), step)
            durable.write_json(job.rises, {"step": at, "times": times})
        else:
            job.rises.unlink(missing_ok=True)
        return runs.resume(self._ctx, run_id)


def _lost(ctx: Context) -> list[Run]:
    since = ctx.clock() - RECENT_S
    return [run for run in run_rows.list_runs(ctx.db, limit=MAX_SHOWN, states=("lost",)) if (run.ended_at or 0) > since]


def _describe_lost(ctx: Context, run: Run) -> Interrupted:
    step = runs.resume_point(ctx, run.id)
    blocked = runs.resume_blocked(ctx, run.id)
    rises = read_rises(ctx.workspace.job(run.id))
    is_own = not _is_stuck(rises, step)
    return Interrupted(run.id, run.name, run.kind, step, "here", _told(run.reason, rises, step), blocked, is_own)


def _describe_noted(ctx: Context, entry: Entry, *, is_trusted: bool) -> Interrupted:
    me = make_holder(ctx.settings, ctx.workspace, ctx.clock())
    told = f"It was trained at {entry.holder.name}, which let go of it."
    if not entry.holder.is_released:
        told = f"It was trained at {entry.holder.name}, last heard of {_ago(ctx.clock() - entry.holder.at)} ago."
    # whoever may write in another of the account's organisations could leave a note under our name there
    is_own = is_trusted and entry.holder.name == me.name and not _is_stuck(entry.rises, entry.step)
    return Interrupted(
        entry.run_id, entry.name, entry.kind, entry.step, "hub", _told(told, entry.rises, entry.step),
        _why_not(ctx, entry), is_own,
    )  # fmt: skip


def _unfinished(ctx: Context, account: Account) -> list[Entry]:
    """Return what the accounts of this token note as unfinished, and what no other machine trains."""
    hub = ctx.hub()
    now = ctx.clock()
    me = make_holder(ctx.settings, ctx.workspace, now)
    space_owner = [ctx.settings.space_id.split("/")[0]] if ctx.settings.space_id else []
    found: list[Entry] = []
    for owner in dict.fromkeys([account.name, *space_owner, *account.orgs]):
        found += [
            entry
            for entry in _read(Registry(hub, owner)).entries.values()
            if not entry.holder.keeps_from(me, now) and entry.holder.workspace != me.workspace
        ]
    known = run_rows.list_runs(ctx.db, limit=1000, ids=tuple(entry.run_id for entry in found)) if found else []
    here = {run.id for run in known}
    return sorted((entry for entry in found if entry.run_id not in here), key=lambda entry: entry.queued_at)


def _read(registry: Registry) -> Snapshot:
    try:
        return registry.read()
    except HubNotFoundError:
        return Snapshot("")


def _why_not(ctx: Context, entry: Entry) -> str:
    """Return why a noted run cannot go on here; only what can be known without fetching it."""
    try:
        recipe = parse_recipe(entry.recipe)
        if entry.step == 0:
            from_hub.require_parents(ctx, recipe)
            checks.require_sources(ctx, recipe)
        elif not entry.keep_rows:
            return from_hub.NO_ROWS
    except CodexError as error:
        return error.what if entry.step else f"no checkpoint of it had reached the Hub, and {error.what}"
    return ""


def _next_rises(rises: tuple[int, int], step: int) -> tuple[int, int]:
    return (step, rises[1] + 1 if rises[0] == step else 1)


def _is_stuck(rises: tuple[int, int], step: int) -> bool:
    return rises[0] == step and rises[1] >= MAX_RISES


def _told(reason: str, rises: tuple[int, int], step: int) -> str:
    stuck = f" It went on by itself {rises[1]} times without getting further, and is left to you."
    return reason + (stuck if _is_stuck(rises, step) else "")


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
