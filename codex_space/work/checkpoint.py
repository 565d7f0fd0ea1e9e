"""Complete a checkpoint folder (manifest last), link it for the Hub, and delete those no longer wanted."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.sections import CheckpointsSection
from codex_space.grade.library import PASS_RATE, SCORES

RESUME_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "trainer_state.json")
# training_args.bin is a pickle nobody reads back; README.md is a trainer's draft, the Hub gets a card of ours.
_UNWANTED = ("training_args.bin", "README.md")
GRADED_LATE = 2
_RANDOM_STATE = re.compile(r"rng_state_\d+\.pth")
# What accelerate writes beside the plain weights of a model that several processes share.
_SHARED_STATE = re.compile(
    r"(pytorch_model_fsdp|optimizer)(_\d+)?(\.bin|/.+)|global_step\d+/.+|latest|zero_to_(fp32|torch)\.py"
)
_FOLDER = re.compile(r"checkpoint-\d+")
_STEP_FOLDER = re.compile(r"step-(\d+)")


def is_for_resume(name: str) -> bool:
    """Whether only a resume reads this file of a checkpoint; of several processes each has a random state."""
    return name in RESUME_FILES or bool(_RANDOM_STATE.fullmatch(name) or _SHARED_STATE.fullmatch(name))


def complete(folder: Path, metrics: Mapping[str, float], **facts: Any) -> int:  # noqa: ANN401  # JSON values
    """Flush a checkpoint's files to disk, write its manifest with these facts last, and return its size in bytes."""
    for name in _UNWANTED:
        (folder / name).unlink(missing_ok=True)
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != MANIFEST):
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _flush_and_hash(path)}
    manifest = {
        "schema": 1,
        **facts,
        "metrics": dict(metrics),
        "resume_files": [name for name in files if is_for_resume(name)],
        "files": files,
    }
    _flush_folder(folder)
    durable.write_json(folder / MANIFEST, manifest)
    _flush_folder(folder)
    _flush_folder(folder.parent)
    return sum(fact["size"] for fact in files.values())


def amend(folder: Path, metrics: Mapping[str, float], **facts: Any) -> int:  # noqa: ANN401  # JSON values
    """Write the manifest of a complete checkpoint again, with what was learnt of it since, and return its size in bytes."""
    manifest = durable.read_json(folder / MANIFEST) or {}
    durable.write_json(folder / MANIFEST, {**manifest, **facts, "metrics": dict(metrics)})
    return sum(fact["size"] for fact in manifest["files"].values())


def spool(job: JobDir, step: int) -> None:
    """Hard-link a complete checkpoint for the uploader, so that rotation can lose nothing; whole or absent."""
    source, target = job.checkpoint(step), job.spooled(step)
    if target.exists():
        return
    temporary = job.spool / f".step-{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(exist_ok=True)
    shutil.copytree(source, temporary, copy_function=os.link)
    temporary.rename(target)
    _flush_folder(job.spool)


def rotate(job: JobDir, wanted: CheckpointsSection) -> None:
    """Keep the newest `keep_last` and the best `keep_best` checkpoints, those whose answers are still being graded, and those asked for."""
    steps = job.checkpoint_steps()
    is_pass_rate = wanted.metric.startswith(PASS_RATE)
    sign = -1 if wanted.higher_is_better else 1
    scores = {step: (_pass_rate if is_pass_rate else _score)(job, step, wanted.metric) for step in steps}
    ranked = sorted((sign * score, step) for step, score in scores.items() if score is not None)
    keep = {*steps[-wanted.keep_last :], *(step for _, step in ranked[: wanted.keep_best])}
    if is_pass_rate and wanted.keep_best:  # the owner grades beside the training: a verdict may be a few steps late
        late = steps[-wanted.keep_last - GRADED_LATE :]
        keep |= {step for step in late if scores[step] is None and job.evaluation(step, "").is_dir()}
    keep |= {step for step in steps if job.asked(step).exists()}
    for step in set(steps) - keep:
        delete(job.checkpoint(step))


def end_early(wanted: CheckpointsSection, judged: Sequence[tuple[int, float]]) -> str:
    """Return why a run ends here, from (step, metric) of its checkpoints so far; empty where it goes on."""
    if not wanted.early_stopping_patience or not judged:
        return ""
    sign = 1 if wanted.higher_is_better else -1
    (best_step, best), waited = judged[0], 0
    for step, value in judged[1:]:
        if sign * (value - best) > wanted.early_stopping_threshold:
            best_step, best, waited = step, value, 0
        else:
            waited += 1
    if waited < wanted.early_stopping_patience:
        return ""
    return f"Ended early: {wanted.metric} has not improved for {waited} checkpoints; best was {best:.4g} at step {best_step:,}"


def graded(job: JobDir, metric: str, up_to: int) -> list[tuple[int, float]]:
    """Return (step, `pass@1 NAME`) of what the owner has graded up to a step, in order."""
    found = (_STEP_FOLDER.fullmatch(path.name) for path in job.root.glob("evaluations/step-*"))
    steps = sorted(int(match[1]) for match in found if match)
    values = ((step, _pass_rate(job, step, metric)) for step in steps if step <= up_to)
    return [(step, value) for step, value in values if value is not None]


def delete(folder: Path) -> None:
    """Delete a checkpoint, its manifest first: half deleted, it does not count as one."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_incomplete(job: JobDir) -> list[str]:
    """Delete checkpoint folders without a manifest and half-made spool folders (a kill came in between).

    Returns their names.
    """
    found = [
        path
        for path in job.root.glob("checkpoint-*")
        if _FOLDER.fullmatch(path.name) and path.is_dir() and not (path / MANIFEST).is_file()
    ]
    found += job.spool.glob(".step-*.tmp")
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in found)


def verify(folder: Path) -> None:
    """Compare every file with the manifest before a run goes on from it.

    Raises:
        TrainingError: There is no manifest, or a file is missing or was changed.
    """
    manifest = durable.read_json(folder / MANIFEST)
    if manifest is None:
        raise TrainingError("this checkpoint is not complete", where=str(folder), cure="Resume from an earlier one.")
    for name, fact in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != fact["size"] or _hash(path) != fact["sha256"]:
            raise TrainingError(
                f"{name} is not what was saved",
                where=str(folder),
                cure="Delete this checkpoint's folder and Resume: the run goes on from the one before.",
            )


def rename_base(folder: Path, reference: str) -> None:
    """Write the recipe's reference, not this machine's path, as the base of a saved adapter."""
    path = folder / "adapter_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = reference
        durable.write_json(path, config)


def _score(job: JobDir, step: int, metric: str) -> float | None:
    value = ((durable.read_json(job.checkpoint(step) / MANIFEST) or {}).get("metrics") or {}).get(metric)
    return float(value) if isinstance(value, int | float) else None


def _pass_rate(job: JobDir, step: int, metric: str) -> float | None:
    """Return `pass@1 NAME` of a step from what the owner has graded so far.

    The file is the owner's copy of its database. A worker that changed it would only mislead its own choice of checkpoints: page
    and command line read the database. The programs that are graded run in the sandbox, out of reach of this folder.
    """
    for path in sorted(job.root.glob(f"evaluations/step-{step}/*/{SCORES}")):
        for score in (durable.read_json(path) or {}).get("scores", []):
            if PASS_RATE + str(score.get("name")) == metric:
                return float(score["value"])
    return None


def _flush_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
