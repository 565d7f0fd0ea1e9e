"""Run candidate programs against tests in confined processes, several at a time, and hand out verdicts as they come.

Each worker is two zygotes (`zygote`), exec'd with an empty environment in sessions of their own: one forks judges, one
forks solvers. A job's tests go to the judge and its program to the solver, each through a pipe of its own, so neither
zygote ever holds either. The verdict comes from the judge over a pipe only it holds.

Covered: the calling process, which may hold tokens, threads and a GPU, is never forked; network, files, environment and
other processes are out of a candidate's reach (`lockdown`); it is killed by a wall clock outside it; a candidate leaves
no process and, having no writable path, no file behind; the escape battery runs in the sandbox itself before its first
job, and an escape, or a machine where it cannot be built, is a `GradeError`. Linux on x86-64 only.
Not covered: bugs of the kernel, use of the CPU by design up to the limits, memory up to `memory_bytes` a process.
"""

import contextlib
import json
import os
import platform
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from codex_space.core.errors import GradeError

Level = Literal["auto", "landlock", "no-landlock"]
Status = Literal["pass", "fail", "timeout"]

ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": "/nonexistent"}
"""All a zygote gets. The hash seed is fixed: what a set prints first decides some verdicts."""
MAX_VERDICT_BYTES = 256 << 20
_START_S, _GRACE_S = 60.0, 10.0
_PATIENCE = 4
_CURE = "Evaluation of generated code stays off; everything else works."
_proven: set[str] = set()


@dataclass(frozen=True)
class Limits:
    """How long a program may take.

    Attributes:
        call_cpu_s: CPU seconds for one answer.
        total_cpu_s: CPU seconds for all of a suite.
        load_cpu_s: CPU seconds until the program has loaded.
        wall_factor: Wall-clock seconds for each CPU second allowed, for what sleeps.
        memory_bytes: Address space of each of the two processes.
    """

    call_cpu_s: float = 3.0
    total_cpu_s: float = 30.0
    load_cpu_s: float = 5.0
    wall_factor: float = 3.0
    memory_bytes: int = 4 << 30

    @property
    def wall_s(self) -> float:
        """When the suite ends, whatever its processes do."""
        return 2.0 + self.wall_factor * self.total_cpu_s


@dataclass(frozen=True)
class Suite:
    """One set of tests.

    Attributes:
        name: What its verdict is filed under.
        judge: What only the judge sees: `kind` and the fields `judge` reads for it.
        names: Functions (and classes) of the program the tests use.
        limits: Of time and memory.
        live: The tests hold objects of the program's own classes, by number.
    """

    name: str
    judge: dict[str, Any]
    names: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    live: bool = False


