"""Completing, linking, rotating and verifying checkpoint folders, without a trainer."""

import hashlib
import json

import pytest

from codex_space.core.errors import TrainingError
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.sections import CheckpointsSection
from codex_space.work import checkpoint


def _folder(job: JobDir, step: int, **metrics: float):
    folder = job.checkpoint(step)
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "training_args.bin", "README.md"):
        (folder / name).write_bytes(f"{name} {step}".encode())
    size = checkpoint.complete(folder, metrics, run_id="run", step=step, kind="sft", base_model="a/b")
    return folder, size


@pytest.fixture
def job(tmp_path):
    return JobDir(tmp_path / "job")


def test_the_manifest_holds_size_and_hash_of_every_file_and_names_those_of_the_resume(job):
    folder, size = _folder(job, 3, eval_loss=1.5)
    manifest = json.loads((folder / MANIFEST).read_text())
    content = b"model.safetensors 3"
    assert manifest["files"]["model.safetensors"] == {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert manifest["resume_files"] == ["optimizer.pt"]
    assert manifest["metrics"] == {"eval_loss": 1.5}
    assert size == sum(fact["size"] for fact in manifest["files"].values())


def test_pickles_and_drafts_of_other_programs_do_not_stay(job):
    folder, _ = _folder(job, 3)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "optimizer.pt", MANIFEST}


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "kept"),
    [(1, 0, [5]), (2, 0, [4, 5]), (1, 1, [2, 5]), (1, 2, [2, 3, 5]), (9, 9, [1, 2, 3, 4, 5])],
)
def test_rotation_keeps_the_newest_and_the_best(job, keep_last, keep_best, kept):
    for step, loss in enumerate((5.0, 1.0, 2.0, 3.0, 4.0), start=1):
        _folder(job, step, eval_loss=loss)
    checkpoint.rotate(job, CheckpointsSection(keep_last=keep_last, keep_best=keep_best))
    assert job.checkpoint_steps() == kept


def test_rotation_leaves_what_another_run_asked_for_until_it_is_let_go(job):
    for step in (1, 2, 3):
        _folder(job, step)
    job.asked(1).parent.mkdir()
    job.asked(1).touch()
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=0))
    assert job.checkpoint_steps() == [1, 3]
    job.asked(1).unlink()
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=0))
    assert job.checkpoint_steps() == [3]


def _graded(job: JobDir, step: int, value: float):
    folder = job.evaluation(step, "first-steps")
    folder.mkdir(parents=True, exist_ok=True)
    scores = [{"name": "first-steps", "value": value}, {"name": "first-steps tier 1", "value": 1 - value}]
    (folder / "scores.json").write_text(json.dumps({"scores": scores}))


def test_the_best_by_pass_rate_is_the_highest_and_what_is_still_graded_stays(job):
    for step in range(1, 9):
        _folder(job, step, eval_loss=float(step))
    job.evaluation(7, "first-steps").mkdir(parents=True)
    for step, value in ((1, 0.2), (2, 0.6), (3, 0.4), (4, 0.1), (5, 0.0), (6, 0.3)):
        _graded(job, step, value)
    wanted = CheckpointsSection(keep_last=1, keep_best=1, metric="pass@1 first-steps")
    checkpoint.rotate(job, wanted)
    assert job.checkpoint_steps() == [2, 7, 8], "the best, the one whose answers are being graded, the newest"
    _graded(job, 7, 0.1)
    checkpoint.rotate(job, wanted)
    assert job.checkpoint_steps() == [2, 8]


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        ("mean_token_accuracy", 2),
        ("eval_mean_token_accuracy", 2),
        ("eval_rewards/margins", 2),
        ("rewards/accuracies", 2),
        ("rewards/chosen", 2),
        ("mean_reward", 2),
        ("eval_margin", 2),
        ("log_odds_ratio", 2),
        ("eval_loss", 1),
        ("loss", 1),
        ("entropy", 1),
        ("rewards/rejected", 1),
        ("eval_bits_per_byte", 1),
        ("kl", 1),
    ],
)
def test_the_best_by_any_logged_metric_is_the_one_its_name_means(job, metric, best):
    for step, value in ((1, -0.5), (2, 0.9), (3, 0.1)):
        _folder(job, step, **{metric: value})
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=1, metric=metric))
    assert job.checkpoint_steps() == [best, 3]


