"""The test Hub as a program of its own keeps its repositories over a restart."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from codex_space.hub.client import Hub
from codex_space.hub.records import Change

SCRIPT = Path(__file__).with_name("hub.py")


def start(port: int, state: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(SCRIPT), "--port", str(port), "--state", str(state)])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/_test")
        except httpx.ConnectError:
            time.sleep(0.02)
        else:
            return process
    raise AssertionError("the test Hub does not answer")


def test_a_repository_outlives_a_kill_of_the_server(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hub = Hub("hf_write", endpoint=f"http://127.0.0.1:{port}")
    process = start(port, tmp_path)
    try:
        hub.make_repo("ada/model", private=True)
        change = Change("add", hub.head("ada/model"), {"a.safetensors": os.urandom(1000), "b.txt": b"text"})
        commit = hub.commit("ada/model", change)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(port, tmp_path)
        assert hub.head("ada/model") == commit
        assert hub.download("ada/model", "b.txt", commit, tmp_path / "out").read_text() == "text"
        fault = {
            "fail": [{"path": "/whoami", "status": 403}],
            "users": {"hf_new": {"name": "eve", "role": "write", "orgs": []}},
        }
        httpx.post(f"http://127.0.0.1:{port}/_test", json=fault)
        seen = httpx.get(f"http://127.0.0.1:{port}/_test").json()
        assert seen["repos"] == ["models/ada/model"]
    finally:
        process.kill()
        process.wait()
