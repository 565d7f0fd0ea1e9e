"""Tokens per second of our SFT, with TRL's engine and our own, of the same TRL script bare, and of LLaMA-Factory in its own venv.

Same model, rows and settings, in turn, in one run. All rows but one are longer than max_length, so that each step is
the same number of tokens for all. `LLAMAFACTORY_PYTHON` names the interpreter of the last (README says what it needs).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import REPO, clean_environ, quartiles, write_result
from bench.training import BATCH, make_base, recipe_text, write_rows

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
STEPS, MAX_LENGTH = 40, 256
LLAMAFACTORY = os.environ.get("LLAMAFACTORY_PYTHON", "")
LOOK_EVERY_S = 0.02
RUN_TIMEOUT_S = 240


def main() -> dict[str, Any]:
    """Measure from the first to the last logged step, at the moments when each log line appears."""
    speeds: dict[str, list[float]] = {}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, rows = make_base(folder / "base"), _long_rows(folder)
        peers = {"trl": _trl, **({"llamafactory": _llamafactory} if LLAMAFACTORY else {})}
        runs = {"ours": _ours, "ours, engine: loop": _ours_by_loop, **peers}
        for number in range(ROUNDS):
            order = list(runs)[number % len(runs) :] + list(runs)[: number % len(runs)]
            for each in order:
                out = folder / f"{each}-{number}"
                out.mkdir()
                speeds.setdefault(each, []).append(BATCH * MAX_LENGTH / runs[each](base, rows, out))
            figures = _figures(speeds)
            write_result("throughput", figures)  # after each round: a run that is cut off keeps those before
    return figures


def _figures(speeds: dict[str, list[float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "steps": STEPS,
        "tokens_in_a_step": BATCH * MAX_LENGTH,
        "tokens_per_s": {name: quartiles(values) for name, values in speeds.items()},
        **{
            f"{mine}_to": {
                name: quartiles(_ratios(speeds, mine, name)) for name in speeds if not name.startswith("ours")
            }
            for mine in speeds
            if mine.startswith("ours")
        },
        "goal": {"trl": 0.98, "llamafactory": "above 1"},
    }
    return {**figures, **({"llamafactory_versions": _versions()} if LLAMAFACTORY else {})}


def _ratios(speeds: dict[str, list[float]], ours: str, name: str) -> list[float]:
    return [mine / theirs for mine, theirs in zip(speeds[ours], speeds[name], strict=True)]


def _long_rows(folder: Path) -> Path:
    """Write rows that are longer than any of the trainers keeps: 1,200 characters of code are over 256 tokens.

    The first is shorter, since our worker refuses rows of which none shows how an answer ends.
    """
    path = write_rows(folder / "all.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if len(row["completion"]) == 900 and len(row["prompt"]) == 300]
    kept[0] = {"prompt": kept[0]["prompt"][:100], "completion": kept[0]["completion"][:200]}
    out = folder / "rows.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return out


def _ours(base: Path, rows: Path, out: Path, engine: str = "trl") -> float:
    command = [sys.executable, "-m", "codex_space", "train", "-", "--workspace", str(out / "workspace")]
    recipe = recipe_text(base, rows, "throughput", STEPS) + f"engine: {engine}\n"
    return _step_s(command, out, lambda: _lines(out / "workspace" / "runs", "events.jsonl", '"loss"'), recipe)


def _ours_by_loop(base: Path, rows: Path, out: Path) -> float:
    return _ours(base, rows, out, "loop")


def _trl(base: Path, rows: Path, out: Path) -> float:
    command = [sys.executable, "-u", "-m", "bench.bare_sft", str(base), str(rows), str(out / "run"), str(STEPS)]
    return _step_s(command, out, lambda: _lines(out, "stdout", "'grad_norm'"))


def _llamafactory(base: Path, rows: Path, out: Path) -> float:
    """Run `llamafactory.cli train`; its template `default` marks turns about as long as ours."""
    described = {"file_name": str(rows), "columns": {"prompt": "prompt", "response": "completion"}}
    (out / "dataset_info.json").write_text(json.dumps({"rows": described}), encoding="utf-8")
    config = {
        "stage": "sft", "do_train": True, "model_name_or_path": str(base), "dataset": "rows", "dataset_dir": str(out),
        "template": "default", "cutoff_len": MAX_LENGTH, "finetuning_type": "lora", "lora_rank": 8, "lora_alpha": 16,
        "lora_dropout": 0.0, "lora_target": "all", "output_dir": str(out / "run"), "max_steps": STEPS,
        "per_device_train_batch_size": BATCH, "gradient_accumulation_steps": 1, "learning_rate": 1e-3,
        "lr_scheduler_type": "linear", "logging_steps": 1, "save_steps": STEPS // 2, "seed": 42, "bf16": False,
        "fp16": False, "use_cpu": True, "disable_gradient_checkpointing": True, "report_to": "none",
        "dataloader_pin_memory": False, "plot_loss": False, "optim": "adamw_torch_fused", "max_grad_norm": 1.0,
    }  # fmt: skip
    (out / "train.yaml").write_text(json.dumps(config), encoding="utf-8")
    command = [LLAMAFACTORY, "-m", "llamafactory.cli", "train", str(out / "train.yaml")]
    return _step_s(command, out, lambda: _lines(out / "run", "trainer_log.jsonl", '"loss"'))


def _step_s(command: list[str], out: Path, count: Callable[[], int], given: str | None = None) -> float:
    """Return the mean seconds of a step, from the first log line seen to the last."""
    seen: list[tuple[int, float]] = []
    environ = {
        **clean_environ(),
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "TOKENIZERS_PARALLELISM": "false",
    }
    with (out / "stdout").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environ, cwd=REPO
        )
    try:
        assert process.stdin is not None  # opened with a pipe above
        process.stdin.write((given or "").encode())
        process.stdin.close()
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            num = count()
            if num and (not seen or num > seen[-1][0]):
                seen.append((num, time.monotonic()))
            time.sleep(LOOK_EVERY_S)
    finally:
        process.kill()
        code = process.wait()
    if code or not seen or seen[-1][0] < STEPS:
        raise RuntimeError(f"{command} ended with code {code}: {(out / 'stdout').read_text()[-3000:]}")
    (first, began), (last, ended) = seen[0], next(each for each in seen if each[0] >= STEPS)
    return (ended - began) / (last - first)


def _lines(folder: Path, name: str, mark: str) -> int:
    """Return how many lines of the file with that name somewhere under the folder hold the mark."""
    path = next(folder.rglob(name), None) if folder.is_dir() else None
    return path.read_text(encoding="utf-8", errors="ignore").count(mark) if path else 0


def _versions() -> dict[str, str]:
    code = "import json, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in %r}))"
    packages = ("llamafactory", "torch", "transformers", "trl", "peft", "accelerate")
    done = subprocess.run([LLAMAFACTORY, "-c", code % (packages,)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
