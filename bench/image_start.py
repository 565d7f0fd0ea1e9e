"""What the image starts, looked at from outside: does the page answer, who runs it, who gets in, how does it end.

It is given what the platform gives a Space when it starts (reference: Spaces overview of the Hub's documentation), with the
test Hub and a local OpenID provider in the place of huggingface.co.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.utils import canonicalize_name

from bench.root import Program, Root
from codex_space.core.settings import SPACE_GRACE_S
from tests.fakes.hub import HubState
from tests.fakes.hub_fixture import RunningHub
from tests.fakes.openid import CLIENT, SCOPES, Provider, ProviderState
from tests.fakes.space import OWNER, SPACE, STRANGER, Person
from tests.ui.conftest import Served

UID = 1000
START_S = 120.0
LOOK_S = 0.05
OURS = ("codex-space", "llama-cpp-python")
"""The program itself, and what scripts/export_tools.py pins by its hash."""
TRIAL = "configs/recipes/sft/tiny-cpu.yaml"


class ImageCheckError(Exception):
    """One sentence: what is not as the platform needs it, with the end of the program's output."""


@dataclass(frozen=True)
class Process:
    """One process of the container; `inner` is its number in there."""

    pid: int
    inner: int
    uids: tuple[int, ...]
    command: str


def look_at(root: Root, program: Program, port: int, folder: Path) -> dict[str, Any]:
    """Start it, look, end it; returns the figures with what each check found.

    Raises:
        ImageCheckError: Something is not as it must be.
    """
    _require(_is_free(port), f"Port {port} of this machine is in use: end what listens there.")
    log = folder / "page.log"
    with _outside(folder) as (environ, provider, provider_port), log.open("wb") as output:
        words = root.command(dataclasses.replace(program, environ={**program.environ, **environ}))
        started = time.monotonic()
        outer = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/")
        first = 0
        try:
            first = _wait_for_child(outer)
            checks, seconds = _look(outer, first, (port, provider, provider_port), started)
            checks["ends"], ended_s = _end(outer, first)
            told = log.read_text(errors="replace")
            _require("Traceback" not in told, "its log has a traceback.")
            checks["log"] = f"{len(told.splitlines())} lines, no traceback"
        except ImageCheckError as error:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ImageCheckError(f"{error}\n{last}") from error
        finally:
            if first and outer.poll() is None:
                os.kill(first, signal.SIGKILL)  # with process 1 goes all of its namespace
            outer.kill()
            outer.wait()
    checks["packages"] = _find_unpinned(root, program)
    checks["trains"], train_s = _train(root, program)
    figures = {
        "seconds_until_page": round(seconds, 1),
        "seconds_to_end": round(ended_s, 1),
        "seconds_of_training": train_s,
    }
    return {**figures, "checks": checks}


def _look(
    outer: subprocess.Popen[bytes], first: int, where: tuple[int, ProviderState, int], started: float
) -> tuple[dict[str, str], float]:
    port, provider, provider_port = where
    health = _wait_for(outer, f"http://127.0.0.1:{port}/health", started + START_S)
    seconds = time.monotonic() - started
    _require(json.loads(health) == {"ok": True}, f"/health says {health[:100]!r}.")
    checks = {"/health": "200, ok"}
    processes = list_processes(first)
    _require(any(one.inner == 1 and "tini" in one.command for one in processes), "tini is not process 1.")
    _require(any("app.py" in one.command for one in processes), "no process runs app.py.")
    others = [one for one in processes if set(one.uids) != {UID}]
    _require(not others, f"not all processes run as uid {UID}: {others}.")
    checks["processes"] = f"{len(processes)}, all of uid {UID}; 1 is tini"
    space = SimpleNamespace(port=port, provider=provider, provider_port=provider_port)
    for name, who, wanted in (("nobody", None, 200), ("a stranger", STRANGER, 403), ("the owner", OWNER, 200)):
        person = Person(space)
        if who is not None:
            person.sign_in(who)
        found = person.ask("/").status
        _require(found == wanted, f"/ answers {name} with {found}, not {wanted}.")
        checks[f"/ for {name}"] = str(found)
    told = person.me()
    checks["/api/me for the owner"] = json.dumps(told)[:120]
    return checks, seconds


