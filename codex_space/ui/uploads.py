"""Keeps an uploaded file until everybody who sent it has had it read, then removes it.

Gradio 6.31 keeps a file under the hash of its content and its name, so that two people who send the same one share a path:
the first whose event has read it must not take it from the second.
"""

import json
import threading
from collections import Counter
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD = "/gradio_api/upload"


class Uploads:
    """Counts, for each path, how many sendings no event has read yet."""

    def __init__(self) -> None:
        """Know of none."""
        self._lock = threading.Lock()
        self._unread: Counter[str] = Counter()
        self._num_coming = 0
        self._spent: set[Path] = set()

    def begin(self) -> None:
        """Note that one is coming in: which, is known at its end, and until then nothing is removed."""
        with self._lock:
            self._num_coming += 1

    def end(self, paths: list[str]) -> None:
        """Note under which paths it came in, none where it did not."""
        with self._lock:
            self._num_coming -= 1
            self._unread.update(paths)
            self._sweep()

    def read(self, path: Path) -> None:
        """Note that an event has read what one person sent."""
        with self._lock:
            self._unread[str(path)] -= 1
            self._spent.add(path)
            self._sweep()

    def _sweep(self) -> None:
        if self._num_coming:
            return
        for path in [path for path in self._spent if self._unread[str(path)] <= 0]:
            path.unlink(missing_ok=True)
            self._spent.discard(path)
            del self._unread[str(path)]


class UploadsMiddleware:
    """ASGI middleware that tells `Uploads` of each file that comes in."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        """Watch `app`'s uploads."""
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; read along where an upload is answered."""
        if scope["type"] != "http" or (scope["method"], scope["path"].rstrip("/")) != ("POST", UPLOAD):
            await self._app(scope, receive, send)
            return
        status, body = 0, b""

        async def read_along(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")
            await send(message)

        self._uploads.begin()
        paths: list[str] = []
        try:
            await self._app(scope, receive, read_along)
            paths = json.loads(body) if status == 200 else []
        finally:
            self._uploads.end(paths)
