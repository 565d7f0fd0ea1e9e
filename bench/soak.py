"""Runs killed with SIGKILL at random moments and resumed, against one never interrupted: the same weights, bit for bit.

`SOAK_KINDS=dpo,reward` picks, `SOAK_SEED` and `SOAK_KILLS` change what is tried; results of other kinds stay in soak.json.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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
KILLS_IN_A_RUN, EVENTS_BEFORE_TRAINING = 5, 5
MAX_DELAY_S = 0.06
"""A kill comes up to this long after the event it waits for: a save takes about as long."""
ATTEMPT_TIMEOUT_S = 300
_NAMES = ("apple", "bear", "cloud", "door", "earth", "fire", "glass", "house", "iron", "jar")


def main() -> dict[str, Any]:
    """Soak each kind; what was cut off goes on where it stood. Exits with 1 where one bit differs."""
    recipes = _recipes()
    picked = [name for name in os.environ.get("SOAK_KINDS", "").split(",") if name] or list(recipes)
    known = durable.read_json(RESULTS / "soak.json") or {}
    kinds = known.get("kinds", {}) if known.get("seed") == SEED else {}
    for name in picked:
        begun = kinds.get(name, {})
        with tempfile.TemporaryDirectory() as folder:
            for figures in _soak(
                name, *recipes[name], Path(folder), begun if begun.get("kills", KILLS) < KILLS else {}
            ):
                kinds[name] = figures
                told = {
                    "seed": SEED,
                    "steps": STEPS,
                    "checkpoint_every": SAVE_EVERY,
                    "kinds": dict(sorted(kinds.items())),
                }
                write_result("soak", told)
        print(
            f"{name}: {kinds[name]['kills']} kills, {kinds[name]['identical']} of {kinds[name]['runs']} runs identical"
        )
    if any(kinds[name]["identical"] != kinds[name]["runs"] for name in picked):
        raise SystemExit(1)
    return kinds


def _soak(
    name: str, recipe: dict[str, Any], rows: list[dict[str, Any]], folder: Path, begun: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Kill runs, each one several times before it may end; yield the figures so far after each run."""
    started = time.monotonic() - begun.get("seconds", 0)
    whole = _make(folder / "whole", recipe, rows)
    _attempt(whole, 1)
    wanted, curve = _weights(whole), _curve(whole)
    moments, differing, run = list(begun.get("moments", [])), list(begun.get("differing", [])), begun.get("runs", 0)
    while len(moments) < KILLS:
        run += 1
        chance = random.Random(f"{SEED} {name} {run}")
        job, attempt = _make(folder / f"run-{run}", recipe, rows), 0
        for after in _choose(chance, min(KILLS_IN_A_RUN, KILLS - len(moments))):
            attempt += 1
            delay_s = chance.uniform(0, MAX_DELAY_S)
            came_to = _attempt(job, attempt, after, delay_s)
            moments.append(f"run {run}, {1000 * delay_s:.0f} ms after {after}: {came_to}")
        _attempt(job, attempt + 1)
        if _weights(job) != wanted or _curve(job) != curve:
            differing.append(run)
        yield {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "runs": run,
            "kills": len(moments),
            "identical": run - len(differing),
            "differing": differing,
            "seconds": round(time.monotonic() - started),
            "moments": moments,
        }


def _choose(chance: random.Random, num: int) -> list[str]:
    """Return after what to kill: a log of a step, spread over the run, and once the n-th event before the first step."""
    steps = [f"step {step}" for step in sorted(chance.sample(range(1, STEPS), num - 1))]
    steps.insert(chance.randint(0, len(steps)), f"event {chance.randint(1, EVENTS_BEFORE_TRAINING)}")
    return steps


def _attempt(job: JobDir, number: int, after: str = "", delay_s: float = 0.0) -> str:
    """Run the worker from the newest checkpoint to its end, or kill it after a moment and return where it stood."""
    begun = _saved(job)
    durable.write_json(job.launch, {"attempt": number, "num_threads": 1, "offline": True, "resume_from_step": begun})
    before = len(read_events(job.events)[0]) if job.events.exists() else 0
    environ = worker_environ(os.environ, num_threads=1, offline=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "codex_space.work", str(job.root)], env=environ, stdout=log, stderr=log, cwd=REPO
        )
    deadline = time.monotonic() + ATTEMPT_TIMEOUT_S
    try:
        while process.poll() is None:
            new = read_events(job.events)[0][before:] if job.events.exists() else []
            if after and _has_come(after, new):
                time.sleep(delay_s)
                process.kill()
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"an attempt took longer than {ATTEMPT_TIMEOUT_S} s: {job.log.read_text()[-2000:]}")
            time.sleep(0.005)
    finally:
        process.kill()
        code = process.wait()
    if code != (-signal.SIGKILL if after else 0):
        raise RuntimeError(f"the worker ended with code {code} ({after}): {job.log.read_text()[-2000:]}")
    torn = any(int(path.name.partition("-")[2]) > _saved(job) for path in job.root.glob("checkpoint-*"))
    return f"resumed from {begun}, saved {_saved(job)}{', in the middle of a save' if torn else ''}"


def _has_come(after: str, events: list[dict[str, Any]]) -> bool:
    what, _, number = after.partition(" ")
    if what == "event":
        return len(events) >= int(number)
    return any(event["e"] == "log" and event["step"] >= int(number) for event in events)


def _make(root: Path, recipe: dict[str, Any], rows: list[dict[str, Any]]) -> JobDir:
    root.mkdir()
    path = root.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = JobDir(root)
    job.recipe.write_text(yaml.safe_dump({**recipe, "datasets": [{"path": str(path)}]}), encoding="utf-8")
    return job


def _saved(job: JobDir) -> int:
    return max(job.checkpoint_steps(), default=0)


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
        "sft-loop": ({**_recipe("sft", lora=lora, gradient_accumulation_steps=2), "engine": "loop"}, chats),
        "dpo": (_recipe("dpo", lora=lora), pairs),
        "reward": (_recipe("reward", lora=None), pairs),
        "pretrain": (
            {
                "kind": "pretrain",
                "architecture": "tiny",
                "tokenizer": "fresh:bytes",
                "block_size": 64,
                "validation": {"fraction": 0.1},
                "checkpoints": {"every_steps": SAVE_EVERY},
                "train": {
                    "max_steps": STEPS,
                    "per_device_train_batch_size": 4,
                    "learning_rate": 1e-2,
                    "logging_steps": 1,
                },
            },
            [{"text": f"def {name}_{number}(x):\n    return x + {number}\n" * 4} for number, name in names],
        ),
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