def _end(outer: subprocess.Popen[bytes], first: int) -> tuple[str, float]:
    """Send SIGTERM to process 1, as a platform does, and wait for the grace that it is thought to give."""
    space = _namespace(first)
    began = time.monotonic()
    os.kill(first, signal.SIGTERM)
    try:
        code = outer.wait(SPACE_GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise ImageCheckError(f"SIGTERM did not end it in {SPACE_GRACE_S:g} s.") from error
    left = [pid for pid in _pids() if _namespace(pid) == space]
    _require(not left, f"{len(left)} processes are left behind.")
    _require(code in {0, 143}, f"it ended with code {code} after SIGTERM.")
    return f"after SIGTERM with code {code}, nothing left", time.monotonic() - began


def _find_unpinned(root: Root, program: Program) -> str:
    """See that a later build installs the same: every package in the image is pinned by one of the files in it."""
    listed = root.run(dataclasses.replace(program, words=["pip", "list", "--user", "--format=freeze"])).split()
    pinned = {
        line
        for path in (root.folder / program.folder.lstrip("/")).glob("requirements*.txt")
        for line in path.read_text().split("\n")
    }
    loose = [
        one for one in listed if "==" in one and _plain(one) not in pinned and _plain(one).split("==")[0] not in OURS
    ]
    _require(not loose, f"no requirements file pins {', '.join(loose)}.")
    return f"{len(listed)}, each pinned"


def _plain(requirement: str) -> str:
    name, _, version = requirement.partition("==")
    return f"{canonicalize_name(name)}=={version.partition('+')[0]}"  # "+cpu" is the index's own build


def _train(root: Root, program: Program) -> tuple[str, float]:
    """Train the smallest recipe in the image, as its user: the whole stack is there and may write where it has to."""
    began = time.monotonic()
    away = {"CODEX_SPACE_HOME": "/tmp/trial", "HF_HUB_OFFLINE": "1"}  # in the root
    words = ["tini", "--", "codex-space", "train", TRIAL, "--json"]
    told = root.run(dataclasses.replace(program, words=words, environ={**program.environ, **away}))
    result = json.loads(next(line for line in reversed(told.splitlines()) if line.startswith("{")))
    _require(result["status"] == "succeeded", f"{TRIAL} ended as {result['status']}.")
    said = f"{TRIAL}: {result['steps']} steps, loss {result['first_loss']:.2f} to {result['final_loss']:.2f}"
    return said, round(time.monotonic() - began, 1)


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


@contextlib.contextmanager
def _outside(folder: Path) -> Iterator[tuple[dict[str, str], ProviderState, int]]:
    """Serve Hub and sign-in, and yield what the platform says at the start of a Space."""
    hub = RunningHub(HubState(folder / "hub"))
    provider = Provider(ProviderState(hub.state.users))
    served = Served(provider.app)
    provider.issuer = f"http://127.0.0.1:{served.port}"
    owner, _, name = SPACE.partition("/")
    environ = {
        "SPACE_ID": SPACE, "SPACE_AUTHOR_NAME": owner, "SPACE_REPO_NAME": name, "SPACE_TITLE": "codex_space",
        "SPACE_HOST": f"{owner}-{name}.hf.space", "SPACE_CREATOR_USER_ID": "0" * 24,
        "CPU_CORES": "2", "MEMORY": "16Gi", "ACCELERATOR": "none",
        "OAUTH_CLIENT_ID": CLIENT[0], "OAUTH_CLIENT_SECRET": CLIENT[1], "OAUTH_SCOPES": SCOPES,
        "OPENID_PROVIDER_URL": provider.issuer, "HF_ENDPOINT": hub.endpoint,
    }  # fmt: skip
    try:
        yield environ, provider.state, served.port
    finally:
        served.close()
        hub.close()


def _wait_for(outer: subprocess.Popen[bytes], url: str, deadline: float) -> str:
    while time.monotonic() < deadline:
        _require(outer.poll() is None, f"it ended with code {outer.returncode} before it answered.")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        time.sleep(LOOK_S)
    raise ImageCheckError(f"{url} did not answer 200 in {START_S:g} s.")


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


def _require(fine: bool, sentence: str) -> None:
    if not fine:
        raise ImageCheckError(sentence)
