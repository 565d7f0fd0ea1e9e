"""On a CUDA machine: peak memory, tokens/s and MFU of the recipes' shapes, what each option buys, and bare TRL beside it.

Models have random weights in the real shapes, so that nothing is downloaded; a run ends as soon as enough steps were
logged. `BENCH_GPU=tiny` does the same on a CPU with tiny models, to try the script. `BENCH_GPU_CASES` picks.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu_models import SHAPES, TINY, make_model, write_texts
from bench.measure import REPO, write_result
from codex_space.core import durable
from codex_space.core.hardware import find_gpu
from codex_space.core.paths import JobDir
from codex_space.jobs.launch import worker_environ

IS_TINY = os.environ.get("BENCH_GPU") == "tiny"
LIMIT_S = float(os.environ.get("BENCH_GPU_LIMIT_S", "520"))
"""No case is begun after this; what was measured until then is kept."""
CASE_S = 75.0
WARM_STEPS, TIMED_STEPS = 6, 10


@dataclass(frozen=True)
class Case:
    """One training: `train` are TRL's fields, `model` the recipe's section beside its path."""

    name: str
    shape: str
    lora: bool = True
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    rows: str = "long"
    kind: str = "sft"
    bare: bool = False

    @property
    def recipe(self) -> dict[str, Any]:
        """What the worker is given, without paths."""
        usual = {"max_steps": 200, "learning_rate": 1e-4, "logging_steps": 2, "max_length": 2048}
        lora = {"lora": {"r": 16, "lora_alpha": 32}} if self.lora else {}
        return {"kind": self.kind, **lora, "validation": {"fraction": 0}, "train": {**usual, **self.train}}


def _batch(size: int, **train: Any) -> dict[str, Any]:  # noqa: ANN401  # TRL's fields
    return {"per_device_train_batch_size": size, **train}


FIT = [
    Case("0.5b full", "0.5b", lora=False, train=_batch(8)),
    Case("0.5b lora", "0.5b", train=_batch(8)),
    Case("0.5b qlora", "0.5b", model={"load_in_4bit": True}, train=_batch(4)),
    Case("1.5b full", "1.5b", lora=False, train=_batch(4)),
    Case("1.5b lora", "1.5b", train=_batch(8)),
    Case("7b qlora", "7b", model={"load_in_4bit": True}, train=_batch(4)),
    Case("7b qlora 1024x2", "7b", model={"load_in_4bit": True}, train=_batch(2, max_length=1024)),
    Case("7b lora", "7b", train=_batch(4)),
    Case("1.5b lora no checkpointing", "1.5b", train=_batch(4, gradient_checkpointing=False)),
    Case("1.5b dpo lora", "1.5b", kind="dpo", rows="pairs", train=_batch(4)),
]
_MIXED = {"shape": "1.5b", "rows": "mixed"}
BUYS = [
    Case("rows as they are, batch 8", train=_batch(8), **_MIXED),
    Case("grouped by length, batch 8", train=_batch(8, train_sampling_strategy="group_by_length"), **_MIXED),
    Case("packing bfd, 1 x 8192", train=_batch(1, max_length=8192, packing=True), **_MIXED),
    Case("packing bfd, 4 x 2048", train=_batch(4, packing=True), **_MIXED),
    Case("packing wrapped, 8 x 2048", train=_batch(8, packing=True, packing_strategy="wrapped"), **_MIXED),
    Case(
        "wrapped, no checkpointing",
        train=_batch(8, packing=True, packing_strategy="wrapped", gradient_checkpointing=False),
        **_MIXED,
    ),
    Case(
        "wrapped, no checkpointing, compile",
        train=_batch(8, packing=True, packing_strategy="wrapped", gradient_checkpointing=False, torch_compile=True),
        **_MIXED,
    ),
    Case(
        "wrapped, eager attention",
        model={"attn_implementation": "eager"},
        train=_batch(8, packing=True, packing_strategy="wrapped"),
        **_MIXED,
    ),
    Case(
        "wrapped, adamw_8bit", train=_batch(8, packing=True, packing_strategy="wrapped", optim="adamw_8bit"), **_MIXED
    ),
]
_PEER = {"shape": "0.5b", "rows": "mixed", "train": _batch(16)}
PEER = [Case(f"{who} {number}", bare=who == "bare", **_PEER) for number in range(3) for who in ("ours", "bare")]
GROUPS = {"fit": FIT, "peer": PEER, "buys": BUYS}


def main() -> dict[str, object]:
    """Measure every case there is time for."""
    if IS_TINY:
        global CASE_S, WARM_STEPS, TIMED_STEPS
        CASE_S, WARM_STEPS, TIMED_STEPS = 120, 2, 4
    began = time.monotonic()
    # `fit,peer` are groups; `buys:eager` the cases of a group with that word in their name
    chosen = [part.partition(":") for part in os.environ.get("BENCH_GPU_CASES", ",".join(GROUPS)).split(",")]
    figures: dict[str, Any] = {"gpu": _gpu_name(), "left_out": []}
    # memory-backed where there is room: a 7B model is written and read once
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for group, _, word in chosen:
            figures.setdefault(group, {})
            for case in (case for case in GROUPS[group] if word in case.name):
                if time.monotonic() - began > LIMIT_S:
                    figures["left_out"].append(f"{group}: {case.name}")
                    continue
                figures[group][case.name] = found = _measure(case, folder)
                print(f"{time.monotonic() - began:5.0f}s {group}: {case.name}: {json.dumps(found)}", flush=True)
                write_result(os.environ.get("BENCH_GPU_NAME", "gpu"), figures)
    write_result(os.environ.get("BENCH_GPU_NAME", "gpu"), figures)
    return figures


def _measure(case: Case, folder: Path) -> dict[str, Any]:
    shape = TINY if IS_TINY else SHAPES[case.shape]
    base = folder / ("tiny" if IS_TINY else case.shape)
    num_parameters = make_model(shape, base)
    rows = write_texts(folder / f"{case.rows}.jsonl", case.rows)
    job = JobDir(Path(tempfile.mkdtemp(dir=folder)))
    recipe = {
        **case.recipe,
        "model": {"model_name_or_path": str(base), **case.model},
        "datasets": [{"path": str(rows)}],
    }
    if IS_TINY:
        recipe["train"] |= {
            "max_length": 1024 if case.kind == "dpo" else 128,
            "per_device_train_batch_size": 2,
            "torch_compile": False,
        }
    durable.write_text(job.recipe, json.dumps(recipe))
    durable.write_json(job.launch, {"attempt": 1, "num_threads": 2 if IS_TINY else 8, "offline": True})
    module = "bench.bare_gpu" if case.bare else "codex_space.work"
    environ = worker_environ(os.environ, num_threads=2 if IS_TINY else 8, offline=True)
    began = time.monotonic()
    with _memory_watch() as watch, job.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job.root)],
            stdout=log, stderr=log, env=environ, cwd=REPO, start_new_session=True,
        )  # fmt: skip
        logs, why = _follow(process, job, began + CASE_S * (2 if case.train.get("torch_compile") else 1))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    timed = [entry for entry in logs if entry["step"] > WARM_STEPS]
    if len(timed) < 2:
        return {"failed": why or "too few steps in the time", "log": job.log.read_text(errors="replace")[-600:]}
    speed = statistics.median(entry["tokens_per_s"] for entry in timed)
    return {
        "tokens_per_s": round(speed),
        "mfu": _mfu(case, shape, num_parameters, speed),
        "allocated_gib": round(max(entry["memory_mib"] for entry in logs) / 1024, 3),
        "process_gib": round((watch["peak"] - watch["before"]) / 2**30, 3),
        "first_log_s": round(logs[0]["after_s"], 1),
        "steps": logs[-1]["step"],
    }


def _follow(process: "subprocess.Popen[bytes]", job: JobDir, until: float) -> tuple[list[dict[str, float]], str]:
    """Return what was logged until there are enough steps, and why there are not."""
    began = time.monotonic()
    seen: dict[int, dict[str, float]] = {}
    while time.monotonic() < until:
        for line in job.events.read_text().splitlines() if job.events.is_file() else []:
            event = json.loads(line) if line.endswith("}") else {}
            if event.get("e") == "failed":
                return list(seen.values()), event["what"]
            if event.get("e") == "log" and "tokens_per_s" in event["metrics"]:
                step = event["step"]
                seen.setdefault(step, {**event["metrics"], "step": step, "after_s": time.monotonic() - began})
        if max(seen, default=0) >= WARM_STEPS + TIMED_STEPS:
            break
        if process.poll() is not None:
            return list(seen.values()), f"it ended with code {process.returncode}"
        time.sleep(0.05)
    return list(seen.values()), ""


def _mfu(case: Case, shape: dict[str, Any], num_parameters: int, tokens_per_s: float) -> float | None:
    """Useful work over the peak: 6N a token in full, 4N with a frozen base, and 6·L·h·d·T for causal attention (PaLM, B)."""
    known = find_gpu(_gpu_name())
    if known is None:
        return None
    length = min(case.recipe["train"]["max_length"], 2048)
    attention = 6 * shape["num_hidden_layers"] * shape["hidden_size"] * length
    flops = (4 if case.lora else 6) * num_parameters + attention
    return round(flops * tokens_per_s / (known["tflops"] * 1e12), 4)


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


@contextlib.contextmanager
def _memory_watch() -> Iterator[dict[str, int]]:
    """Yield the most memory the whole GPU held, as nvidia-smi counts it (context and cache included), and what it held before."""
    found = {"before": 0, "peak": 0}
    done = threading.Event()
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:
        yield found
        return

    def used() -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)

    def watch() -> None:
        while not done.wait(0.02):
            found["peak"] = max(found["peak"], used())

    found["before"] = found["peak"] = used()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