@dataclass(frozen=True)
class Job:
    """A candidate and its suites; they run in order and the first that fails is the last.

    `programs` are readings of one answer (after the prompt, or by itself); the first that compiles counts.
    """

    job_id: str
    programs: tuple[str, ...]
    suites: tuple[Suite, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one suite.

    Attributes:
        status: pass, fail or timeout.
        why: For a person; empty when it passed.
        passed: Calls answered (rightly, where outputs are compared).
        cpu_s: CPU seconds of the program's process.
        wall_s: Seconds it all took.
        max_rss_kib: Largest resident memory of the program's process.
        final: It ran out of time so early that another try is of no use.
        retried: It ran into a limit once before, among others.
        found: What the suite kind `record` brings back.
    """

    status: Status
    why: str = ""
    passed: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    max_rss_kib: int = 0
    final: bool = False
    retried: bool = False
    found: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Verdict:
    """Outcomes by suite name; a suite after one that failed has none."""

    job_id: str
    outcomes: dict[str, Outcome]

    def passed(self, suite: str) -> bool:
        """Say whether the suite was reached and passed."""
        return suite in self.outcomes and self.outcomes[suite].status == "pass"


class Sandbox:
    """Workers that are started on entering and are gone on leaving; safe to use from several threads."""

    def __init__(self, workers: int | None = None, level: Level = "auto", *, prove: bool = True) -> None:
        """Set up; nothing is started before `with`.

        Args:
            workers: Programs run at a time; default: one for each core this process may use.
            level: "auto" takes Landlock where the kernel has it and the stricter fallback without paths elsewhere.
            prove: Run the escape battery first, once in this process for each level.
        """
        self.workers = workers or len(os.sched_getaffinity(0))
        self.level = level
        self.landlock_abi = 0
        self._prove = prove
        self._pairs: list[_Pair] = []
        self._free: queue.SimpleQueue[_Pair] = queue.SimpleQueue()

    def __enter__(self) -> "Sandbox":
        """Start the workers and prove that they hold.

        Raises:
            GradeError: This machine cannot build the sandbox, or something escaped from it.
        """
        if sys.platform != "linux" or platform.machine() != "x86_64":
            where = f"{sys.platform} {platform.machine()}"
            raise GradeError("the sandbox needs Linux on x86-64", where=where, cure=_CURE)
        try:
            self._start()
            if self._prove and self.level not in _proven:
                from codex_space.grade import battery  # noqa: PLC0415  # it imports this module

                battery.prove(self)
                _proven.add(self.level)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        self.close()

    def close(self) -> None:
        """End every process of the sandbox; running jobs fail."""
        for pair in self._pairs:
            pair.close()
        self._pairs.clear()

    def run(self, job: Job) -> Verdict:
        """Run one job on the next free worker."""
        pair = self._free.get()
        try:
            return Verdict(job.job_id, _run_suites(pair, job))
        finally:
            self._free.put(pair)

    def grade(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """Yield verdicts in the order they are ready; `jobs` may still be growing.

        A job that ran into a limit comes last: it is run again by itself, once, and that verdict counts. Only one that
        was not even half done when the time for all of it was over is not.
        """
        source, guard = iter(jobs), threading.Lock()
        ended, results = threading.Event(), queue.SimpleQueue[Verdict | BaseException | None]()
        slow: list[Job] = []

        def work() -> None:
            try:
                while not ended.is_set():
                    with guard:
                        job = next(source, None)
                    if job is None:
                        break
                    verdict = self.run(job)
                    if _timed_out(verdict):
                        slow.append(job)
                    else:
                        results.put(verdict)
            except BaseException as error:  # noqa: BLE001  # the consumer's to see
                ended.set()
                results.put(error)
            results.put(None)

        threads = [threading.Thread(target=work, name="grade", daemon=True) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                yield from _until_none(results)
            for job in slow:
                yield _marked(self.run(_patient(job)))
        finally:
            ended.set()

    def _start(self) -> None:
        level = self.level
        if level == "auto":
            from codex_space.grade import lockdown  # noqa: PLC0415  # Linux only

            level = "landlock" if lockdown.landlock_abi() else "no-landlock"
        self.level = level
        for _ in range(self.workers):
            self._pairs.append(_Pair(level))
        for pair in self._pairs:
            self.landlock_abi = pair.wait_started()
            self._free.put(pair)


def _until_none(results: "queue.SimpleQueue[Verdict | BaseException | None]") -> Iterator[Verdict]:
    while (result := results.get()) is not None:
        if isinstance(result, BaseException):
            raise result
        yield result


def _timed_out(verdict: Verdict) -> bool:
    return any(outcome.status == "timeout" and not outcome.final for outcome in verdict.outcomes.values())


def _patient(job: Job) -> Job:
    """Give the clock more room, for a machine on which others are busy too; the CPU time allowed stays."""
    suites = (replace(s, limits=replace(s.limits, wall_factor=_PATIENCE * s.limits.wall_factor)) for s in job.suites)
    return replace(job, suites=tuple(suites))


def _marked(verdict: Verdict) -> Verdict:
    outcomes = {name: replace(outcome, retried=True) for name, outcome in verdict.outcomes.items()}
    return Verdict(verdict.job_id, outcomes)


def _run_suites(pair: "_Pair", job: Job) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for suite in job.suites:
        outcomes[suite.name] = pair.run(job.programs, suite)
        if outcomes[suite.name].status != "pass":
            break
    return outcomes


class _StalledError(Exception):
    """A zygote did not answer."""


class _Pair:
    """One worker: a zygote for judges and one for solvers."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._judge, self._solver = _Zygote("judge", level), _Zygote("solver", level)

    def wait_started(self) -> int:
        self._solver.wait_started()
        return self._judge.wait_started()

    def close(self) -> None:
        self._judge.close()
        self._solver.close()

    def run(self, programs: tuple[str, ...], suite: Suite) -> Outcome:
        began = time.monotonic()
        try:
            told, used = self._run(programs, suite, began + suite.limits.wall_s)
        except (_StalledError, OSError):
            self.close()
            self._judge, self._solver = _Zygote("judge", self._level), _Zygote("solver", self._level)
            self.wait_started()
            return Outcome("timeout", "the sandbox stalled and was started again", wall_s=time.monotonic() - began)
        if used["exit"] < 0 and told["status"] == "fail" and "process ended" in told["why"]:
            told["why"] = f"the program's process was killed by {signal.Signals(-int(used['exit'])).name}"
        return Outcome(
            status=told["status"],
            why=told["why"],
            passed=told["passed"],
            final=told.get("final", False),
            cpu_s=round(used["cpu_s"], 4),
            wall_s=round(time.monotonic() - began, 4),
            max_rss_kib=int(used["max_rss_kib"]),
            found={key: told[key] for key in ("outputs", "times") if key in told},
        )

    def _run(self, programs: tuple[str, ...], suite: Suite, deadline: float) -> tuple[dict[str, Any], dict[str, float]]:
        limits = suite.limits
        request = {
            "memory_bytes": limits.memory_bytes,
            "cpu_s": int(limits.total_cpu_s) + 3,
            "wall_s": limits.wall_s + 1,
        }
        secret = {**suite.judge, "names": suite.names, "limits": asdict(limits)}
        task = {"programs": programs, "names": suite.names, "live": suite.live}
        with contextlib.ExitStack() as held:
            (
                (solver_job, to_solver),
                (judge_job, to_judge),
                (calls_r, calls_w),
                (answers_r, answers_w),
                (told_r, told_w),
            ) = (_pipe(held) for _ in range(5))
            self._solver.request(request, (solver_job, calls_r, answers_w))
            self._judge.request(request, (judge_job, answers_r, calls_w, told_w))
            for end in (solver_job, calls_r, answers_w, judge_job, answers_r, calls_w, told_w):
                end.close()
            try:
                _feed(to_solver.release(), json.dumps(task).encode(), deadline)
                _feed(to_judge.release(), json.dumps(secret).encode(), deadline)
                content = _collect(told_r.number, deadline)
            finally:
                used = self._solver.stop()
                self._judge.stop()
        if content is None:
            return {"status": "timeout", "why": f"not done after {limits.wall_s:.3g} s", "passed": 0}, used
        try:
            return json.loads(content), used
        except ValueError:
            return {"status": "fail", "why": "the judge ended without a verdict", "passed": 0}, used


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.release())

    def release(self) -> int:
        number, self.number = self.number, -1
        return number


