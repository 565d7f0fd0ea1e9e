"""Run a child of a worker that may be killed, abort or fill the disk, and say in one sentence how it ended."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from codex_space.core.errors import TrainingError
from codex_space.work.attempt import Attempt

LOOK_EVERY_S = 0.5
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "basic_ios::clear: iostream error")
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "failed to allocate", "DefaultCPUAllocator")


class StoppedError(Exception):
    """A stop was asked for while a child ran; it has been ended."""


def run(
    attempt: Attempt,
    arguments: Sequence[str],
    what: str,
    watch: Callable[[], None] = lambda: None,
    *,
    cwd: Path | None = None,
) -> str:
    """Run `python -m ARGUMENTS`, calling `watch` twice a second; return what it printed.

    Raises:
        TrainingError: It failed; the sentence says why as far as one can know.
        StoppedError: The run is to end.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd
        )
        try:
            code = _wait(attempt, process, watch)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            err.seek(0)
            told = err.read().decode("utf-8", "replace")
            sys.stderr.write(told[-20_000:])
        if code:
            raise TrainingError(f"{what} {_why(code, told)}", where="export", cure=_cure(code, told))
        out.seek(0)
        return out.read().decode("utf-8", "replace")


def _wait(attempt: Attempt, process: subprocess.Popen[bytes], watch: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            watch()
            if attempt.is_stop_asked():
                raise StoppedError from None


def _why(code: int, told: str) -> str:
    if any(sign in told for sign in _DISK_FULL):
        return "found the disk full"
    if code == -signal.SIGKILL or any(sign in told for sign in _OUT_OF_MEMORY):
        return "was ended for want of memory, as far as one can tell"
    if code < 0:
        return f"crashed (signal {signal.Signals(-code).name})"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "error loading model" in line), None)
    if reason:
        return f"cannot load it ({reason.partition('error loading model')[2].strip(': ')[:300]})"
    return f"failed ({lines[-1][:300]})" if lines else f"failed with code {code}"


def _cure(code: int, told: str) -> str:
    if any(sign in told for sign in _DISK_FULL):
        return "Free some space, then Resume: finished files are kept."
    if code == -signal.SIGKILL or any(sign in told for sign in _OUT_OF_MEMORY):
        return "Close other programs or take a larger machine, then Resume: finished files are kept."
    return "The log holds all it said; finished files are kept."
