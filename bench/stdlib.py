"""Pretraining on the standard library from nothing, in bits a byte of held-out files, beside xz -9 on the same bytes.

Then LoRA on MBPP (from ../shared/data or CODEX_TEST_DATA, where it is) and one question to the result, all by the command line.
"""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from bench.measure import REPO, clean_environ, write_result
from codex_space.core.events import read_events
from codex_space.core.paths import JobDir, Workspace

RECIPE = os.environ.get("BENCH_STDLIB", "pretrain/stdlib-cpu")
MBPP = Path(os.environ.get("CODEX_TEST_DATA", REPO.parent / "shared" / "data")) / "mbpp.jsonl.gz"
QUESTION = "Write a function to find the sum of all items in a list."


def main() -> None:
    """Run the recipe, and what follows it, as a person would, and write their figures."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        base = _train(workspace, RECIPE)
        figures: dict[str, Any] = measure(Workspace(workspace).job(base["run"]))
        print(json.dumps(figures), flush=True)
        if MBPP.is_file():
            figures["lora_on_mbpp"] = _tune(workspace, base["run"])
    print(json.dumps(figures))
    write_result("stdlib", figures)


def _tune(workspace: Path, base: str) -> dict[str, Any]:
    """Return what LoRA on MBPP comes to on that base, and what the result answers."""
    source = {"path": str(MBPP), "columns": {"prompt": "text", "completion": "code"}}
    overrides = [
        f"model.model_name_or_path=run:{base}",
        f"datasets={yaml.safe_dump([source], default_flow_style=True)}",
    ]
    tuned = _train(workspace, "sft/mbpp-cpu", *overrides)
    ask = ["chat", tuned["run"], "--prompt", QUESTION, "--max-new-tokens", "80", "--temperature", "0"]
    answer = _run(workspace, *ask).strip()
    return {**{name: tuned[name] for name in ("steps", "first_loss", "final_loss", "seconds")}, "answer": answer}


def _train(workspace: Path, recipe: str, *overrides: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_run(workspace, "train", recipe, *overrides, "--json"))
    if told["status"] != "succeeded":
        sys.exit(Workspace(workspace).job(told["run"]).log.read_text(encoding="utf-8")[-2000:])
    return told


def _run(workspace: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "codex_space", *arguments, "--workspace", str(workspace)]
    ended = subprocess.run(command, env=clean_environ(), stdout=subprocess.PIPE, text=True, cwd=REPO, check=False)
    if ended.returncode:
        sys.exit(f"{arguments[0]} ended with code {ended.returncode}")
    return ended.stdout


def measure(job: JobDir) -> dict[str, float | int | str]:
    """Return bits a byte of model and xz, and what the training took, from the run's own files."""
    texts = pq.read_table(job.rows / "validation.parquet").column("text").to_pylist()
    held = "".join(texts).encode()
    xz = 8 * len(lzma.compress(held, preset=9)) / len(held)
    events = read_events(job.events)[0]
    logs = [event for event in events if event["e"] == "log"]
    bits = [event["metrics"]["eval_bits_per_byte"] for event in logs if "eval_bits_per_byte" in event["metrics"]]
    trained = [event for event in logs if "loss" in event["metrics"]]
    began = next(event["t"] for event in events if event["e"] == "ready")
    speeds = sorted(event["metrics"]["tokens_per_s"] for event in trained if "tokens_per_s" in event["metrics"])
    return {
        "recipe": RECIPE,
        "held_out_files": len(texts),
        "held_out_bytes": len(held),
        "bits_per_byte": round(bits[-1], 4),
        "xz_bits_per_byte": round(xz, 4),
        "ratio_to_xz": round(bits[-1] / xz, 4),
        "steps": trained[-1]["step"],
        "training_s": round(trained[-1]["t"] - began, 1),
        "before_training_s": round(began - events[0]["t"], 1),
        "tokens_per_s": round(speeds[len(speeds) // 2]),
    }


if __name__ == "__main__":
    main()
