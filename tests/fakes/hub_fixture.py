"""Pytest fixture `hub`: the test Hub in a thread of this process, emptied for each test."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from codex_space.hub.client import Hub
from tests.fakes.hub import HubState, TestHub

ENVIRONMENT = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Read by huggingface_hub at its import: set before."""


class RunningHub:
    """A served test Hub with the handles tests want."""

    def __init__(self, state: HubState) -> None:
        self.state = state
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(TestHub(state).app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)

    def client(self, token: str | None = "hf_write") -> Hub:
        """Return our client, signed in with that token."""
        return Hub(token, endpoint=self.endpoint)

    def fail(self, path: str, **fault: Any) -> None:
        """Make the next requests whose path matches fail (see fakes/hub.py for the keys)."""
        self.state.faults.append({"path": path, **fault})

    def heal(self) -> None:
        """Forget all faults."""
        self.state.faults.clear()

    def asked(self, path: str, method: str = "POST") -> list[dict[str, Any]]:
        """Return the requests whose path holds that text."""
        return [row for row in self.state.requests if path in row["path"] and row["method"] == method]

    def repo(self, repo_id: str, kind: str = "models") -> dict[str, Any]:
        """Return a repository's state: heads, tags, commits, private."""
        return self.state.repos[f"{kind}/{repo_id}"]

    def close(self) -> None:
        """Stop serving."""
        self.state.jobs.close()
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """Serve one test Hub for the whole run."""
    missing = [name for name in ENVIRONMENT if not os.environ.get(name)]
    assert not missing, f"tests/conftest.py must set {missing} before huggingface_hub is imported"
    running = RunningHub(HubState(Path(tmp_path_factory.mktemp("hub"))))
    yield running
    running.close()


@pytest.fixture
def hub(hub_server: RunningHub) -> RunningHub:
    """Return the test Hub, empty and without faults."""
    hub_server.state.reset()
    return hub_server
