"""A run that was cut off anywhere ends as one that was not."""

import json
import random
import shutil

import pytest

from tests.work.conftest import (
    chat_rows,
    make_folder,
    pairs,
    pretrain_recipe,
    sft_recipe,
    text_rows,
    wait_until,
    weights,
)

pytestmark = pytest.mark.slow
DROPOUT = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
KINDS = {
    "packed sft": (sft_recipe(lora=DROPOUT, train={"packing": True}), chat_rows(200)),
    "dpo": (sft_recipe(kind="dpo", lora=DROPOUT), pairs()),
    "reward": (sft_recipe(kind="reward", lora=None), pairs()),
    "pretraining": (pretrain_recipe(train={"gradient_accumulation_steps": 2}), text_rows()),
    "pretraining, rows of best fit": (pretrain_recipe(train={"packing_strategy": "best_fit"}), text_rows()),
    "pretraining with AdamW": (pretrain_recipe(train={"optim": "adamw_torch_fused"}), text_rows()),
}
OTHER_ID = "20261121-001540-sft-bbbb"


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_run_ends_bit_identical_to_one_that_was_not(make_job, processes, name):
    recipe, rows = KINDS[name]
    whole = make_job(recipe, rows)
    assert whole.run() == 0
    killed = make_job(recipe, rows, OTHER_ID)
    moment = random.Random(name).randint(6, 18)
    process = killed.start()
    processes.append(process)
    wait_until(lambda: any(event["step"] >= moment for event in killed.said("log")), f"step {moment}")
    process.kill()
    process.wait()
    assert not killed.said("done")
    assert killed.resume() == 0
    assert 5 <= killed.said("attempt")[-1]["resumed_from_step"] <= 20
    assert killed.curve("loss") == whole.curve("loss")
    assert killed.curve("eval_loss") == whole.curve("eval_loss")
    assert weights(killed.dir.checkpoint(20)) == weights(whole.dir.checkpoint(20))


@pytest.mark.parametrize(("moment", "order"), [(1, "random"), (2, "random"), (2, "group_by_length")])
def test_a_stopped_run_ends_bit_identical_to_one_that_was_not(make_job, moment, order):
    """An evaluation draws random numbers: a stop must neither skip nor add any that a whole run would not."""
    train = {"max_steps": 6, "train_sampling_strategy": order}
    recipe = sft_recipe(lora=DROPOUT, checkpoints={"every_steps": moment, "keep_last": 20}, train=train)
    whole = make_job(recipe, chat_rows())
    assert whole.run() == 0
    halted = make_job(recipe, chat_rows(), OTHER_ID)
    halted.dir.stop_request.touch()
    assert halted.run() == 0
    assert halted.said("done")[0]["step"] == 1
    halted.dir.stop_request.unlink()
    assert halted.resume() == 0
    assert weights(halted.dir.checkpoint(6)) == weights(whole.dir.checkpoint(6))


WORSENS = sft_recipe(  # so high a rate that the validation loss soon rises
    lora=DROPOUT,
    checkpoints={"every_steps": 2, "keep_last": 20, "early_stopping_patience": 2},
    train={"max_steps": 40, "learning_rate": 0.3, "lr_scheduler_type": "constant"},
)


@pytest.fixture(scope="module")
def ended_early(tmp_path_factory):
    job = make_folder(tmp_path_factory.mktemp("early"), WORSENS, chat_rows())
    assert job.run() == 0
    return job


def test_a_run_ends_early_and_says_why(ended_early):
    losses = dict(ended_early.curve("eval_loss"))
    best = min(losses, key=losses.get)
    done = ended_early.said("done")[0]
    assert done["step"] == best + 4 == max(losses) == ended_early.dir.checkpoint_steps()[-1] < 40
    assert done["reason"].startswith("Ended early: eval_loss has not improved for 2 checkpoints")
    assert f"at step {best}" in done["reason"]
    assert "stopped" not in done


@pytest.mark.parametrize("back", [2, 0])
def test_a_run_cut_off_ends_early_at_the_same_step(make_job, ended_early, back):
    """Cut off before its end, and after its last checkpoint but before it could say so."""
    last = ended_early.said("done")[0]["step"]
    job = make_job(WORSENS, chat_rows())
    shutil.copytree(ended_early.dir.root, job.dir.root, dirs_exist_ok=True)
    for step in [step for step in job.dir.checkpoint_steps() if step > last - back]:
        shutil.rmtree(job.dir.checkpoint(step))
    assert job.resume() == 0
    assert [event["step"] for event in job.said("done")] == [last, last]
    assert job.said("done")[1]["reason"] == ended_early.said("done")[0]["reason"]
    assert weights(job.dir.checkpoint(last)) == weights(ended_early.dir.checkpoint(last))


