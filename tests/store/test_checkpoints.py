"""Checkpoint rows and the order in which they go to the Hub."""

import pytest

from codex_space.store import checkpoints


def add(db, run, step, upload="queued", at=None):
    created_at = float(step) if at is None else at
    checkpoints.add_checkpoint(
        db, run.id, step, created_at=created_at, size_bytes=10, metrics={"eval_loss": 1.5}, upload=upload
    )


def due(db, now=1000.0):
    return [(row.run_id, row.step) for row in checkpoints.due_uploads(db, now)]


def test_a_checkpoint_comes_back_as_it_was_noted(db, new_run):
    run = new_run()
    add(db, run, 5)
    (row,) = checkpoints.list_checkpoints(db, run.id)
    assert (row.step, row.metrics, row.on_disk, row.upload, row.tries) == (5, {"eval_loss": 1.5}, True, "queued", 0)


def test_only_the_newest_of_each_run_is_due(db, new_run):
    first, second = new_run(), new_run()
    for step in (30, 10, 20):
        add(db, first, step)
    add(db, second, 5)
    assert due(db) == [(second.id, 5), (first.id, 30)]


def test_a_run_that_was_told_to_wait_waits_with_all_its_checkpoints(db, new_run):
    run, other = new_run(), new_run()
    add(db, run, 10)
    checkpoints.set_upload(db, run.id, 10, "queued", error="busy", tries=1, next_try_at=50.0)
    add(db, run, 20)
    add(db, other, 5)
    assert due(db, now=49.0) == [(other.id, 5)]
    assert due(db, now=50.0) == [(other.id, 5), (run.id, 20)]


def test_an_older_one_follows_when_the_newer_is_there_or_refused(db, new_run):
    run = new_run()
    add(db, run, 10)
    add(db, run, 20)
    checkpoints.set_upload(db, run.id, 20, "uploading")
    assert due(db) == []
    checkpoints.set_upload(db, run.id, 20, "failed", error="no right to write")
    assert due(db) == [(run.id, 10)]


def test_what_needs_no_upload_is_never_due(db, new_run):
    run = new_run()
    add(db, run, 1, upload="none")
    add(db, run, 2, upload="uploaded")
    assert due(db) == []
    assert checkpoints.next_steps_to_upload(db) == {}


def test_the_next_to_upload_is_the_newest_that_waits(db, new_run):
    first, second = new_run(), new_run()
    for step, upload in ((10, "queued"), (20, "uploading"), (30, "uploaded"), (40, "failed")):
        add(db, first, step, upload=upload)
    add(db, second, 10, upload="failed")
    assert checkpoints.next_steps_to_upload(db) == {first.id: 20, second.id: 0}


def test_a_restart_queues_again_what_was_on_its_way(db, new_run):
    run = new_run()
    add(db, run, 1)
    checkpoints.set_upload(db, run.id, 1, "uploading", tries=2)
    checkpoints.reset_uploading(db)
    (row,) = checkpoints.list_checkpoints(db, run.id)
    assert (row.upload, row.tries) == ("queued", 2)


def test_a_commit_once_known_is_kept(db, new_run):
    run = new_run()
    add(db, run, 1)
    checkpoints.set_upload(db, run.id, 1, "uploaded", commit_id="abc")
    checkpoints.set_upload(db, run.id, 1, "queued")
    assert checkpoints.list_checkpoints(db, run.id)[0].commit_id == "abc"


def test_a_checkpoint_made_again_is_uploaded_again(db, new_run):
    run = new_run()
    add(db, run, 1)
    checkpoints.set_upload(db, run.id, 1, "failed", error="x", tries=3)
    add(db, run, 1)
    (row,) = checkpoints.list_checkpoints(db, run.id)
    assert (row.upload, row.upload_error, row.tries) == ("queued", "", 0)


def test_rotation_on_disk_is_noted(db, new_run):
    run = new_run()
    for step in (1, 2, 3):
        add(db, run, step)
    checkpoints.set_on_disk(db, run.id, [2, 3])
    assert [row.on_disk for row in checkpoints.list_checkpoints(db, run.id)] == [False, True, True]


def test_an_upload_state_that_does_not_exist_is_refused(db, new_run):
    run = new_run()
    add(db, run, 1)
    with pytest.raises(Exception, match="CHECK constraint"):
        checkpoints.set_upload(db, run.id, 1, "lost in space")
