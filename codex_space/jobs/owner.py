"""The one process that owns a workspace: holds its lock, and runs supervisor, uploader, announcer and the watch over Jobs in threads.

Covered: a second owner is refused; a worker of the same user cannot read this process's memory or environment (it is
undumpable); a crash in one step is logged and the next step comes. Closing leaves the workers running: the next owner
adopts them.
"""

import ctypes
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from codex_space.core.errors import WorkspaceError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.settings import Settings
from codex_space.jobs.grader import Grader
from codex_space.jobs.hf_jobs import HubJobs
from codex_space.jobs.launch import worker_command
from codex_space.jobs.process import read_identity
from codex_space.jobs.supervisor import Supervisor
from codex_space.store.checkpoints import newest_waiting, reset_uploading
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, Run, list_runs

SUPERVISE_EVERY_S = 0.5
UPLOAD_EVERY_S = 1.0
ANNOUNCE_EVERY_S = 1.0
GRADE_EVERY_S = 0.5
JOBS_EVERY_S = 0.5
WIND_DOWN_LOOK_S = 0.05
OTHERS_EVERY_S = 5.0
JOIN_S = 10.0
LOCK_TRIES, LOCK_WAIT_S = 10, 0.05
PR_SET_DUMPABLE = 4

Step = Callable[[float], object]

_log = logging.getLogger(__name__)


class Steps(Protocol):
    """Anything that does what is due now, such as the uploader."""

    def step(self, now: float) -> object:
        """Do what is due."""
        ...


class Owner:
    """Holds the workspace from `start` to `close`."""

    def __init__(  # noqa: PLR0913  # its parts, by keyword
        self,
        settings: Settings,
        workspace: Workspace,
        db: Database,
        *,
        clock: Callable[[], float],
        uploader: Steps | None = None,
        announcer: Steps | None = None,
        grader: Grader | None = None,
        hub_jobs: HubJobs | None = None,
        others: Mapping[str, Steps] | None = None,
        command_for: Callable[[JobDir], list[str]] = worker_command,
    ) -> None:
        """Take nothing yet."""
        self._workspace, self._db, self._clock = workspace, db, clock
        self._uploader, self._announcer = uploader, announcer
        self._grader, self._hub_jobs = grader, hub_jobs
        self._others = dict(others or {})
        self.supervisor = Supervisor(db, workspace, environ=settings.environ, command_for=command_for)
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock_fd: int | None = None

    def start(self) -> None:
        """Take the lock, look after what an earlier owner left, and begin.

        Raises:
            WorkspaceError: Another process owns the workspace.
        """
        self._lock_fd = _lock(self._workspace)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        reset_uploading(self._db)
        self._begin("supervisor", self.supervisor.step, SUPERVISE_EVERY_S, self.supervisor.wait)
        if self._uploader is not None:
            self._begin("uploader", self._uploader.step, UPLOAD_EVERY_S, self._closing.wait)
        if self._announcer is not None:
            self._begin("announcer", self._announcer.step, ANNOUNCE_EVERY_S, self._closing.wait)
        if self._grader is not None:
            self._begin("grader", self._grader.step, GRADE_EVERY_S, self._closing.wait)
        if self._hub_jobs is not None:
            self._begin("jobs", self._hub_jobs.step, JOBS_EVERY_S, self._closing.wait)
        for name, other in self._others.items():
            self._begin(name, other.step, OTHERS_EVERY_S, self._closing.wait)

    def wind_down(self, grace_s: float, hurry: threading.Event) -> None:
        """Let what trains save and end, then its newest checkpoint reach the Hub; be done within `grace_s` seconds.

        What has not saved by two thirds of that is killed, so that nothing is left half written when the machine goes.
        """
        deadline = time.monotonic() + grace_s
        self.supervisor.interrupt()
        self._wait(lambda: not self._active(), deadline - grace_s / 3, hurry)
        if self._active():
            self.supervisor.interrupt(kill=True)
            self._wait(lambda: not self._active(), deadline, hurry)
        self._wait(lambda: not newest_waiting(self._db) and self._is_told(), deadline, hurry)

    def _active(self) -> list[Run]:
        local = list_runs(self._db, limit=1000, states=tuple(ACTIVE), place="local")
        return [run for run in local if read_identity(self._workspace.job(run.id).worker) is not None]

    def _is_told(self) -> bool:
        is_settled = getattr(self._announcer, "is_settled", None)
        return is_settled is None or is_settled()

    def _wait(self, condition: Callable[[], bool], deadline: float, hurry: threading.Event) -> None:
        while time.monotonic() < deadline and not condition():
            if hurry.wait(WIND_DOWN_LOOK_S):
                return

    def close(self) -> None:
        """End the threads and let go of the lock; workers run on."""
        self._closing.set()
        self.supervisor.wake()
        for thread in self._threads:
            thread.join(JOIN_S)  # an upload that takes longer is left behind and queued again at the next start
        self._threads.clear()
        if self._grader is not None:
            self._grader.close()
        if self._hub_jobs is not None:
            self._hub_jobs.close()
        self.supervisor.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _begin(self, name: str, step: Step, every_s: float, wait: Step) -> None:
        thread = threading.Thread(target=self._repeat, args=(name, step, every_s, wait), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _repeat(self, name: str, step: Step, every_s: float, wait: Step) -> None:
        while not self._closing.is_set():
            try:
                step(self._clock())
                wait(every_s)
            except Exception:  # noqa: BLE001  # one bad step must not end the watch over all runs
                if not self._closing.is_set():
                    _log.exception("the %s stumbled and goes on", name)
                self._closing.wait(every_s)


def is_owned(workspace: Workspace) -> int | None:
    """Return the pid of the process that owns the workspace, None where there is none."""
    try:
        fd = os.open(workspace.lock, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read_pid(fd)
    finally:
        os.close(fd)


def _lock(workspace: Workspace) -> int:
    fd = os.open(workspace.lock, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(LOCK_TRIES):  # `is_owned` of another process holds it for a moment
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(LOCK_WAIT_S)
            continue
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd
    pid = _read_pid(fd)
    os.close(fd)
    raise WorkspaceError(
        f"another process (pid {pid}) owns this workspace",
        where=str(workspace.root),
        cure="Use its page, end it, or choose another folder with --workspace.",
    )


def _read_pid(fd: int) -> int:
    """Return what the owner wrote; 0 where it has not come to that yet."""
    text = os.pread(fd, 20, 0).strip()
    return int(text) if text.isdigit() else 0
