"""A disk that is full while a checkpoint is written."""

import pytest

from tests.work.conftest import chat_rows, make_folder, sft_recipe, weights

pytestmark = pytest.mark.slow


def test_a_full_disk_ends_the_run_with_that_sentence_and_harms_no_earlier_checkpoint(small_disk):
    recipe = sft_recipe(train={"max_steps": 400}, checkpoints={"every_steps": 3, "keep_last": 400})
    job = make_folder(small_disk, recipe, chat_rows())
    assert job.run() == 1
    assert "the disk is full" in job.sentence
    steps = job.dir.checkpoint_steps()
    assert len(steps) > 1
    assert not [path for path in job.dir.root.glob("checkpoint-*") if int(path.name[11:]) not in steps]
    for step in steps:
        assert weights(job.dir.checkpoint(step))
    from codex_space.work.checkpoint import verify

    for step in steps:
        verify(job.dir.checkpoint(step))


def test_with_room_again_the_run_goes_on(small_disk):
    recipe = sft_recipe(train={"max_steps": 60}, checkpoints={"every_steps": 3, "keep_last": 400})
    job = make_folder(small_disk, recipe, chat_rows())
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(6_000_000))
    assert job.run() == 1
    assert "the disk is full" in job.sentence
    ballast.unlink()
    steps = job.dir.checkpoint_steps()
    assert job.run(attempt=2, resume_from_step=steps[-1] if steps else 0) == 0
    assert job.said("done")[-1]["step"] == 60
