"""Runs killed with SIGKILL at random moments and resumed, against one never interrupted: the same weights, bit for bit.

`SOAK_KINDS=dpo,reward` picks, `SOAK_SEED` and `SOAK_KILLS` change what is tried; results of other kinds stay in soak.json.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from bench.measure import REPO, RESULTS, write_result
from codex_space.core import durable
from codex_space.core.events import current_events, read_events
from codex_space.core.paths import JobDir
from codex_space.jobs.launch import worker_environ

SEED = int(os.environ.get("SOAK_SEED", "4"))
KILLS = int(os.environ.get("SOAK_KILLS", "20"))
STEPS, SAVE_EVERY = 60, 6
MAX_DELAY_S = 0.06
"""A kill comes up to this long after the event it waits for: a save takes about as long."""
ATTEMPT_TIMEOUT_S = 300
_NAMES = ("apple", "bear", "cloud", "door", "earth", "fire", "glass", "house", "iron", "jar")


def main() -> dict[str, Any]:
    """Soak each kind; exit with 1 where one bit differs."""
    recipes = _recipes()
    picked = [name for name in os.environ.get("SOAK_KINDS", "").split(",") if name] or list(recipes)
    known = durable.read_json(RESULTS / "soak.json") or {}
    kinds = {name: figures for name, figures in known.get("kinds", {}).items() if name in recipes}
    for name in picked:
        with tempfile.TemporaryDirectory() as folder:
            kinds[name] = _soak(name, *recipes[name], Path(folder))
        figures = {"seed": SEED, "steps": STEPS, "checkpoint_every": SAVE_EVERY, "kinds": dict(sorted(kinds.items()))}
        write_result("soak", figures)
        print(
            f"{name}: {kinds[name]['kills']} kills, {kinds[name]['identical']} of {kinds[name]['runs']} runs identical"
        )
    if any(kinds[name]["identical"] != kinds[name]["runs"] for name in picked):
        raise SystemExit(1)
    return kinds


def _soak(name: str, recipe: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Kill runs one after the other until there were enough kills; each one goes on until it is whole."""
    started, chance = time.monotonic(), random.Random(f"{SEED} {name}")
    whole = _make(folder / "whole", recipe, rows)
    _attempt(whole, 1)
    wanted, curve = _weights(whole), _curve(whole)
    num_events = len(read_events(whole.events)[0])
    moments: list[str] = []
    differing: list[int] = []
    runs = 0
    while len(moments) < KILLS:
        runs += 1
        job, attempt = _make(folder / f"run-{runs}", recipe, rows), 1
        while len(moments) < KILLS:
            left = num_events * (STEPS - _saved(job)) // STEPS
            event, delay_s = chance.randint(1, max(1, left)), chance.uniform(0, MAX_DELAY_S)
            killed_at = _attempt(job, attempt, event, delay_s)
            if killed_at is None:
                break
            where = f"run {runs} attempt {attempt}: {1000 * delay_s:.0f} ms after its event {event}"
            moments.append(f"{where}; {killed_at}")
            attempt += 1
        if _saved(job) < STEPS or not _is_done(job):
            _attempt(job, attempt)
        if _weights(job) != wanted or _curve(job) != curve:
            differing.append(runs)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "runs": runs,
        "kills": len(moments),
        "identical": runs - len(differing),
        "differing": differing,
        "weights_sha256": hashlib.sha256(wanted).hexdigest(),
        "seconds": round(time.monotonic() - started),
        "moments": moments,
    }


def _attempt(job: JobDir, number: int, event: int | None = None, delay_s: float = 0.0) -> str | None:
    """Run the worker from the newest checkpoint to its end, or kill it after its n-th event and return where it stood."""
    durable.write_json(
        job.launch, {"attempt": number, "num_threads": 1, "offline": True, "resume_from_step": _saved(job)}
    )
    before = len(read_events(job.events)[0]) if job.events.exists() else 0
    environ = worker_environ(os.environ, num_threads=1, offline=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "codex_space.work", str(job.root)], env=environ, stdout=log, stderr=log, cwd=REPO
        )
    try:
        deadline = time.monotonic() + ATTEMPT_TIMEOUT_S
        while process.poll() is None:
            events = read_events(job.events)[0] if job.events.exists() else []
            if event is not None and len(events) - before >= event:
                time.sleep(delay_s)
                process.kill()
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"an attempt took longer than {ATTEMPT_TIMEOUT_S} s: {job.log.read_text()[-2000:]}")
            time.sleep(0.002)
    finally:
        process.kill()
        code = process.wait()
    if code == -9:
        events = read_events(job.events)[0]
        last = next((each for each in reversed(events) if "step" in each), {})
        torn = any(int(path.name.partition("-")[2]) > _saved(job) for path in job.root.glob("checkpoint-*"))
        return f"{events[-1]['e']} of step {last.get('step', 0)} written, saved {_saved(job)}{', a save cut off' if torn else ''}"
    if code:
        raise RuntimeError(f"the worker ended with code {code}: {job.log.read_text()[-2000:]}")
    return None


def _make(root: Path, recipe: dict[str, Any], rows: list[dict[str, Any]]) -> JobDir:
    root.mkdir()
    path = root.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = JobDir(root)
    job.recipe.write_text(yaml.safe_dump({**recipe, "datasets": [{"path": str(path)}]}), encoding="utf-8")
    return job


def _saved(job: JobDir) -> int:
    return max(job.checkpoint_steps(), default=0)


def _is_done(job: JobDir) -> bool:
    return any(event["e"] == "done" for event in read_events(job.events)[0])


def _weights(job: JobDir) -> bytes:
    (path,) = job.checkpoint(STEPS).glob("*.safetensors")
    return path.read_bytes()


def _curve(job: JobDir) -> list[tuple[int, float]]:
    logs = [event for event in current_events(read_events(job.events)[0]) if event["e"] == "log"]
    return [(log["step"], log["metrics"]["loss"]) for log in logs if "loss" in log["metrics"]]


def _recipes() -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return recipe and rows of each kind: dropout and packing for SFT, adapters for DPO, all weights for reward."""
    names = [(number, _NAMES[number % len(_NAMES)]) for number in range(200)]
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"Write {name}{number}."},
                {"role": "assistant", "content": f"def {name}():\n    return {number}"},
            ]
        }
        for number, name in names
    ]
    pairs = [
        {"prompt": f"Add one to {name}{number}.", "chosen": f"return {number} + 1", "rejected": f"print {number} - 1"}
        for number, name in names
    ]
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    return {
        "sft-packed": (_recipe("sft", lora=lora, packing=True, gradient_accumulation_steps=2), chats),
        "dpo": (_recipe("dpo", lora=lora), pairs),
        "reward": (_recipe("reward", lora=None), pairs),
    }


def _recipe(kind: str, lora: dict[str, Any] | None, **train: Any) -> dict[str, Any]:  # noqa: ANN401  # TRL's fields
    usual = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-3,
        "max_length": 128,
        "logging_steps": 1,
    }
    return {
        "kind": kind,
        "model": {"model_name_or_path": "fresh:tiny"},
        "lora": lora,
        "validation": {"fraction": 0.1},
        "checkpoints": {"every_steps": SAVE_EVERY},
        "train": {**usual, **train},
    }
