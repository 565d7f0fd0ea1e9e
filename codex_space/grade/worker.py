"""One worker of the sandbox as its owner sees it: a zygote that forks judges, a zygote that forks solvers, one job at a time.

Covered: a job's tests go to the judge and its program to the solver, each through a pipe of its own, so neither zygote
holds either; the verdict comes from the judge over a pipe only it has; whatever the two do, the job ends by the clock
and both are gone before the next begins, as they are when the program starts threads without end; a zygote that does not answer is killed with its children and started again.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_space.core.errors import GradeError
from codex_space.grade.jobs import Job, Outcome

ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": "/nonexistent"}
"""All a zygote gets. The hash seed is fixed: what a set prints first decides some verdicts."""
CURE = "Evaluation of generated code stays off; everything else works."
_BEGIN = (
    "import sys; sys.path.insert(0, sys.argv.pop()); from codex_space.grade import zygote; zygote.main(*sys.argv[1:])"
)
MAX_VERDICT_BYTES = 256 << 20
MAX_THREADS = 128
_START_S, _GRACE_S, _COUNT_EVERY_S = 60.0, 10.0, 0.05


class _StalledError(Exception):
    """A zygote did not answer."""


class _CrowdedError(Exception):
    """A program has more threads than `MAX_THREADS`."""


class Worker:
    """One worker: a zygote for judges and one for solvers."""

    def __init__(self, level: str) -> None:
        self._level, self._closed = level, False
        self._judge, self._solver = _Zygote("judge", level), _Zygote("solver", level)

    def wait_started(self) -> None:
        """Return once both zygotes are locked down.

        Raises:
            GradeError: One of them cannot be, here.
        """
        self._solver.wait_started()
        self._judge.wait_started()

    def close(self) -> None:
        """End both zygotes and what they run, for good."""
        self.hang_up()
        self._judge.close()
        self._solver.close()

    def hang_up(self) -> None:
        """Let both zygotes end, for good, and wait for neither."""
        self._closed = True
        self._judge.hang_up()
        self._solver.hang_up()

    def run(self, job: Job) -> dict[str, Outcome]:
        """Run suites up to the first that is not passed, all in one solver."""
        began = time.monotonic()
        try:
            lines, used = self._run(job, began + _wall_s(job))
        except (_StalledError, OSError):
            self._judge.close()
            self._solver.close()
            if self._closed:
                raise GradeError("the sandbox was closed while it ran a program") from None
            self._judge, self._solver = _Zygote("judge", self._level), _Zygote("solver", self._level)
            self.wait_started()
            why = "the sandbox stalled and was started again"
            return {job.suites[0].name: Outcome("timeout", why, wall_s=time.monotonic() - began)}
        outcomes: dict[str, Outcome] = {}
        for suite, told in zip(job.suites, lines, strict=False):
            if used["exit"] < 0 and told["status"] == "fail" and "process ended" in told["why"]:
                told["why"] = f"the program's process was killed by {signal.Signals(-int(used['exit'])).name}"
            outcomes[suite.name] = Outcome(
                status=told["status"],
                why=told["why"],
                passed=told["passed"],
                final=told.get("final", False),
                cpu_s=round(told["cpu_s"], 4),
                wall_s=round(told["wall_s"], 4),
                max_rss_kib=int(used["max_rss_kib"]),
                found={key: told[key] for key in ("outputs", "times") if key in told},
            )
        return outcomes

    def _run(self, job: Job, deadline: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Return what the judge told of each suite it came to, and the solver's use of the machine."""
        request = {
            "memory_bytes": max(suite.limits.memory_bytes for suite in job.suites),
            "cpu_s": int(sum(suite.limits.total_cpu_s for suite in job.suites)) + 3,
            "wall_s": _wall_s(job) + 1,
        }
        told = ({**s.judge, "names": s.names, "live": s.live, "limits": asdict(s.limits)} for s in job.suites)
        secret = "\n".join(map(json.dumps, told))
        crowded = False
        with contextlib.ExitStack() as held:
            (
                (solver_job, to_solver),
                (judge_job, to_judge),
                (calls_r, calls_w),
                (answers_r, answers_w),
                (told_r, told_w),
            ) = (_pipe(held) for _ in range(5))
            os.set_blocking(calls_w.number, False)  # the judge's end; it may not ask for this itself
            self._solver.request(request, (solver_job, calls_r, answers_w))
            self._judge.request(request, (judge_job, answers_r, calls_w, told_w))
            for end in (solver_job, calls_r, answers_w, judge_job, answers_r, calls_w, told_w):
                end.close()
            try:
                _feed(to_solver.release(), json.dumps(job.programs).encode(), deadline)
                _feed(to_judge.release(), secret.encode(), deadline)
                content, ended = _collect(told_r.number, deadline, self._solver.count_threads)
            except _CrowdedError:
                content, ended, crowded = b"", True, True
            finally:
                used = self._solver.stop()
                self._judge.stop()
        lines = [json.loads(line) for line in content.split(b"\n")[:-1]]  # a line without an end is none
        if len(lines) < len(job.suites) and all(told["status"] == "pass" for told in lines):
            why = "the judge ended without a verdict" if ended else f"not done after {_wall_s(job):.3g} s"
            why = f"it started more than {MAX_THREADS} threads" if crowded else why
            status, spent = ("fail" if ended else "timeout"), sum(told["cpu_s"] for told in lines)
            cpu_s, wall_s = used["cpu_s"] - spent, time.monotonic() - (deadline - _wall_s(job))
            lines.append({"status": status, "why": why, "passed": 0, "cpu_s": cpu_s, "wall_s": wall_s})
        return lines, used


def _wall_s(job: Job) -> float:
    return sum(suite.limits.wall_s for suite in job.suites)


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


def _collect(descriptor: int, deadline: float, count_threads: Callable[[], int]) -> tuple[bytes, bool]:
    """Read to the end or the deadline; say whether it was the end.

    Raises:
        _CrowdedError: The program's threads became too many meanwhile.
    """
    content = bytearray()
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], min(left_s, _COUNT_EVERY_S))[0]:
            if count_threads() > MAX_THREADS:
                raise _CrowdedError
            continue
        got = os.read(descriptor, 1 << 20)
        if not got or len(content) > MAX_VERDICT_BYTES:
            return bytes(content), True
        content += got
    return bytes(content), False


class _Zygote:
    """The near end of one zygote."""

    def __init__(self, role: str, level: str) -> None:
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_START_S)
        command = [sys.executable, "-s", "-P", "-S", "-c", _BEGIN, role, level, str(Path(__file__).parents[2])]
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

    def wait_started(self) -> None:
        hello = self._receive()
        if "refused" in hello:
            raise GradeError("the sandbox cannot be built", where=str(hello["refused"]), cure=CURE)
        self._socket.settimeout(_GRACE_S)

    def request(self, request: dict[str, Any], ends: tuple[_End, ...]) -> None:
        socket.send_fds(self._socket, [json.dumps(request).encode()], [end.number for end in ends])

    def stop(self) -> dict[str, float]:
        """Have the child killed if it still runs; return its exit status and use."""
        self._socket.send(b"stop")
        return self._receive()

    def count_threads(self) -> int:
        """Return how many threads the child has. The kernel sets no such limit for a process, only for a user, and none for root."""
        zygote = self._process.pid
        with contextlib.suppress(OSError, ValueError, IndexError):
            child = int(Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii"))
            return int(Path(f"/proc/{child}/stat").read_bytes().rpartition(b")")[2].split()[17])
        return 0  # it is gone

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer

    def close(self) -> None:
        self.hang_up()
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
