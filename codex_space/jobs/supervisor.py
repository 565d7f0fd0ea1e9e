"""Decides, one `step(now)` at a time, what happens to every run: start, watch, stop, conclude; no clock, no sleep.

All it needs after a crash is in the store and the job folders, so a new supervisor goes on where the last one ended:
a worker that still runs is adopted, one that has ended is concluded from its exit.json, or is lost.
"""

import contextlib
import logging
import os
import select
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import CodexError, RunError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import ExportRecipe, parse_recipe
from codex_space.core.settings import ENDPOINT_KEY, Secret
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.jobs import ending, gpu, references
from codex_space.jobs.graded import read_graded
from codex_space.jobs.ingest import read_new_events
from codex_space.jobs.launch import clear_traces, launch, launch_facts, marker, worker_command, worker_environ
from codex_space.jobs.leaving import is_leaving
from codex_space.jobs.parents import has_to_wait
from codex_space.jobs.process import ASK_KILL, ASK_TERM, Handle, adopt, kill_leftovers, read_identity
from codex_space.jobs.record import Recorder
from codex_space.jobs.spent import say_cost
from codex_space.store import checkpoints, runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, FINAL, Run, Wish

STOP_ASK_S = 60.0
"""A worker asked to stop has this long to save its checkpoint before it gets SIGTERM."""
STOP_TERM_S = 15.0
CANCEL_TERM_S = 5.0
"""After SIGTERM it has this long before all its processes are killed."""
SHIM_S = 10.0
"""After that its shim has this long to clean up before it is killed as well."""
START_GRACE_S = 30.0
"""An owner may die while it starts a worker: its shim has this long to say who it is."""
GPU_FREE_S, GPU_SLACK_BYTES = 30.0, 512 << 20
"""The driver takes a moment to give back a dead process's memory; after that long the next run starts anyway."""

_log = logging.getLogger(__name__)


