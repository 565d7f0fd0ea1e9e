"""A run that was cut off anywhere ends as one that was not."""

import random

import pytest

from tests.work.conftest import chat_rows, pretrain_recipe, sft_recipe, text_rows, wait_until, weights

pytestmark = pytest.mark.slow
DROPOUT = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
KINDS = {
    "sft with dropout": (sft_recipe(lora=DROPOUT), chat_rows()),
    "packed sft": (sft_recipe(lora=DROPOUT, train={"packing": True}), chat_rows(200)),
    "pretraining": (pretrain_recipe(), text_rows()),
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


@pytest.mark.parametrize("moment", [1, 2])
def test_a_stopped_run_ends_bit_identical_to_one_that_was_not(make_job, moment):
    """An evaluation draws random numbers: a stop must neither skip nor add any that a whole run would not."""
    recipe = sft_recipe(lora=DROPOUT, checkpoints={"every_steps": moment, "keep_last": 20}, train={"max_steps": 6})
    whole = make_job(recipe, chat_rows())
    assert whole.run() == 0
    halted = make_job(recipe, chat_rows(), OTHER_ID)
    halted.dir.stop_request.touch()
    assert halted.run() == 0
    assert halted.said("done")[0]["step"] == 1
    halted.dir.stop_request.unlink()
    assert halted.resume() == 0
    assert weights(halted.dir.checkpoint(6)) == weights(whole.dir.checkpoint(6))


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
