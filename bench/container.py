"""A program started in the root and watched from outside: does it answer, which processes has it, how does it end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.root import Program, Root
from codex_space.core.settings import SPACE_GRACE_S

START_S = 120.0
LOOK_S = 0.05


class ImageCheckError(Exception):
    """One sentence: what is not as the platform needs it, with the end of the program's output."""


@dataclass(frozen=True)
class Process:
    """One process of the container; `inner` is its number in there."""

    pid: int
    inner: int
    uids: tuple[int, ...]
    command: str


@dataclass(frozen=True)
class Container:
    """A running program; `first` is its process 1 as this machine counts."""

    outer: subprocess.Popen[bytes]
    first: int
    port: int
    log: Path
    began: float

    def wait_for_health(self) -> float:
        """Wait until /health answers that all is well; returns seconds since the start.

        Raises:
            ImageCheckError: It ended, or did not answer in two minutes.
        """
        self.wait_for(self._is_healthy, "/health")
        return time.monotonic() - self.began

    def wait_for(self, is_there: Callable[[], bool], what: str) -> None:
        """Look again and again.

        Raises:
            ImageCheckError: It ended, or it is not there in two minutes.
        """
        deadline = time.monotonic() + START_S
        while not is_there():
            require(self.outer.poll() is None, f"it ended with code {self.outer.returncode}, waiting for {what}.")
            require(time.monotonic() < deadline, f"{what} did not come in {START_S:g} s.")
            time.sleep(LOOK_S)

    def processes(self) -> list[Process]:
        """Return all of them."""
        return list_processes(self.first)

    def end(self) -> float:
        """Send SIGTERM to process 1, as a platform does, and wait as long as it is thought to; returns the seconds.

        Raises:
            ImageCheckError: It goes on, fails, or leaves a process behind.
        """
        space = _namespace(self.first)
        asked = time.monotonic()
        os.kill(self.first, signal.SIGTERM)
        try:
            code = self.outer.wait(SPACE_GRACE_S)
        except subprocess.TimeoutExpired as error:
            raise ImageCheckError(f"SIGTERM did not end it in {SPACE_GRACE_S:g} s.") from error
        took_s = time.monotonic() - asked
        left = [pid for pid in _pids() if _namespace(pid) == space]
        require(not left, f"{len(left)} processes are left behind.")
        require(code == 0, f"it ended with code {code} after SIGTERM.")
        return took_s

    def require_quiet_log(self) -> int:
        """Return how many lines it wrote.

        Raises:
            ImageCheckError: There is a traceback among them.
        """
        told = self.log.read_text(errors="replace")
        require("Traceback" not in told, "its log has a traceback.")
        return len(told.splitlines())

    def _is_healthy(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return json.load(answer) == {"ok": True}
        return False


@contextlib.contextmanager
def started(root: Root, program: Program, port: int, log: Path) -> Iterator[Container]:
    """Yield the running program; whatever happens, nothing of it runs afterwards.

    Raises:
        ImageCheckError: The port is taken, it ended at once, or what was looked at is not as it must be.
    """
    require(_is_free(port), f"port {port} of this machine is in use: end what listens there.")
    with log.open("wb") as output:
        began = time.monotonic()
        outer = subprocess.Popen(root.command(program), stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/")
    first = 0
    try:
        first = _wait_for_child(outer)
        yield Container(outer, first, port, log, began)
    except ImageCheckError as error:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ImageCheckError(f"{error}\n{last}") from error
    finally:
        if first and outer.poll() is None:
            os.kill(first, signal.SIGKILL)  # with process 1 goes all of its namespace
        outer.kill()
        outer.wait()


def list_processes(first: int) -> list[Process]:
    """Return the processes of the namespace in which `first` lives."""
    space, found = _namespace(first), []
    for pid in _pids():
        if space is None or _namespace(pid) != space:
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            uids = tuple(map(int, status["Uid"].split()))
            found.append(Process(pid, int(status["NSpid"].split()[-1]), uids, command))
    return found


def require(fine: bool, sentence: str) -> None:
    """Go on where it is fine.

    Raises:
        ImageCheckError: It is not.
    """
    if not fine:
        raise ImageCheckError(sentence)


def _wait_for_child(outer: subprocess.Popen[bytes]) -> int:
    """Return process 1 of the container, as this machine counts."""
    listed = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while outer.poll() is None:
        if children := listed.read_text().split():
            return int(children[0])
        time.sleep(LOOK_S)
    raise ImageCheckError(f"it ended with code {outer.returncode} at once.")


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:  # it has ended, or nobody may look into it
        return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
