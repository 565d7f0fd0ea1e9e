"""What the image starts, looked at from outside: does the page answer, who runs it, who gets in, how does it end.

It is given what the platform gives a Space when it starts (reference: Spaces overview of the Hub's documentation), with the
test Hub and a local OpenID provider in the place of huggingface.co.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.utils import canonicalize_name

from bench.container import Container, Process, require, started
from bench.root import Program, Root
from tests.fakes.hub import HubState
from tests.fakes.hub_fixture import RunningHub
from tests.fakes.openid import CLIENT, SCOPES, Provider, ProviderState
from tests.fakes.space import OWNER, SPACE, STRANGER, Person
from tests.ui.conftest import Served

UID = 1000
OURS = ("codex-space", "llama-cpp-python")
"""The program itself, and what scripts/export_tools.py pins by its hash."""
TRIAL = "configs/recipes/sft/tiny-cpu.yaml"


def look_at(root: Root, program: Program, port: int, folder: Path) -> dict[str, Any]:
    """Start it, look, end it, then once more with a training; returns the figures with what each check found.

    Raises:
        ImageCheckError: Something is not as it must be.
    """
    with _outside(folder) as (environ, provider, provider_port):
        served = dataclasses.replace(program, environ={**program.environ, **environ})
        with started(root, served, port, folder / "page.log") as container:
            seconds = container.wait_for_health()
            checks = {"/health": "200, ok", **_look_inside(container), **_sign_in(port, provider, provider_port)}
            ended_s = container.end()
            lines = container.require_quiet_log()
        checks["ends"] = f"{ended_s:.1f} s after SIGTERM, nothing left"
        checks["log"] = f"{lines} lines, no traceback"
        checks["packages"] = _find_unpinned(root, program)
        checks["trains"], train_s = _train(root, program)
        checks["ends while it trains"] = _end_while_training(root, served, port, folder)
    figures = {"seconds_until_page": round(seconds, 1), "seconds_to_end": round(ended_s, 1)}
    return {**figures, "seconds_of_training": train_s, "checks": checks}


def _look_inside(container: Container) -> dict[str, str]:
    processes = container.processes()
    require(any(one.inner == 1 and "tini" in one.command for one in processes), "tini is not process 1.")
    require(any("app.py" in one.command for one in processes), "no process runs app.py.")
    _require_user(processes)
    return {"processes": f"{len(processes)}, all of uid {UID}; 1 is tini"}


def _require_user(processes: list[Process]) -> None:
    others = [one for one in processes if set(one.uids) != {UID}]
    require(not others, f"not all processes run as uid {UID}: {others}.")


def _sign_in(port: int, provider: ProviderState, provider_port: int) -> dict[str, str]:
    checks = {}
    space = SimpleNamespace(port=port, provider=provider, provider_port=provider_port)
    for name, who, wanted in (("nobody", None, 200), ("a stranger", STRANGER, 403), ("the owner", OWNER, 200)):
        person = Person(space)
        if who is not None:
            person.sign_in(who)
        found = person.ask("/").status
        require(found == wanted, f"/ answers {name} with {found}, not {wanted}.")
        checks[f"/ for {name}"] = str(found)
    told = person.me()
    require(isinstance(told, dict) and told.get("acts") is True, f"the owner may not act: {told}.")
    return {**checks, "/api/me for the owner": json.dumps(told)}


def _end_while_training(root: Root, program: Program, port: int, folder: Path) -> str:
    """End it in the middle of a run: the worker is of the same user, its checkpoint is saved, nothing is left."""
    away = {"CODEX_SPACE_AUTORUN": f"{TRIAL} train.max_steps=100000 checkpoints.every_steps=50000"}
    runs = root.folder / program.environ["CODEX_SPACE_HOME"].lstrip("/") / "runs"
    with started(
        root, dataclasses.replace(program, environ={**program.environ, **away}), port, folder / "train.log"
    ) as one:
        one.wait_for(
            lambda: any('"step"' in path.read_text() for path in runs.glob("*/events.jsonl")), "the run's steps"
        )
        processes = one.processes()
        _require_user(processes)
        require(any("codex_space.work" in process.command for process in processes), "no worker runs.")
        ended_s = one.end()
        one.require_quiet_log()
    saved = [path.name for path in runs.glob("*/checkpoint-*")]
    require(bool(saved), "the run was not saved.")
    return f"{ended_s:.1f} s after SIGTERM of {len(processes)} processes, {', '.join(saved)} saved, nothing left"


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
    require(not loose, f"no requirements file pins {', '.join(loose)}.")
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
    require(result["status"] == "succeeded", f"{TRIAL} ended as {result['status']}.")
    said = f"{TRIAL}: {result['steps']} steps, loss {result['first_loss']:.2f} to {result['final_loss']:.2f}"
    return said, round(time.monotonic() - began, 1)


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
