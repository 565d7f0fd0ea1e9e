"""The estimate against what was measured: a worker's growth over its import baseline on this CPU, and bench/gpu.py's peaks.

A run on the CPU needs 2 GiB or more, or it says nothing. `python -m bench fit` writes fit-cpu.json and fit-gpu.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.gpu import GROUPS
from bench.gpu_models import SHAPES as GPU_SHAPES
from bench.gpu_models import write_texts
from bench.measure import REPO, RESULTS, clean_environ, write_result
from codex_space.core import durable
from codex_space.core.estimate import Estimate, estimate
from codex_space.core.hardware import list_hardware, make_cpu
from codex_space.core.memory import CPU_BASE_GIB, GIB
from codex_space.core.paths import JobDir
from codex_space.core.recipe import validate
from codex_space.core.shapes import read_shape

STEPS = 2
"""The second has the optimizer's state beside gradients and activations; more change nothing."""
_WIDE = {"vocab_size": 32768, "num_key_value_heads": 4, "num_attention_heads": 16, "max_position_embeddings": 4096}
SHAPES: dict[str, dict[str, Any]] = {
    "180M": {**_WIDE, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 9, "tie_word_embeddings": True},
    "0.5B": {
        "vocab_size": 151936, "num_key_value_heads": 2, "num_attention_heads": 14, "max_position_embeddings": 4096,
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "tie_word_embeddings": True,
    },
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "180M full, 2 x 256": {"shape": "180M", "lora": False, "batch": 2, "length": 256},
    "180M full, 4 x 512, checkpointing": {
        "shape": "180M",
        "lora": False,
        "batch": 4,
        "length": 512,
        "gradient_checkpointing": True,
    },
    "180M LoRA, 4 x 512": {"shape": "180M", "lora": True, "batch": 4, "length": 512},
    "180M LoRA, DPO, 2 pairs x 512": {"shape": "180M", "lora": True, "batch": 2, "length": 512, "kind": "dpo"},
    "180M LoRA, own loop, 4 x 512": {"shape": "180M", "lora": True, "batch": 4, "length": 512, "engine": "loop"},
    "0.5B LoRA, 1 x 512": {"shape": "0.5B", "lora": True, "batch": 1, "length": 512},
    "0.5B full, 1 x 128": {"shape": "0.5B", "lora": False, "batch": 1, "length": 128},
}


def main() -> dict[str, object]:
    """Measure every case and write both tables."""
    write_result("fit-gpu", {"runs": _against_gpu()})
    figures: dict[str, Any] = {}
    answer_s = _answer_s()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, settings in CASES.items():
            figures[case] = found = _measure(settings, folder)
            print(case, json.dumps(found), flush=True)
            write_result("fit-cpu", {"runs": figures, "answer_s": answer_s})
    return figures


def _against_gpu() -> dict[str, Any]:
    """Return the estimate beside each peak that bench/gpu.py measured: process_gib is what the driver counted."""
    measured = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))
    name = next((one for one in ("H200", "H100", "A100", "L4") if one in measured["gpu"]), "L4")
    hardware = next(one for one in list_hardware().values() if one.gpu == name)
    figures: dict[str, Any] = {}
    for group, cases in GROUPS.items():
        for case in cases:
            found = measured.get(group, {}).get(case.name, {})
            if case.bare or "process_gib" not in found or case.rows != "long":
                continue
            recipe = {
                **case.recipe,
                "model": {"model_name_or_path": "bench/model", **case.model},
                "datasets": [{"path": "bench/rows"}],
            }
            shape = read_shape({**GPU_SHAPES[case.shape], "model_type": "qwen2"}, case.shape)
            told = estimate(validate(recipe), shape, hardware, None)
            allocated = told.peak_gib - told.parts["overhead"]
            figures[case.name] = {
                "gpu": measured["gpu"],
                "measured_gib": found["process_gib"], "estimated_gib": told.peak_gib,
                "ratio": round(told.peak_gib / found["process_gib"], 3),
                "allocated_ratio": round(allocated / found["allocated_gib"], 3),
            }  # fmt: skip
    return figures


