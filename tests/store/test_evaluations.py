"""Rows of evaluations: begun, counted, ended, begun anew."""

import pytest

from codex_space.store import evaluations, runs


def begin(db, run, step=10, benchmark="first-steps", at=100.0, target=None):
    evaluations.start(
        db, run.id, step, benchmark, target=target or (run.id, step), num_samples=4, protocol="greedy", now=at
    )
    return evaluations.read_evaluation(db, run.id, step, benchmark)


def take(db, row, sample, task_id="first/1", **counts):
    counts = {"num_graded": 1, "num_passed": 0, "num_live": 0, **counts}
    evaluations.add_verdict(db, row, {"task_id": task_id, "sample": sample, "why": "\ud800"}, **counts)


def test_verdicts_are_kept_by_problem_and_go_with_their_evaluation(db, new_run):
    run = new_run()
    row, other = begin(db, run), begin(db, run, step=20)
    for sample in (1, 0, 0):
        take(db, row, sample)
    take(db, row, 0, "first/2")
    take(db, other, 0)
    assert [each["sample"] for each in evaluations.list_verdicts(db, row, "first/1")] == [0, 1]
    assert len(evaluations.list_verdicts(db, row)) == 3
    evaluations.drop_verdicts(db, row)
    assert evaluations.list_verdicts(db, row) == []
    runs.delete_run(db, run.id)
    assert db.query("SELECT * FROM verdicts") == []


def test_a_verdict_on_answers_begun_anew_is_not_kept(db, new_run):
    run = new_run()
    old = begin(db, run)
    take(db, old, 0)
    new = begin(db, run, at=200.0)
    take(db, old, 1)
    assert evaluations.list_verdicts(db, new) == []


def test_an_evaluation_goes_from_waiting_to_its_scores(db, new_run):
    run = new_run()
    row = begin(db, run)
    assert (row.state, row.num_samples, row.num_graded, row.scores) == ("waiting", 4, 0, [])
    take(db, row, 0, num_graded=3, num_passed=2, num_live=1)
    evaluations.finish(db, row, [{"name": "first-steps", "value": 0.5, "low": 0.1, "high": 0.9}])
    row = evaluations.read_evaluation(db, run.id, 10, "first-steps")
    assert (row.state, row.num_graded, row.num_passed, row.num_live) == ("done", 3, 2, 1)
    assert row.scores[0]["value"] == 0.5
    assert evaluations.list_evaluations(db, state="waiting") == []


def test_answers_written_anew_make_what_was_graded_void(db, new_run):
    run = new_run()
    old = begin(db, run)
    new = begin(db, run, at=200.0)
    take(db, old, 0, num_graded=4, num_passed=4, num_live=0)
    evaluations.finish(db, old, [{"name": "stale"}])
    evaluations.fail(db, old, "stale")
    assert evaluations.read_evaluation(db, run.id, 10, "first-steps") == new


def test_lists_are_newest_first_and_of_one_target(db, new_run):
    trained, asked = new_run(), new_run()
    begin(db, trained, 10, at=1.0)
    begin(db, trained, 20, at=2.0)
    begin(db, asked, 0, at=3.0, target=(trained.id, 20))
    begin(db, asked, 0, "mbpp", at=4.0, target=(None, 0))
    assert [row.started_at for row in evaluations.list_evaluations(db)] == [4.0, 3.0, 2.0, 1.0]
    assert [row.started_at for row in evaluations.list_evaluations(db, target_run=trained.id)] == [3.0, 2.0, 1.0]
    assert [row.step for row in evaluations.of_writer(db, trained.id)] == [10, 20]


def test_a_deleted_run_takes_its_evaluations_along(db, new_run):
    run = new_run()
    begin(db, run)
    runs.change_state(db, run.id, "stopped", now=1.0)
    runs.delete_run(db, run.id)
    assert evaluations.list_evaluations(db) == []


def test_a_run_that_is_not_there_or_a_state_that_does_not_exist_is_refused(db, new_run):
    run = new_run()
    with pytest.raises(Exception, match="FOREIGN KEY"):
        evaluations.start(db, "nobody", 1, "x", target=(None, 0), num_samples=1, protocol="", now=1.0)
    begin(db, run)
    with pytest.raises(Exception, match="CHECK"):
        evaluations._update(db, evaluations.read_evaluation(db, run.id, 10, "first-steps"), "state = ?", ("well",))