def test_a_stop_at_a_checkpoint_loses_no_evaluation(make_job, ended_early, monkeypatch):
    """The one that was due is made up for at the start of the next attempt, also where it says that the run is over."""
    from codex_space.work.attempt import Attempt

    last = ended_early.said("done")[0]["step"]
    for number, moment in enumerate((2, last)):
        job = make_job(WORSENS, chat_rows(), f"20261121-00154{number}-sft-bbbb")
        with monkeypatch.context() as patch:
            patch.setattr(
                Attempt,
                "is_stop_asked",
                lambda _, job=job, at=moment: any(e["step"] >= at - 1 for e in job.said("log")),
            )
            assert job.run() == 0
        assert job.said("done")[0]["step"] == moment
        assert job.resume() == 0
        assert job.curve("eval_loss") == ended_early.curve("eval_loss")
        assert job.said("done")[1]["step"] == last
        assert weights(job.dir.checkpoint(last)) == weights(ended_early.dir.checkpoint(last))


def test_a_run_ends_early_by_what_the_owner_has_graded(make_job):
    recipe = sft_recipe(
        train={"max_steps": 8},
        evaluate={"benchmarks": ["first-steps"], "limit": 1, "max_new_tokens": 1},
        checkpoints={"every_steps": 2, "metric": "pass@1 first-steps", "early_stopping_patience": 1},
    )
    job = make_job(recipe, chat_rows())
    for step, value in ((0, 0.5), (2, 0.6), (4, 0.6)):
        scores = job.dir.evaluation(step, "graded") / "scores.json"
        scores.parent.mkdir(parents=True)
        scores.write_text(json.dumps({"scores": [{"name": "first-steps", "value": value}]}))
    assert job.run() == 0
    done = job.said("done")[0]
    assert done["step"] == 4 == job.dir.checkpoint_steps()[-1]
    assert "best was 0.6 at step 2" in done["reason"]


def test_a_resumed_curve_averages_the_same_steps_where_logs_and_checkpoints_do_not_meet(make_job):
    recipe = sft_recipe(train={"max_steps": 8, "logging_steps": 4}, checkpoints={"every_steps": 3, "keep_last": 20})
    job = make_job(recipe, chat_rows())
    assert job.run() == 0
    whole = job.curve("loss")
    assert job.run(attempt=2, resume_from_step=3) == 0
    assert job.curve("loss") == whole


def test_save_now_changes_nothing_in_what_comes_after(make_job):
    recipe = sft_recipe(lora=DROPOUT, train={"max_steps": 6}, checkpoints={"every_steps": 6})
    whole = make_job(recipe, chat_rows())
    assert whole.run() == 0
    saved = make_job(recipe, chat_rows(), OTHER_ID)
    saved.dir.save_request.touch()
    assert saved.run() == 0
    assert len(saved.said("checkpoint")) == 2
    assert weights(saved.dir.checkpoint(6)) == weights(whole.dir.checkpoint(6))


def test_what_a_kill_left_half_written_is_removed_and_not_resumed_from(make_job):
    job = make_job(sft_recipe(train={"max_steps": 5}, hub={"repo_id": "ada/model"}), chat_rows())
    assert job.run() == 0
    torn, torn_link = job.dir.checkpoint(6), job.dir.spool / ".step-6.tmp"
    for folder in (torn, torn_link):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"half")
    assert job.resume() == 0
    assert not torn.exists()
    assert not torn_link.exists()
    assert job.said("attempt")[-1]["resumed_from_step"] == 5


def test_a_damaged_checkpoint_is_named_instead_of_trained_on(make_job):
    job = make_job(sft_recipe(train={"max_steps": 6}), chat_rows())
    assert job.run() == 0
    (job.dir.checkpoint(5) / "optimizer.pt").write_bytes(b"other")
    assert job.run(attempt=2, resume_from_step=5) == 1
    assert "optimizer.pt is not what was saved" in job.sentence


def test_rows_changed_since_the_start_are_refused(make_job):
    job = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert job.run() == 0
    (job.dir.rows / "train.parquet").write_bytes(b"other rows")
    assert job.resume() == 1
    assert "rows were changed" in job.sentence
