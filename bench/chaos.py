"""One training to the Hub while page, worker, machine, uploads and test Hub are killed or cut at random moments.

Afterwards every checkpoint that was reported safe is on the Hub and equal by hash to the one of an undisturbed run, the run
has finished with the same weights and losses, no attempt ran twice nor beside another, and no process is left.
`SOAK_SEED` and `SOAK_KILLS` change what is tried.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.measure import REPO, write_result
from codex_space.core.errors import CodexError
from codex_space.core.events import current_events, iter_events
from codex_space.core.paths import MANIFEST
from codex_space.core.settings import read_settings
from codex_space.services import runs
from codex_space.services.context import Context, open_context

SEED = int(os.environ.get("SOAK_SEED", "7"))
KILLS = int(os.environ.get("SOAK_KILLS", "50"))
TARGETS = ("page", "worker", "machine", "hub", "upload cut", "upload stuck", "commit lost")
TOKEN = "hf_write"  # the test Hub's own
LOOK_S = 0.02
HUB_DOWN_S = 1.0
TIMEOUT_S, END_TIMEOUT_S = 240.0, 1200.0
RECIPE = """
kind: sft
name: chaos
model: {{model_name_or_path: fresh:tiny}}
lora: {{r: 4, lora_dropout: 0.1}}
datasets: [{{path: sample:python-first-chat}}]
validation: {{fraction: 0.05}}
train: {{max_steps: {steps}, per_device_train_batch_size: 2, learning_rate: 1.0e-3, max_length: 256, logging_steps: 1}}
checkpoints: {{every_steps: {every}}}
launch: {{num_threads: 1}}
hub: {{repo_id: ada/{name}, keep_rows: true}}
"""
WEIGHTS = "adapter_model.safetensors"


def main() -> dict[str, Any]:
    """Try the long one and keep its figures; exits with 1 where something was lost."""
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), seed=SEED, kills=KILLS, steps=120 * KILLS, every=60)
    write_result("chaos", figures)
    print(f"{figures['kills']} moments, {figures['attempts']} attempts, wrong: {figures['wrong'] or 'nothing'}")
    if figures["wrong"]:
        raise SystemExit(1)
    return figures


def run(folder: Path, *, seed: int, kills: int, steps: int, every: int) -> dict[str, Any]:
    """Disturb one training that many times; return the figures, with what is wrong as sentences."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        hub = _HubProcess(folder / "hub")
        stack.callback(hub.kill)
        hub.start()
        reference = _Disturbed(folder / "undisturbed", hub, "undisturbed", steps, every)
        stack.callback(reference.end)
        reference.begin()
        reference.wait_for_end()
        reference.end()
        disturbed = _Disturbed(folder / "chaos", hub, "chaos", steps, every)
        stack.callback(disturbed.end)
        disturbed.begin()
        moments = _disturb(disturbed, random.Random(seed), kills, steps)
        disturbed.wait_for_end()
        wrong = _compare(disturbed, reference, hub)
        disturbed.end()
        wrong += [f"the process {pid} is left" for pid in disturbed.processes()]
        attempts = disturbed.attempts()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seed": seed,
        "steps": steps,
        "checkpoint_every": every,
        "kills": len(moments),
        "attempts": len(attempts),
        "most_workers_at_once": disturbed.most_workers,
        "wrong": wrong,
        "seconds": round(time.monotonic() - began),
        "moments": moments,
    }


