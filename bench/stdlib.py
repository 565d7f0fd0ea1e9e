"""Pretraining on the standard library from nothing, in bits a byte of held-out files, beside xz -9 on the same bytes."""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from bench.measure import REPO, write_result
from codex_space.core import durable
from codex_space.core.events import read_events
from codex_space.core.paths import JobDir
from codex_space.core.presets import read_recipe_text
from codex_space.jobs.launch import worker_environ

RECIPE = os.environ.get("BENCH_STDLIB", "pretrain/stdlib-cpu")


def main() -> None:
    """Run the recipe as the owner would and write its figures."""
    with tempfile.TemporaryDirectory() as folder:
        job = JobDir(Path(folder) / "runs" / "20261126-000000-pretrain-bnch")
        job.root.mkdir(parents=True)
        job.recipe.write_text(read_recipe_text(RECIPE), encoding="utf-8")
        durable.write_json(job.launch, {"attempt": 1, "num_threads": os.cpu_count(), "offline": True})
        with job.log.open("wb") as log:
            command = [sys.executable, "-m", "codex_space.work", str(job.root)]
            environ = worker_environ(os.environ, num_threads=os.cpu_count() or 1, offline=True)
            code = subprocess.run(command, env=environ, stdout=log, stderr=log, cwd=REPO, check=False).returncode
        if code:
            sys.exit(job.log.read_text(encoding="utf-8")[-2000:])
        figures = measure(job)
    print(json.dumps(figures))
    write_result("stdlib", figures)


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
