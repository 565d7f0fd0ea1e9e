"""A workspace to look at, and programs served over real HTTP on a port of their own."""

import http.client
import itertools
import socket
import threading
import time
from dataclasses import dataclass

import pytest
import uvicorn

from codex_space.core.settings import read_settings
from codex_space.services.context import open_context


@pytest.fixture
def make_ctx(tmp_path):
    opened = []

    def make(**overrides):
        ticks = itertools.count(1_700_000_000)
        settings = read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace")}, **overrides)
        opened.append(open_context(settings, lambda: float(next(ticks)), own=False))
        return opened[-1]

    yield make
    for ctx in opened:
        ctx.close()


@pytest.fixture
def ctx(make_ctx):
    return make_ctx()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self):
        return self.body.decode()


class Served:
    """An ASGI program in a thread, asked as any program would ask it."""

    def __init__(self, app):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)

    def ask(self, path="/", method="GET", body=None, **headers):
        return ask(self.port, path, method, body, **headers)

    def close(self):
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


def ask(port, path="/", method="GET", body=None, **headers):
    """Send one request; a header given as None is left out, even Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    sent = {"host": f"127.0.0.1:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    read = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return read


@pytest.fixture(scope="module")
def serve_app():
    served = []

    def serve(app):
        served.append(Served(app))
        return served[-1]

    yield serve
    for one in served:
        one.close()