def describe(settings: dict[str, Any], base: Path, rows: Path) -> tuple[dict[str, Any], Estimate]:
    """Return the recipe of a case, and what is estimated for it."""
    recipe = {
        "kind": settings.get("kind", "sft"),
        "model": {"model_name_or_path": str(base)},
        **({"engine": settings["engine"]} if "engine" in settings else {}),
        **({"lora": {"r": 16, "lora_alpha": 32}} if settings["lora"] else {}),
        "datasets": [{"path": str(rows)}],
        "validation": {"fraction": 0},
        "checkpoints": {"every_steps": 1000},
        "train": {
            "max_steps": 50, "per_device_train_batch_size": settings["batch"], "max_length": settings["length"],
            "logging_steps": 1, **{name: value for name, value in settings.items() if name.startswith("gradient")},
        },
    }  # fmt: skip
    shape = read_shape({**SHAPES[settings["shape"]], "model_type": "qwen2"}, "bench")
    machine = make_cpu("bench", num_cores=2, ram_gib=64, disk_gib=1000)
    return recipe, estimate(validate(recipe), shape, machine, None)


def _measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    shape = SHAPES[settings["shape"]]
    base = folder / settings["shape"]
    if not base.is_dir():  # in a process of its own, which leaves nothing behind
        code = f"from pathlib import Path; from bench.gpu_models import make_model; make_model({shape!r}, Path({str(base)!r}))"
        subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, env=clean_environ())
    job = JobDir(Path(tempfile.mkdtemp(dir=folder)))
    recipe, expected = describe(settings, base, _write_rows(folder, settings.get("kind", "sft")))
    durable.write_text(job.recipe, json.dumps(recipe))
    durable.write_json(job.launch, {"attempt": 1, "num_threads": 2, "offline": True})
    with job.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "codex_space.work", str(job.root)], cwd=REPO, env=clean_environ(), stdout=log, stderr=log
        )  # fmt: skip
        baseline, peak, mapped = _watch(psutil.Process(process.pid), job)
        process.kill()
        process.wait()
    grown, told = (peak - baseline) / GIB, expected.peak_gib - CPU_BASE_GIB
    return {
        "measured_gib": round(grown, 3),
        "estimated_gib": round(told, 3),
        "ratio": round(told / grown, 3),
        "baseline_gib": round(baseline / GIB, 3),
        "file_pages_gib": round(mapped / GIB, 3),
        "parts": expected.parts,
    }


def _write_rows(folder: Path, kind: str) -> Path:
    """Rows that fill any length here, and a few that end: a set in which none does is refused."""
    long = write_texts(folder / "long.jsonl", "long").read_text(encoding="utf-8").splitlines()
    texts = [*(json.loads(line)["text"] for line in long[:200]), *["x = 1"] * 10]
    if kind == "dpo":
        rows = [{"prompt": "# code\n", "chosen": text, "rejected": f"# {text}"} for text in texts]
    else:
        rows = [{"text": text} for text in texts]
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _watch(process: psutil.Process, job: JobDir) -> tuple[int, int, int]:
    """Return resident bytes when the libraries were imported, the most until enough steps were logged, and its file pages."""
    baseline = peak = mapped = 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        resident = process.memory_info().rss
        text = job.events.read_text() if job.events.is_file() else ""
        if '"phase": "model"' not in text:
            baseline = resident
        if resident > peak:
            peak, mapped = resident, process.memory_info().shared
        if '"e": "failed"' in text:
            raise RuntimeError(text.splitlines()[-1])
        if f'"step": {STEPS},' in text:
            break
        time.sleep(0.005)
    return baseline, peak, mapped


def _answer_s() -> float:
    """Return the seconds `codex-space estimate --json` takes, start of Python included: the slowest of five."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as workspace:
        command = [
            sys.executable,
            "-m",
            "codex_space",
            "estimate",
            "sft/qwen2.5-coder-7b-qlora",
            "--hardware",
            "l4x1",
            "--json",
        ]
        for _ in range(5):
            began = time.monotonic()
            subprocess.run(
                [*command, "--workspace", workspace], cwd=REPO, check=True, capture_output=True, env=clean_environ()
            )
            slowest = max(slowest, time.monotonic() - began)
    return round(slowest, 3)
