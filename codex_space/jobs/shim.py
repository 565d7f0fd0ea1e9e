"""Session leader of one worker: starts it, outlives it, writes down how it ended, and leaves no process behind.

Run as `python -I -S shim.py JOB_DIR COMMAND...`, standard library only. It detaches itself (so that no owner has to reap
it), runs the worker in a process group of its own, and writes two files:

    worker.json   {pid, start_ticks, boot_id} of this shim, before its starter is told to go on
    exit.json     {"code": N} or {"signal": N} of the worker, by rename

Covered: TERM, INT and HUP do not end it; SIGUSR1 passes TERM to the worker's group, SIGUSR2 kills all it started, with
no race for a reused pid since it is the parent of all of them; orphans come to it as subreaper, even those in other
sessions; the worker dies with it (PDEATHSIG). Not covered: its own SIGKILL orphans the worker's children, which the
supervisor then finds by their environment.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NICER = 5
PASSED_OVER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(job: str, command: list[str]) -> int:
    """Detach, run the command to its end, and clean up after it."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return 0 if os.read(reader, 1) else 1  # nothing to read: the shim died before it could say who it is
    os.setsid()
    _give_way()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in PASSED_OVER:
        signal.signal(number, signal.SIG_IGN)
    worker = _start(command)
    signal.signal(signal.SIGUSR1, lambda *_: _signal_group(worker, signal.SIGTERM))
    signal.signal(signal.SIGUSR2, lambda *_: _kill_descendants())
    try:
        _write(job, "worker.json", _identity(worker))
        os.write(writer, b"1")
        os.close(writer)
        code = os.waitstatus_to_exitcode(_wait(worker))
        _write(job, "exit.json", {"signal": -code} if code < 0 else {"code": code})
    finally:
        _kill_all_descendants()
    return 0


def _give_way() -> None:
    """Let the page answer first on shared cores; Linux may share them out by session before it looks at processes."""
    with contextlib.suppress(OSError):
        niceness = os.nice(NICER)
        with open("/proc/self/autogroup", "w") as file:  # noqa: PTH123  # pathlib takes long to import
            file.write(str(niceness))


def _start(command: list[str]) -> int:
    shim = os.getpid()
    worker = os.fork()
    if worker:
        return worker
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim:
            os._exit(1)
        for number in PASSED_OVER:
            signal.signal(number, signal.SIG_DFL)  # an ignored signal would stay ignored in the worker
        os.execvp(command[0], command)  # noqa: S606  # no shell is the point
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _wait(worker: int) -> int:
    """Reap until the worker itself has ended; orphans that ended meanwhile are reaped on the way."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            return status


def _kill_all_descendants() -> None:
    """Kill and reap until there is none left: killing a parent hands its children to this process."""
    while True:
        _kill_descendants()
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _kill_descendants() -> None:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # pathlib costs start-up time here
        if name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(name)] = int(_stat(int(name))[1])
    known = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= found
    for pid in known - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _identity(worker: int) -> dict[str, int | str]:
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123  # as above
        boot_id = file.read().strip()
    return {"pid": os.getpid(), "start_ticks": int(_stat(os.getpid())[19]), "boot_id": boot_id, "worker_pid": worker}


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on; the second may hold spaces and brackets."""
    with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123  # as above
        return file.read().rpartition(")")[2].split()


def _write(job: str, name: str, value: dict[str, int | str]) -> None:
    temporary = f"{job}/.{name}.tmp"
    with open(temporary, "w") as file:  # noqa: PTH123  # as above
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, f"{job}/{name}")  # noqa: PTH105  # as above


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