@pytest.mark.parametrize(
    ("metric", "threshold", "values", "ends"),
    [
        ("eval_loss", 0.0, (3.0, 2.0, 1.9, 1.8), False),
        ("eval_loss", 0.0, (3.0, 2.0, 2.1, 2.0), True),
        ("eval_loss", 0.0, (3.0, 2.0, 2.1, 1.9), False),
        ("eval_loss", 0.5, (3.0, 2.0, 1.9, 1.8), True),
        ("eval_loss", 0.5, (3.0, 2.7, 2.4, 2.1), False),  # small steps add up
        ("rewards/margins", 0.0, (0.1, 0.4, 0.3, 0.2), True),
        ("rewards/margins", 0.0, (0.1, 0.2, 0.3, 0.4), False),
        ("eval_loss", 0.0, (3.0,), False),
        ("eval_loss", 0.0, (), False),
    ],
)
def test_a_run_ends_early_once_nothing_improves_for_as_many_checkpoints(metric, threshold, values, ends):
    wanted = CheckpointsSection(metric=metric, early_stopping_patience=2, early_stopping_threshold=threshold)
    why = checkpoint.end_early(wanted, list(enumerate(values, start=1)))
    assert bool(why) == ends
    if ends and not threshold:
        assert "at step 2" in why
    assert not checkpoint.end_early(CheckpointsSection(metric=metric), list(enumerate(values, start=1)))


def test_grades_are_read_in_the_order_of_steps_and_none_from_beyond(job):
    for step, value in ((10, 0.2), (9, 0.6), (2, 0.4), (30, 0.1)):
        _graded(job, step, value)
    (job.root / "evaluations" / "step-x").mkdir()
    assert checkpoint.graded(job, "pass@1 first-steps", 10) == [(2, 0.4), (9, 0.6), (10, 0.2)]


def test_a_damaged_score_counts_as_none(job):
    _folder(job, 1)
    _folder(job, 2)
    job.evaluation(1, "first-steps").mkdir(parents=True)
    (job.evaluation(1, "first-steps") / "scores.json").write_text("{")
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=0, metric="pass@1 first-steps"))
    assert job.checkpoint_steps() == [2]


def test_checkpoints_without_the_metric_are_never_the_best(job):
    for step in (1, 2, 3):
        _folder(job, step)
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=2))
    assert job.checkpoint_steps() == [3]


def test_rotation_takes_nothing_from_the_spool(job):
    _folder(job, 1)
    checkpoint.spool(job, 1)
    _folder(job, 2)
    checkpoint.rotate(job, CheckpointsSection(keep_last=1, keep_best=0))
    assert not job.checkpoint(1).exists()
    assert (job.spooled(1) / "model.safetensors").read_bytes() == b"model.safetensors 1"
    assert (job.spooled(1) / MANIFEST).is_file()


def test_what_is_half_written_goes_and_what_is_complete_stays(job):
    _folder(job, 1)
    job.checkpoint(2).mkdir()
    (job.checkpoint(2) / "model.safetensors").write_bytes(b"half")
    (job.root / "checkpoint-notes").mkdir()
    assert checkpoint.remove_incomplete(job) == ["checkpoint-2"]
    assert job.checkpoint_steps() == [1]
    assert (job.root / "checkpoint-notes").is_dir()


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_a_damaged_file_is_named(job, damage):
    folder, _ = _folder(job, 1)
    path = folder / "optimizer.pt"
    checkpoint.verify(folder)
    match damage:
        case "changed":
            path.write_bytes(b"Optimizer.pt 1")
        case "cut":
            path.write_bytes(b"opt")
        case "missing":
            path.unlink()
    with pytest.raises(TrainingError, match=r"optimizer\.pt"):
        checkpoint.verify(folder)


def test_a_folder_without_a_manifest_is_not_gone_on_from(job):
    job.checkpoint(1).mkdir(parents=True)
    with pytest.raises(TrainingError, match="not complete"):
        checkpoint.verify(job.checkpoint(1))
