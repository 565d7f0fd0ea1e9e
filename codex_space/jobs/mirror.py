"""Write what a Job's log says into the run's own events.jsonl and worker.log, as a worker on this machine would have.

Covered: lines that come twice (the log is read from its beginning after each broken connection, and after a restart of
the owner), lines that are cut, lost, out of order or made up, and a stream that is still read when its owner has gone.
"""

import os
import threading
from collections.abc import Iterable

from codex_space.core.events import EventWriter, iter_events
from codex_space.core.job_lines import BAR, read_line
from codex_space.core.paths import JobDir

MAX_JUMP = 1_000_000
"""A number further ahead than this is not one of ours."""
MAX_LOG_BYTES = 64 << 20
MAX_LOG_LINE_CHARS = 1 << 16


class Mirror:
    """The events and the log of one attempt."""

    def __init__(self, job: JobDir, *, attempt: int, log_offset: int) -> None:
        """Go on after the last event that is in the file already."""
        self._job, self._attempt, self._log_offset = job, attempt, log_offset
        self.last, self.has_end = 0, False
        for event in iter_events(job.events):
            if event.get("a") == attempt and isinstance(event.get("n"), int):
                self.last, self.has_end = max(self.last, event["n"]), self.has_end or event["e"] == "end"
        self._gap_after = -1
        self._lock = threading.Lock()
        self._is_closed = False
        self._events = EventWriter(job.events)
        self._log_fd = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def take(self, lines: Iterable[str]) -> bool:
        """Take the log from its beginning; False where a line is missing, so that it is to be read once more."""
        with self._lock:
            if self._is_closed:
                return True
            os.ftruncate(self._log_fd, min(self._log_offset, os.fstat(self._log_fd).st_size))
            os.lseek(self._log_fd, 0, os.SEEK_END)
        return all(self._feed(line) for line in lines)

    def close(self) -> None:
        """Write nothing from here on, whatever still arrives."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._events.close()
                os.close(self._log_fd)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is written any more."""
        return self._is_closed

    def _feed(self, line: str) -> bool:
        with self._lock:
            if self._is_closed:
                return True
            told = read_line(line)
            if told is None:
                self._write_log(line)
                return True
            number, event = told
            if number <= self.last or number > self.last + MAX_JUMP:
                return True
            if number > self.last + 1 and self._gap_after != self.last:
                self._gap_after = self.last  # once more from the beginning; what is missing there too is lost
                return False
            fields = {name: value for name, value in event.items() if name not in {"t", "e", "n", "a"}}
            self._events.write(event["e"], event.get("t", 0.0), **fields, n=number, a=self._attempt)
            self.last, self.has_end = number, self.has_end or event["e"] == "end"
            return True

    def _write_log(self, line: str) -> None:
        if os.lseek(self._log_fd, 0, os.SEEK_CUR) - self._log_offset < MAX_LOG_BYTES:
            text = line.removeprefix(BAR)[:MAX_LOG_LINE_CHARS]
            os.write(self._log_fd, text.encode("utf-8", "replace") + b"\n")