def _pipe(held: contextlib.ExitStack) -> tuple[_End, _End]:
    reader, writer = (_End(number) for number in os.pipe())
    held.callback(reader.close)
    held.callback(writer.close)
    return reader, writer


def _feed(descriptor: int, content: bytes, deadline: float) -> None:
    """Write all and close; a reader that is gone is known by its verdict, one that does not read by the deadline."""
    os.set_blocking(descriptor, False)
    left = memoryview(content)
    with open(descriptor, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):  # no path
        while left:
            if not select.select([], [descriptor], [], max(0.0, deadline - time.monotonic()))[1]:
                return
            left = left[pipe.write(left) or 0 :]


def _collect(descriptor: int, deadline: float) -> bytes | None:
    """Read to the end; None past the deadline."""
    content = bytearray()
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        got = os.read(descriptor, 1 << 20)
        if not got or len(content) > MAX_VERDICT_BYTES:
            return bytes(content)
        content += got
    return None


class _Zygote:
    """The near end of one zygote."""

    def __init__(self, role: str, level: str) -> None:
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_START_S)
        command = [sys.executable, "-s", "-P", "-S", "-B", str(Path(__file__).with_name("zygote.py")), role, level]
        with far:
            # The zygote ends when this socket closes. PDEATHSIG would not do: it follows the thread, not the process.
            self._process = subprocess.Popen(
                command,
                stdin=far.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )

    def wait_started(self) -> int:
        hello = self._receive()
        if "refused" in hello:
            raise GradeError("the sandbox cannot be built", where=str(hello["refused"]), cure=_CURE)
        self._socket.settimeout(_GRACE_S)
        return hello["landlock_abi"]

    def request(self, request: dict[str, Any], ends: tuple[_End, ...]) -> None:
        socket.send_fds(self._socket, [json.dumps(request).encode()], [end.number for end in ends])

    def stop(self) -> dict[str, float]:
        """Have the child killed if it still runs; return its exit status and use."""
        self._socket.send(b"stop")
        return self._receive()

    def close(self) -> None:
        self._socket.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _receive(self) -> dict[str, Any]:
        try:
            content = self._socket.recv(1 << 16)
        except TimeoutError as error:
            raise _StalledError from error
        if not content:
            raise _StalledError
        return json.loads(content)