def _disturb(disturbed: "_Disturbed", chance: random.Random, kills: int, steps: int) -> list[str]:
    """Spread the moments over the training; each waits until the run has come a little further than ever before."""
    moments = []
    for number in range(kills):
        target = chance.choice(TARGETS) if number >= len(TARGETS) else TARGETS[number]
        after = chance.randint(1, max(1, (number + 1) * (steps - 1) // (kills + 1)))
        after = max(after, number * (steps - 1) // (kills + 1) + 1)
        disturbed.wait_for_step(after)
        time.sleep(chance.uniform(0, 0.3))
        came_to = disturbed.step()
        disturbed.hit(target)
        moments.append(f"{target} at step {came_to}")
    return moments


class _HubProcess:
    """The test Hub as a program of its own, whose repositories outlive a kill."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "tests/fakes/hub.py", "--port", str(self.port), "--state", str(self.state)]
        self._process = subprocess.Popen(
            command, cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)}, stderr=subprocess.DEVNULL
        )
        _until(lambda: _answers(f"{self.endpoint}/_test"), "the test Hub")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def fail(self, **fault: object) -> None:
        body = json.dumps({"fail": [fault]}).encode()
        request = urllib.request.Request(f"{self.endpoint}/_test", body, method="POST")  # loopback
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10):
            pass

    def repo(self, name: str) -> dict[str, Any]:
        """Return what the Hub has on its disk of a repository."""
        return json.loads((self.state / "repos.json").read_text())[f"models/ada/{name}"]

    def tree(self, name: str, commit: str) -> dict[str, Any]:
        return self.repo(name)["commits"][commit]["tree"]

    def content(self, entry: dict[str, Any]) -> bytes:
        return (self.state / "blobs" / entry["blob"]).read_bytes()


class _Disturbed:
    """One workspace with its page and its one run."""

    def __init__(self, root: Path, hub: _HubProcess, name: str, steps: int, every: int) -> None:
        self.root, self.hub, self.name = root, hub, name
        self._recipe = RECIPE.format(steps=steps, every=every, name=name)
        self._every, self.most_workers, self.run_id = every, 0, ""
        self._port = _free_port()
        self._page: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True)
        self._environ = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0", "CODEX_SPACE_RESUME": "auto", "CODEX_SPACE_HEARTBEAT_S": "2", "PYTHONPATH": str(REPO),
            "CODEX_SPACE_HOLDER": name,
        }  # fmt: skip
        self._ctx: Context | None = None

    @property
    def ctx(self) -> Context:
        if self._ctx is None:
            environ = {**self._environ, "CODEX_SPACE_HOME": str(self.root)}
            self._ctx = open_context(read_settings(environ), time.time, own=False)
        return self._ctx

    def begin(self) -> None:
        """Open the page and submit."""
        self.start_page()
        self.run_id = runs.submit(self.ctx, self._recipe).id

    def start_page(self) -> None:
        with (self.root / "page.log").open("ab") as log:
            self._page = subprocess.Popen(
                [sys.executable, "-m", "codex_space", "serve", "--port", str(self._port), "--workspace", str(self.root)],
                env=self._environ, stdout=log, stderr=log, cwd=REPO,
            )  # fmt: skip
        _until(lambda: _answers(f"http://127.0.0.1:{self._port}/health"), "the page")

    def hit(self, target: str) -> None:
        """Kill or cut, and set up again what a container's restart would."""
        match target:
            case "page":
                self._kill_page()
                self.start_page()
            case "worker":
                for pid in self.workers():
                    _kill(pid)
                self._resume_when_ended()
            case "machine":
                self._kill_page()
                for pid in self.processes():
                    _kill(pid)
                self.start_page()
            case "hub":
                self.hub.kill()
                time.sleep(HUB_DOWN_S)
                self.hub.start()
            case "upload cut":
                self.hub.fail(path="/_lfs/", method="PUT", how="drop", times=1)
            case "upload stuck":
                self.hub.fail(path="/_lfs/", method="PUT", how="slow", delay_s=3.0, times=1)
            case _:
                self.hub.fail(path="/ada/[a-z]+/commit/", how="lose", times=1)

    def _resume_when_ended(self) -> None:
        """A worker that was killed alone has failed: somebody presses Resume."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            state = self.state()
            if state in {"failed", "lost"}:
                with contextlib.suppress(CodexError):
                    runs.resume(self.ctx, self.run_id)
                _until(lambda: self.state() not in {"failed", "lost"}, "the resume")
                return
            if state == "succeeded":
                return
            time.sleep(LOOK_S)
        raise RuntimeError("a killed worker was not noticed")

    def _kill_page(self) -> None:
        if self._page is not None:
            self._page.kill()
            self._page.wait()

    def state(self) -> str:
        return runs.show(self.ctx, self.run_id).state

    def step(self) -> int:
        return runs.show(self.ctx, self.run_id).step

    def wait_for_step(self, step: int) -> None:
        self._watch(lambda: self.step() >= step or self.state() == "succeeded", f"step {step}")

    def wait_for_end(self) -> None:
        """Wait for the last step and for every upload."""
        self._watch(lambda: self.state() == "succeeded", "the end", END_TIMEOUT_S)
        self._watch(lambda: all(row.upload == "uploaded" for row in runs.checkpoints(self.ctx, self.run_id)), "uploads")

    def _watch(self, condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
        def look() -> bool:
            self.most_workers = max(self.most_workers, len(self.workers()))
            return condition()

        try:
            _until(look, what, timeout_s)
        except RuntimeError as error:
            run, log = runs.show(self.ctx, self.run_id), (self.root / "page.log").read_text()[-1500:]
            rows = [(row.step, row.upload, row.upload_error) for row in runs.checkpoints(self.ctx, self.run_id)]
            raise RuntimeError(f"{error}: {run.state} at {run.step} ({run.reason}) {rows[-5:]}\n{log}") from error

    def processes(self) -> list[int]:
        """Return all processes that name this workspace."""
        return [
            p.pid for p in psutil.process_iter(["cmdline"]) if any(str(self.root) in c for c in p.info["cmdline"] or [])
        ]

    def workers(self) -> list[int]:
        """Return the workers; what one of them starts bears its command line for the moment before it runs another program."""
        found = {}
        for process in psutil.process_iter(["cmdline", "ppid"]):
            line = process.info["cmdline"] or []
            if "codex_space.work" in line and str(self.root) in line[-1] and not any("shim" in c for c in line):
                found[process.pid] = process.info["ppid"]
        return [pid for pid, parent in found.items() if parent not in found]

    def attempts(self) -> list[int]:
        job = self.ctx.workspace.job(self.run_id)
        return [event["attempt"] for event in iter_events(job.events) if event["e"] == "attempt"]

    def losses(self) -> dict[int, float]:
        job = self.ctx.workspace.job(self.run_id)
        logs = [event for event in current_events(iter_events(job.events)) if event["e"] == "log"]
        return {log["step"]: log["metrics"]["loss"] for log in logs if "loss" in log["metrics"]}

    def end(self) -> None:
        """Ask the page to end, and see that it does."""
        if self._page is not None and self._page.poll() is None:
            self._page.send_signal(signal.SIGTERM)
            try:
                self._page.wait(30)
            except subprocess.TimeoutExpired:
                self._page.kill()
                self._page.wait()


def _compare(disturbed: _Disturbed, reference: _Disturbed, hub: _HubProcess) -> list[str]:
    wrong = []
    attempts = disturbed.attempts()
    if attempts != sorted(set(attempts)):
        wrong.append(f"attempts came twice or out of order: {attempts}")
    if disturbed.most_workers > 1:
        wrong.append(f"{disturbed.most_workers} workers trained at once")
    if disturbed.losses() != reference.losses():
        wrong.append("the losses differ")
    there = hub.repo(reference.name)["tags"]
    rows = {row.step: row for row in runs.checkpoints(disturbed.ctx, disturbed.run_id)}
    if not rows or max(rows) != max(disturbed.losses()):
        wrong.append("the last checkpoint is missing")
    for step, row in rows.items():
        tree = hub.tree(disturbed.name, row.commit_id or "")
        facts = json.loads(hub.content(tree[MANIFEST]))["files"]
        for path, fact in facts.items():
            entry = tree.get(path) or tree.get(f"resume/{path}")
            if entry and entry["blob"] != fact["sha256"]:
                wrong.append(f"{path} of step {step} is not what was saved")
        if f"step-{step}" in there:
            expected = hub.tree(reference.name, there[f"step-{step}"])[WEIGHTS]["blob"]
            if tree[WEIGHTS]["blob"] != expected:
                wrong.append(f"the weights of step {step} differ from the undisturbed run's")
    return wrong


def _until(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {timeout_s:.0f} s")
        time.sleep(LOOK_S)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):  # loopback
            return True
    except (OSError, urllib.error.URLError):
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
