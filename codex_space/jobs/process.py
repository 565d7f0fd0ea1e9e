"""A process that may not be our child: known for sure by pid, start time and boot, watched and signalled by pidfd.

Covered: a pid that the kernel gave away again, another boot, zombies, processes that fled into another session.
"""

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

from codex_space.core import durable
from codex_space.jobs.shim import NICER

# The shim passes these on to its worker (see jobs/shim.py).
ASK_TERM, ASK_KILL = signal.SIGUSR1, signal.SIGUSR2
GONE_S = 2.0
"""A killed process has this long to leave; one that waits for a disk can take longer, and is not waited for."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Identity:
    """What tells a process from a later one with the same pid.

    Attributes:
        start_ticks: Field 22 of /proc/PID/stat: clock ticks from boot to its start.
    """

    pid: int
    start_ticks: int
    boot_id: str


def give_way(pid: int) -> None:
    """Let the page answer before this process computes, where they share cores; as the shim does for a run's worker.

    Linux may share the cores out by session before it looks at processes: the child leads one of its own.
    """
    with contextlib.suppress(OSError):
        niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICER)
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")


class Handle:
    """A live process held by its pidfd, so that no signal can reach another one."""

    def __init__(self, identity: Identity, fd: int) -> None:
        """Own the pidfd; `adopt` is the way in."""
        self.identity = identity
        self._fd = fd

    def fileno(self) -> int:
        """Return the pidfd, readable once the process has ended."""
        return self._fd

    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return not self.wait(0)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; return False where it still runs after that time."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def send(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Give back the pidfd; the process runs on."""
        os.close(self._fd)


def read_identity(path: Path) -> Identity | None:
    """Return what worker.json says, None where there is none that can be read."""
    found = durable.read_json(path) or {}
    pid, start_ticks, boot_id = found.get("pid"), found.get("start_ticks"), found.get("boot_id")
    if isinstance(pid, int) and pid > 0 and isinstance(start_ticks, int) and isinstance(boot_id, str):
        return Identity(pid, start_ticks, boot_id)
    return None


def identify(pid: int) -> Identity | None:
    """Return what tells a live process from a later one with its pid."""
    fields = _read_stat(pid)
    return Identity(pid, int(fields[19]), _BOOT_ID.read_text().strip()) if fields else None


def adopt(identity: Identity) -> Handle | None:
    """Return a handle on the very process that was noted, None where it has ended."""
    if not _is_same(identity):
        return None
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if not _is_same(identity):  # it may have ended, and its pid been given away, just before the pidfd was opened
        os.close(fd)
        return None
    return Handle(identity, fd)


def kill_leftovers(identity: Identity, marker: str) -> None:
    """Kill every process of that session, or with the marker in its environment, and see each of them gone."""
    seen: set[Identity] = set()
    while fresh := set(find_leftovers(identity, marker)) - seen:
        seen |= fresh
        held = [handle for each in fresh if (handle := adopt(each))]
        for handle in held:
            handle.send(signal.SIGKILL)
        for handle in held:
            handle.wait(GONE_S)
            handle.close()


def find_leftovers(identity: Identity, marker: str) -> list[Identity]:
    """Return the live processes of that session, and those that carry the marker, wherever they fled to."""
    if not _is_this_boot(identity.boot_id):
        return []
    found: list[Identity] = []
    for entry in Path("/proc").iterdir():
        fields = _read_stat(int(entry.name)) if entry.name.isdigit() else None
        if fields is None or int(entry.name) == os.getpid():
            continue
        # A session's number is not given away while it has members, and these are younger than their leader.
        in_session = int(fields[3]) == identity.pid and int(fields[19]) >= identity.start_ticks
        if in_session or _has_marker(entry, marker):
            found.append(Identity(int(entry.name), int(fields[19]), identity.boot_id))
    return found


def _is_same(identity: Identity) -> bool:
    fields = _read_stat(identity.pid)
    return fields is not None and int(fields[19]) == identity.start_ticks and _is_this_boot(identity.boot_id)


def _is_this_boot(boot_id: str) -> bool:
    return _BOOT_ID.read_text().strip() == boot_id


def _read_stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on, None where the process has ended (or is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X", "x"} else fields


def _has_marker(entry: Path, marker: str) -> bool:
    try:
        return marker.encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone
        return False
