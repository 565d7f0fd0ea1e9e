"""Whole runs against the local test Hub: every checkpoint arrives, faults only delay, and the Hub alone is enough to go on."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from codex_space.core.paths import JobDir

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

REPO = Path(__file__).parent.parent.parent
RECIPE = """
kind: sft
name: to the hub
model: {model_name_or_path: fresh:tiny}
lora: {r: 4, lora_dropout: 0.1}
datasets: [{path: sample:python-first-chat}]
validation: {fraction: 0.05}
train: {max_steps: 24, per_device_train_batch_size: 2, learning_rate: 1.0e-3, max_length: 256, logging_steps: 1}
checkpoints: {every_steps: 6}
launch: {num_threads: 1}
"""
TO_HUB = "hub: {repo_id: ada/model, keep_rows: true}\n"


def environ(hub):
    return {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write", "HF_HUB_DISABLE_XET": "1"}


def command(*args, workspace):
    return [sys.executable, "-m", "codex_space", *args, "--workspace", str(workspace)]


def train(workspace, recipe, env):
    done = subprocess.run(
        command("train", "-", "--json", workspace=workspace),
        input=recipe,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
        cwd=REPO,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return json.loads(done.stdout)


def final_weights(workspace, run_id):
    job = JobDir(workspace / "runs" / run_id)
    folder = job.checkpoint(job.checkpoint_steps()[-1])
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def losses(workspace, run_id):
    from codex_space.core.events import current_events, read_events

    events = current_events(read_events(JobDir(workspace / "runs" / run_id).events)[0])
    return {
        event["step"]: event["metrics"]["loss"]
        for event in events
        if event["e"] == "log" and "loss" in event["metrics"]
    }


def kill_everything(process, workspace):
    """The machine is gone: owner, shim and worker at once."""
    process.kill()
    for other in psutil.process_iter(["cmdline"]):
        if any(str(workspace) in part for part in other.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                other.send_signal(signal.SIGKILL)
    process.wait(10)


def test_every_checkpoint_is_on_the_hub_and_the_hub_alone_is_enough_to_go_on(hub, tmp_path):
    undisturbed = train(tmp_path / "undisturbed", RECIPE, dict(os.environ))
    lost = tmp_path / "lost"
    process = subprocess.Popen(
        command("train", "-", workspace=lost),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ(hub),
        cwd=REPO,
    )
    process.stdin.write((RECIPE + TO_HUB).encode())
    process.stdin.close()
    deadline = time.monotonic() + 200
    while "step-12" not in hub.state.repos.get("models/ada/model", {"tags": {}})["tags"]:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    kill_everything(process, lost)
    shutil.rmtree(lost)

    found = tmp_path / "found"
    done = subprocess.run(
        command("runs", "resume-from-hub", "ada/model", "--json", workspace=found),
        env=environ(hub),
        capture_output=True,
        text=True,
        timeout=400,
        cwd=REPO,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    summary = json.loads(done.stdout)
    assert summary["status"] == "succeeded"
    assert summary["steps"] == 24
    assert final_weights(found, summary["run"]) == final_weights(tmp_path / "undisturbed", undisturbed["run"])
    before, after = losses(tmp_path / "undisturbed", undisturbed["run"]), losses(found, summary["run"])
    assert after == {step: loss for step, loss in before.items() if step in after}
    # step 6 may have waited behind a newer one when the machine went
    assert {"step-12", "step-18", "step-24"} <= set(hub.repo("ada/model")["tags"])


def test_a_hub_that_refuses_for_a_while_delays_uploads_and_nothing_else(hub, tmp_path):
    hub.fail("/commit/", status=429)
    hub.fail("/preupload/", status=500)
    summary = train(tmp_path / "workspace", RECIPE + "hub: {repo_id: ada/slow}\n", environ(hub))
    assert summary["status"] == "succeeded"
    assert {checkpoint["hub"] for checkpoint in summary["checkpoints"]} == {"uploaded"}
    assert {"step-6", "step-12", "step-18", "step-24"} <= set(hub.repo("ada/slow")["tags"])


@pytest.mark.parametrize(("token", "said"), [("hf_read", "cannot write"), ("hf_unknown", "token"), (None, "token")])
def test_a_token_that_cannot_write_is_refused_before_anything_starts(hub, tmp_path, token, said):
    env = environ(hub)
    env.pop("HF_TOKEN")
    if token:
        env["HF_TOKEN"] = token
    done = subprocess.run(
        command("train", "-", workspace=tmp_path),
        input=RECIPE + TO_HUB,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "runs").iterdir())


def test_the_write_token_never_reaches_the_worker_or_any_file(hub, tmp_path):
    summary = train(tmp_path, RECIPE + "hub: {repo_id: ada/secret}\n", environ(hub))
    assert summary["status"] == "succeeded"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"hf_write" not in path.read_bytes(), path
    assert not [name for name, data in hub.state.files("models", "ada/secret").items() if b"hf_write" in data]
