"""Job folders with small real models, run in this process or in one of their own."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from codex_space.core import durable
from codex_space.core.events import current_events, read_events
from codex_space.core.paths import JobDir

RUN_ID = "20261121-001530-sft-k3f9"


@dataclass
class Job:
    """A job folder and what a worker made of it."""

    dir: JobDir

    def launch(self, **facts):
        durable.write_json(self.dir.launch, {"attempt": 1, "num_threads": 1, "offline": True, **facts})
        return self

    def run(self, *flags, **facts):
        """Run the worker's entry point in this process; imports of the libraries are paid once."""
        from codex_space.work.__main__ import main

        if facts or not self.dir.launch.is_file():
            self.launch(**facts)
        return main([str(self.dir.root), *flags])

    def start(self, **facts):
        self.launch(**facts)
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with self.dir.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "codex_space.work", str(self.dir.root)], env=environ, stdout=log, stderr=log
            )

    @property
    def events(self):
        return read_events(self.dir.events)[0]

    def said(self, kind):
        return [event for event in self.events if event["e"] == kind]

    def resume(self, *flags):
        """Run again from the newest complete checkpoint, as the owner does."""
        return self.run(*flags, attempt=2, resume_from_step=self.dir.checkpoint_steps()[-1])

    @property
    def sentence(self):
        """What the page shows of the failure."""
        return "{where}: {what}. {cure}".format(**self.failure)

    @property
    def failure(self):
        return self.said("failed")[-1]

    def curve(self, name):
        """The points a page would draw, earlier attempts' lost steps left out."""
        logs = [event for event in current_events(self.events) if event["e"] == "log"]
        return [(event["step"], event["metrics"][name]) for event in logs if name in event["metrics"]]

    def manifest(self, step):
        return json.loads((self.dir.checkpoint(step) / "codex_manifest.json").read_text())


@pytest.fixture(autouse=True)
def _hub_is_offline(monkeypatch):
    """As the launcher sets it for a run that needs nothing from the Hub: no retries against a closed door."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def _own_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, small enough to fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("only root can mount a small disk to fill")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def make_job(tmp_path):
    """Make a job folder from a recipe's values, on the rows given."""
    return functools.partial(make_folder, tmp_path)


def make_folder(parent, recipe, rows=None, run_id=RUN_ID):
    """Write what the owner writes before the first start."""
    root = parent / "runs" / run_id
    root.mkdir(parents=True)
    if rows is not None:
        path = parent / f"{run_id}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = {**recipe, "datasets": [{"path": str(path)}]}
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return Job(JobDir(root))


@pytest.fixture
def processes():
    """Processes that a test starts; none outlives it."""
    started = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def wait_until(condition, what, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.005)


NAMES = ("apple", "bear", "cloud", "door", "earth", "fire", "glass", "house", "iron", "jar")


def chat_rows(num=40):
    """Small conversations, all different."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Write {name}{i}."},
                {"role": "assistant", "content": f"def {name}():\n    return {i}"},
            ]
        }
        for i, name in ((i, NAMES[i % 10]) for i in range(num))
    ]


def pairs(num=60):
    """Prompts with a better and a worse answer."""
    asks = [(f"Add one to {NAMES[i % 10]}{i}.", i) for i in range(num)]
    return [{"prompt": ask, "chosen": f"return {i} + 1", "rejected": f"print {i} - 1"} for ask, i in asks]


def sft_recipe(**changes):
    """A LoRA run of 20 steps on a fresh model; `train` is merged."""
    train = {
        "max_steps": 20,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "max_length": 128,
        "logging_steps": 1,
        **changes.pop("train", {}),
    }
    return {
        "kind": "sft",
        "model": {"model_name_or_path": "fresh:tiny"},
        "lora": {"r": 4, "lora_alpha": 8},
        "validation": {"fraction": 0.1},
        "checkpoints": {"every_steps": 5, "keep_last": 20},
        "train": train,
        **changes,
    }


def pretrain_recipe(**changes):
    """A pretraining run of 20 steps on bytes."""
    train = {"max_steps": 20, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1}
    return {
        "kind": "pretrain",
        "architecture": "tiny",
        "tokenizer": "fresh:bytes",
        "block_size": 64,
        "validation": {"fraction": 0.1},
        "checkpoints": {"every_steps": 5, "keep_last": 20},
        "train": {**train, **changes.pop("train", {})},
        **changes,
    }


def text_rows(num=60):
    return [{"text": f"def {NAMES[i % 10]}_{i}(x):\n    return x + {i}\n" * 4} for i in range(num)]


def weights(folder: Path):
    """The bytes of the saved weights or adapter."""
    return next(folder.glob("*.safetensors")).read_bytes()
