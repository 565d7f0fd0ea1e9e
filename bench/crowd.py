"""Many people with the page open, played by one process that weighs little: it shares its cores with what is measured."""

import contextlib
import heapq
import multiprocessing
import random
import re
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

JOIN_S = 20.0
POLL_MS = 2000  # core.js, where the server says nothing
MOST_BYTES = 1 << 18
_HEAD = re.compile(rb"HTTP/1\.1 200 .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE)
_SEQ = re.compile(rb'\{"seq":(\d+)')
_WAIT = re.compile(rb'"poll_after_ms":(\d+)')


@dataclass(frozen=True)
class Watched:
    """What viewers found.

    Attributes:
        latencies_ms: Of every answer but each viewer's first.
        cpu_s: Processor time of the viewers themselves.
        cut_off: How often a viewer had to connect anew.
    """

    latencies_ms: list[float]
    cpu_s: float
    cut_off: int


@contextlib.contextmanager
def watching(address: str, paths: Sequence[str], viewers: int, *, rest: float = 1.0) -> Iterator[Connection]:
    """Let viewers poll, in a process of their own so that none waits for the interpreter of this one.

    The other end answers "count" with the number of answers so far, and "stop" with `Watched`; say one of them last.

    Args:
        address: Of the page.
        paths: What they poll in turn, viewer by viewer.
        viewers: How many.
        rest: Times what the server asks them to wait between two polls; 0 is as fast as it answers.
    """
    ours, theirs = multiprocessing.Pipe()
    fresh = multiprocessing.get_context("spawn")  # a copy of this process would hold the locks of its threads
    watcher = fresh.Process(target=_watch, args=(address, paths, viewers, rest, theirs))
    watcher.start()
    theirs.close()  # so that the end of the viewers is an end here too
    try:
        yield ours
    finally:
        watcher.join(JOIN_S)
        if watcher.is_alive():  # nobody said stop
            watcher.terminate()
            watcher.join()


def _watch(address: str, paths: Sequence[str], viewers: int, rest: float, pipe: Connection) -> None:
    host, port = address.removeprefix("http://").split(":")
    crowd = _Crowd(host, int(port), rest)
    for number in range(viewers):
        crowd.add(paths[number % len(paths)])
    crowd.selector.register(pipe, selectors.EVENT_READ)
    while True:
        if crowd.turn(pipe):
            if pipe.recv() == "stop":
                break
            pipe.send(len(crowd.latencies_ms))
    pipe.send(Watched(crowd.latencies_ms, time.process_time(), crowd.cut_off))


@dataclass
class _Viewer:
    """One person's poll: what it asked for last and what has come of the answer."""

    path: str
    connection: socket.socket
    seq: int = 0
    answers: int = 0
    asked_at: float = 0.0
    got: bytes = b""


class _Crowd:
    """All of them on one thread: who is due asks, who is answered waits as long as the server says."""

    def __init__(self, host: str, port: int, rest: float) -> None:
        self.selector = selectors.DefaultSelector()
        self.latencies_ms: list[float] = []
        self.cut_off = 0
        self._at, self._rest = (host, port), rest
        self._due: list[tuple[float, int, _Viewer]] = []
        self._count = 0

    def add(self, path: str) -> None:
        viewer = _Viewer(path, self._connect())
        self.selector.register(viewer.connection, selectors.EVENT_READ, viewer)
        self._wait(viewer, random.random() * 2 * self._rest)

    def turn(self, pipe: Connection) -> bool:
        """Sleep until somebody is due or answered, and see to them; say whether the pipe has something."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._ask(heapq.heappop(self._due)[2])
        timeout_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
        called = False
        for key, _ in self.selector.select(timeout_s):
            if key.fileobj is pipe:
                called = True
            else:
                self._take(key.data)
        return called

    def _wait(self, viewer: _Viewer, wait_s: float) -> None:
        self._count += 1
        heapq.heappush(self._due, (time.monotonic() + wait_s, self._count, viewer))

    def _ask(self, viewer: _Viewer) -> None:
        viewer.asked_at, viewer.got = time.monotonic(), b""
        request = f"GET {viewer.path}?after={viewer.seq} HTTP/1.1\r\nHost: {self._at[0]}:{self._at[1]}\r\n\r\n"
        with contextlib.suppress(ConnectionError):  # seen where the answer is read
            viewer.connection.sendall(request.encode())

    def _take(self, viewer: _Viewer) -> None:
        try:
            part = viewer.connection.recv(MOST_BYTES)
        except ConnectionError:
            part = b""
        if not part:
            self._anew(viewer)
            return
        viewer.got += part
        head = _HEAD.match(viewer.got)
        if head is None:
            if b"\r\n\r\n" in viewer.got:  # a viewer who is refused is a fault of the measurement
                raise RuntimeError(viewer.got[:500])
            return
        if len(viewer.got) < head.end() + int(head[1]):
            return
        if viewer.answers:  # the first answer holds the whole curve; updates are what is measured
            self.latencies_ms.append((time.monotonic() - viewer.asked_at) * 1000)
        viewer.answers += 1
        seq, wait = _SEQ.match(viewer.got, head.end()), _WAIT.search(viewer.got, head.end())
        if seq is None:
            raise RuntimeError(viewer.got[:500])
        viewer.seq, wait_ms = int(seq[1]), int(wait[1]) if wait else POLL_MS
        self._wait(viewer, wait_ms / 1000 * self._rest)

    def _anew(self, viewer: _Viewer) -> None:
        """Connect again and ask what was asked, as a browser does; one who was idle asks when due."""
        self.cut_off += 1
        self.selector.unregister(viewer.connection)
        viewer.connection.close()
        viewer.connection = self._connect()
        self.selector.register(viewer.connection, selectors.EVENT_READ, viewer)
        if not any(waiting is viewer for _, _, waiting in self._due):
            self._ask(viewer)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._at)
