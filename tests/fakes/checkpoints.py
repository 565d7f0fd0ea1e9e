"""Checkpoint folders as a worker leaves them: files, then the manifest last."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from codex_space.core.paths import MANIFEST

RUN_ID = "20261121-001530-sft-k3f9"
OTHER_RUN_ID = "20261122-001530-sft-m4g8"
TOKENIZER_ID = "20261120-001530-tokenizer-t2k9"
RESUME_FILES = ("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")
RECIPE = (
    "schema: 1\nkind: sft\nname: first\nmodel: {model_name_or_path: ada/base}\nlora: {r: 4}\n"
    "datasets: [{path: sample:python-first-chat}]\nhub: {repo_id: ada/model}\n"
)


def write_checkpoint(
    folder: Path, step: int, *, run_id: str = RUN_ID, size_bytes: int = 2000, extra: dict[str, bytes] | None = None
) -> Path:
    """Write a complete checkpoint whose bytes depend on the run and the step."""
    folder.mkdir(parents=True)
    seed = f"{run_id} {step} ".encode()
    files = {
        "adapter_model.safetensors": (seed * (size_bytes // len(seed) + 1))[:size_bytes],
        "adapter_config.json": b'{"peft_type": "LORA"}',
        "tokenizer.json": b'{"model": {}}',
        "optimizer.pt": b"optimizer " + seed * 50,
        "scheduler.pt": b"scheduler " + seed,
        "rng_state.pth": b"rng " + seed,
        "trainer_state.json": json.dumps({"global_step": step}).encode(),
        **(extra or {}),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    _complete(folder, files, run_id=run_id, step=step, kind="sft", base_model="ada/base", resume=RESUME_FILES)
    return folder


def write_tokenizer(folder: Path, run_id: str = TOKENIZER_ID, kind: str = "tokenizer") -> Path:
    """Write what a tokenizer run leaves: its checkpoint of step 0."""
    folder.mkdir(parents=True)
    files = {"tokenizer.json": b'{"model": {"type": "BPE"}}', "tokenizer_config.json": b"{}", "words.txt": b"a b c"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    _complete(folder, files, run_id=run_id, step=0, kind=kind, base_model="")
    return folder


def _complete(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    run_id: str,
    step: int,
    kind: str,
    base_model: str,
    resume: Sequence[str] = (),
) -> None:
    facts = {name: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    manifest = {
        "schema": 1, "run_id": run_id, "step": step, "kind": kind, "base_model": base_model,
        "metrics": {"eval_loss": 1.0 / (step + 1)}, "resume_files": list(resume), "files": facts,
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