class Supervisor:
    """The only one that changes the state of a run that has been started."""

    def __init__(
        self,
        db: Database,
        workspace: Workspace,
        *,
        environ: Mapping[str, str],
        command_for: Callable[[JobDir], list[str]] = worker_command,
        num_cores: int | None = None,
        gpu_used_bytes: Callable[[], int] = gpu.used_bytes,
    ) -> None:
        """Hold nothing but handles on live processes; workers get the listed part of `environ`."""
        self._db, self._workspace, self._environ = db, workspace, environ
        self._command_for, self._num_cores = command_for, num_cores
        self._handles: dict[str, Handle] = {}
        self._unseen_since: dict[str, float] = {}
        self._sent: dict[str, set[str]] = {}
        self._keys: dict[str, Secret] = {}
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._wake_fd)  # not in close(): another thread may be about to wake it
        self._gpu_used_bytes = gpu_used_bytes
        self._gpu_before_bytes, self._gpu_waits_until = gpu_used_bytes(), 0.0
        self._is_ending = self._is_killing = False
        self._recorder = Recorder(db, workspace)
        self._release_asked()

    def hold_key(self, run_id: str, key: Secret) -> None:
        """Keep the key of the server that a run will ask, in memory only, until the run starts. From any thread."""
        self._keys[run_id] = key

    def drop_key(self, run_id: str) -> None:
        """Forget it."""
        self._keys.pop(run_id, None)

    def step(self, now: float) -> None:
        """Do whatever is due, and write down what came of it."""
        try:
            self._step(now)
        finally:
            self._recorder.step()

    def _step(self, now: float) -> None:
        self._grant_wishes(now)
        if self._is_ending:
            self._interrupt_all(now)
        active = runs.list_runs(self._db, limit=1000, states=tuple(ACTIVE), place="local")
        for run in active:
            self._watch(run, now)
        if self._is_ending:
            return
        idle = not runs.count_runs(self._db, states=tuple(ACTIVE), place="local")
        if idle and self._is_gpu_free(now) and not is_leaving(self._workspace.root):
            self._start_next(now)

    def wait(self, timeout_s: float) -> None:
        """Sleep until a worker has ended, `wake` was called, or the time is up: a step may have something to do then."""
        poll = select.poll()
        for fd in (self._wake_fd, *(handle.fileno() for handle in self._handles.values())):
            poll.register(fd, select.POLLIN)
        if self._wake_fd in dict(poll.poll(timeout_s * 1000)):
            os.eventfd_read(self._wake_fd)

    def interrupt(self, *, kill: bool = False) -> None:
        """Start nothing more, and end what trains: with a last checkpoint, or at once. From any thread."""
        self._is_ending, self._is_killing = True, self._is_killing or kill
        self.wake()

    def wake(self) -> None:
        """End the sleep of `wait`, from any thread."""
        os.eventfd_write(self._wake_fd, 1)

    def _is_gpu_free(self, now: float) -> bool:
        """See the memory of the run that ended given back before the next one wants it."""
        if now >= self._gpu_waits_until:
            return True
        return self._gpu_used_bytes() <= self._gpu_before_bytes + GPU_SLACK_BYTES

    def close(self) -> None:
        """Let go of the workers; they run on."""
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    def _grant_wishes(self, now: float) -> None:
        with self._db.transaction():
            for wish in runs.take_wishes(self._db):
                try:
                    self._grant(wish, now)
                except RunError as error:  # the run has moved on since it was wished
                    _log.info("%s of %s is no longer possible: %s", wish.verb, wish.run_id, error)

    def _grant(self, wish: Wish, now: float) -> None:
        run = runs.read_run(self._db, wish.run_id)
        match wish.verb:
            case "resume" if run.state in FINAL:
                runs.change_state(self._db, run.id, "queued", now=now)
            case "stop" | "cancel" if run.state == "queued":
                self.drop_key(run.id)
                runs.change_state(self._db, run.id, "stopped", now=now, reason=wish.reason or "Taken out of the queue.")
            case "stop" | "cancel" if run.state in ACTIVE and run.intent not in {wish.verb, "cancel"}:
                # before it trains there is nothing to save, and nobody polls for the stop file
                verb = "cancel" if run.state == "preflight" else wish.verb
                runs.set_intent(self._db, run.id, verb, now, wish.reason)
                if run.state != "stopping":
                    runs.change_state(self._db, run.id, "stopping", now=now)
            case "save" if run.state == "running":  # of a Job, the watch over Jobs passes it on
                _touch(self._workspace.job(run.id).save_request)

    def _interrupt_all(self, now: float) -> None:
        for run in runs.list_runs(self._db, limit=1000, states=tuple(ACTIVE), place="local"):
            if not run.intent:
                with self._db.transaction():
                    runs.set_intent(self._db, run.id, "interrupt", now)
                    if run.state != "stopping":
                        runs.change_state(self._db, run.id, "stopping", now=now)

    def _watch(self, run: Run, now: float) -> None:
        """Look at the process first: once it has ended, all it wrote is there to be read."""
        job = self._workspace.job(run.id)
        handle = self._find(run, job)
        is_over = handle is None and not self._may_still_start(run, job, now)
        run = read_new_events(self._db, job, run, now=now, to_end=is_over)
        if is_over:
            self._conclude(run, job, now)
        elif handle and run.intent:
            self._press(run, job, handle, now)

    def _find(self, run: Run, job: JobDir) -> Handle | None:
        """Return the handle on the run's live shim, adopting it where another owner started it."""
        handle = self._handles.get(run.id)
        if handle is None:
            identity = read_identity(job.worker)
            handle = adopt(identity) if identity else None
            if handle is None:
                return None
            self._handles[run.id] = handle
        if handle.is_alive():
            return handle
        handle.close()
        del self._handles[run.id]
        return None

    def _may_still_start(self, run: Run, job: JobDir, now: float) -> bool:
        if read_identity(job.worker) or job.exit.is_file():
            return False
        return now - self._unseen_since.setdefault(run.id, now) < START_GRACE_S

    def _press(self, run: Run, job: JobDir, handle: Handle, now: float) -> None:
        """Go on ending it, a step harder each time; the intent was stored before the first of these."""
        waited_s = now - (run.intent_at or now)
        if self._is_killing:
            self._send_once(run, handle, "kill", ASK_KILL)
        saves = run.intent in {"stop", "interrupt"}
        term_at_s, kill_after_s = (STOP_ASK_S, STOP_TERM_S) if saves else (0.0, CANCEL_TERM_S)
        if saves:  # a cancelled run is not to save
            _touch(job.stop_request)
        if waited_s >= term_at_s:
            self._send_once(run, handle, "term", ASK_TERM)
        if waited_s >= term_at_s + kill_after_s:
            self._send_once(run, handle, "kill", ASK_KILL)
        if waited_s >= term_at_s + kill_after_s + SHIM_S:
            kill_leftovers(handle.identity, marker(job))

    def _send_once(self, run: Run, handle: Handle, name: str, number: int) -> None:
        sent = self._sent.setdefault(run.id, set())
        if name not in sent:
            sent.add(name)
            handle.send(number)

    def _conclude(self, run: Run, job: JobDir, now: float) -> None:
        identity = read_identity(job.worker)
        if identity:
            kill_leftovers(identity, marker(job))  # what a shim that was killed itself could not clean up
        state, reason = ending.judge(run, durable.read_json(job.exit), job.checkpoint_steps())
        with self._db.transaction():
            if run.state == "preflight" and state == "succeeded":
                runs.change_state(self._db, run.id, "running", now=now)
            runs.change_state(self._db, run.id, state, now=now, reason=reason)
            checkpoints.set_on_disk(self._db, run.id, job.checkpoint_steps())
        self._unseen_since.pop(run.id, None)
        self._sent.pop(run.id, None)
        self._gpu_waits_until = now + GPU_FREE_S
        self._release_asked()
        _log.info("run %s %s %s", run.id, state, reason)

    def _release_asked(self) -> None:
        unfinished = runs.list_runs(self._db, limit=10_000, states=("queued", *ACTIVE))
        references.release_asked(self._workspace, [run.recipe for run in unfinished])

    def _start_next(self, now: float) -> None:
        """Start the oldest run that can start; fail those that never can."""
        for run in runs.list_queue(self._db):
            try:
                job = self._workspace.job(run.id)
                recipe = parse_recipe(run.recipe)
                if has_to_wait(self._db, self._workspace, run, recipe):
                    continue
                facts = launch_facts(recipe, self._workspace, job, attempt=run.attempt + 1, num_cores=self._num_cores)
                facts["graded"] = self._graded(recipe)
                facts["cost"] = self._cost(recipe)
            except CodexError as error:
                runs.change_state(self._db, run.id, "failed", now=now, reason=str(error))
                continue
            self._start(run, job, facts, now)
            return

    def _graded(self, recipe: BaseRecipe) -> list[dict[str, Any]]:
        """Return what an export's card tells of the exported run's scores: the worker cannot ask the database."""
        named = references.run_references(recipe) if isinstance(recipe, ExportRecipe) else []
        return [asdict(each) for run_id, step in named for each in read_graded(self._db, run_id, step or 0)]

    def _cost(self, recipe: BaseRecipe) -> str:
        """Return what an export's card tells of the exported run's cost."""
        named = references.run_references(recipe) if isinstance(recipe, ExportRecipe) else []
        return next((say_cost(self._db, run_id) for run_id, _ in named), "")

    def _start(self, run: Run, job: JobDir, facts: dict[str, Any], now: float) -> None:
        asked = {key: facts[key] for key in ("num_threads", "offline", "deterministic")}
        environ = worker_environ(self._environ, **asked)
        if key := self._keys.pop(run.id, None):
            environ[ENDPOINT_KEY] = key.reveal()
        clear_traces(job)
        self._gpu_before_bytes, self._gpu_waits_until = self._gpu_used_bytes(), 0.0
        runs.change_state(self._db, run.id, "preflight", now=now)
        try:
            # on a Space a person who may start runs is not one who may reach the platform's own network
            durable.write_json(job.launch, {**facts, "public_only": bool(self._environ.get("SPACE_ID"))})
            handle = launch(job, self._command_for(job), environ)
        except (CodexError, OSError) as error:
            runs.change_state(self._db, run.id, "failed", now=now, reason=f"It could not be started: {error}")
            return
        if handle:
            self._handles[run.id] = handle


def _touch(path: Path) -> None:
    """Ask by a file; a full disk must not keep the signals from following."""
    with contextlib.suppress(OSError):
        path.touch()
