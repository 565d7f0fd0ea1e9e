"""Events become rows once and only once, whatever a worker writes."""

import json

import pytest

from codex_space.core.events import EventWriter
from codex_space.jobs.ingest import read_new_events
from codex_space.store import checkpoints, evaluations, metrics, runs


@pytest.fixture
def taken(bench):
    """A run whose worker is this test: lines go in, the run comes out."""
    run = bench.submit("ok")
    runs.change_state(bench.db, run.id, "preflight", now=1.0)

    def take(*lines, to_end=True):
        with bench.job(run).events.open("ab") as file:
            for line in lines:
                file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        return read_new_events(bench.db, bench.job(run), bench.read(run), now=9.0, to_end=to_end)

    take.run = run
    return take


def losses(bench, run):
    curve = metrics.read_curve(bench.db, run.id, "loss")
    return list(zip(curve.steps, curve.values, strict=True))


def log(step, loss, **more):
    return {"t": 1.0, "e": "log", "step": step, "metrics": {"loss": loss}, **more}


def test_ready_makes_a_run_running(bench, taken):
    after = taken({"t": 1, "e": "ready", "max_steps": 40, "num_rows": 5})
    assert (after.state, after.max_steps) == ("running", 40)


def test_ready_does_not_undo_a_stop(bench, taken):
    runs.change_state(bench.db, taken.run.id, "stopping", now=1.0)
    assert taken({"t": 1, "e": "ready", "max_steps": 40}).state == "stopping"


def test_a_phase_is_shown_until_training_starts(bench, taken):
    assert taken({"t": 1, "e": "phase", "phase": "loading", "detail": "the model"}).phase == "loading: the model"
    assert taken({"t": 1, "e": "phase", "phase": "tokenizing"}).phase == "tokenizing"
    assert taken({"t": 1, "e": "ready", "max_steps": 4}).phase == ""


def test_each_line_counts_once(bench, taken):
    taken(log(1, 3.0))
    taken(log(2, 2.0))
    taken()
    assert losses(bench, taken.run) == [(1, 3.0), (2, 2.0)]
    assert taken().events_offset == bench.job(taken.run).events.stat().st_size


def test_half_a_line_waits_for_its_other_half(bench, taken):
    taken(log(1, 3.0), b'{"t": 1, "e": "log", "step": 2, "metr')
    assert losses(bench, taken.run) == [(1, 3.0)]
    taken(b'ics": {"loss": 2.5}}\n')
    assert losses(bench, taken.run) == [(1, 3.0), (2, 2.5)]


def test_a_torn_line_of_a_killed_worker_is_passed_over(bench, taken):
    taken(log(1, 3.0), b'{"t": 1, "e": "lo\n', b"\xff\xfe\n", b"[]\n", b"\n", log(2, 2.0))
    assert losses(bench, taken.run) == [(1, 3.0), (2, 2.0)]


def test_a_new_attempt_drops_what_comes_again_even_within_one_read(bench, taken):
    after = taken(
        {"t": 1, "e": "attempt", "attempt": 1, "resumed_from_step": 0},
        *(log(step, 1.0) for step in range(1, 8)),
        {"t": 1, "e": "failed", "what": "first"},
        {"t": 2, "e": "attempt", "attempt": 2, "resumed_from_step": 4},
        log(5, 2.0),
    )
    assert losses(bench, taken.run) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0)]
    assert (after.step, after.verdict, after.reason) == (5, "", "")


def test_rows_and_offset_are_stored_together(bench, taken, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints, "set_on_disk", refuse)
    with pytest.raises(OSError, match="Input/output"):
        taken(log(1, 3.0))
    monkeypatch.undo()
    assert losses(bench, taken.run) == []
    taken()
    assert losses(bench, taken.run) == [(1, 3.0)]


@pytest.mark.parametrize(
    "event",
    [
        {"e": "log", "step": "one", "metrics": {"loss": 1.0}},
        {"e": "log", "step": -1, "metrics": {"loss": 1.0}},
        {"e": "log", "step": 1e300, "metrics": {"loss": 1.0}},
        {"e": "log", "step": 10**400, "metrics": {"loss": 1.0}},
        {"e": "log", "step": True, "metrics": {"loss": 1.0}},
        {"e": "log", "step": 1, "metrics": [1, 2]},
        {"e": "log", "step": 1, "metrics": {"loss": None}},
        {"e": "log", "step": 1, "metrics": {"loss": "low"}},
        {"e": "log", "step": 1, "metrics": {"loss": 10**400}},
        {"e": "log", "metrics": {"loss": 1.0}},
        {"e": "attempt", "resumed_from_step": None},
        {"e": "checkpoint"},
        {"e": "checkpoint", "step": {}},
        {"e": "ready", "max_steps": "many"},
        {"e": "phase", "phase": {"a": 1}, "detail": 7},
        {"e": "done", "step": []},
        {"e": "failed", "what": None, "where": 3},
        {"e": "unheard-of", "step": 1},
        {"e": "log", "step": 1, "t": "noon", "metrics": {}},
    ],
)
def test_an_event_that_makes_no_sense_harms_nothing(bench, taken, event):
    taken(event, log(7, 1.5))
    assert losses(bench, taken.run) == [(7, 1.5)]


def test_a_sentence_of_failure_is_kept_short_and_whole(bench, taken):
    after = taken({"e": "failed", "what": "loss is NaN at step 3", "where": "", "cure": "Lower the learning rate."})
    assert after.reason == "loss is NaN at step 3. Lower the learning rate."
    assert len(taken({"e": "failed", "what": "x" * 100_000}).reason) < 3000


def test_a_checkpoint_carries_its_numbers_only(bench, taken):
    taken(
        {
            "e": "checkpoint",
            "t": 5.0,
            "step": 3,
            "size_bytes": 77,
            "metrics": {"eval_loss": 1.25, "note": "x", "bad": None},
        }
    )
    (row,) = checkpoints.list_checkpoints(bench.db, taken.run.id)
    assert (row.size_bytes, row.metrics, row.created_at, row.on_disk) == (77, {"eval_loss": 1.25}, 5.0, False)


def test_a_long_backlog_is_read_in_pieces_while_the_worker_lives(bench, taken):
    lines = b"".join(json.dumps(log(step, 1.0, pad="x" * 2000)).encode() + b"\n" for step in range(2500))
    after = taken(lines, to_end=False)
    assert 0 < after.events_offset < len(lines)
    assert taken().events_offset == len(lines)
    assert metrics.last_step(bench.db, taken.run.id, "loss") == 2499


@pytest.mark.parametrize(
    "line",
    [
        b'{"t": 1, "e": "phase", "phase": "\\ud800"}\n',
        b'{"t": 1, "e": "log", "step": 1, "metrics": {"\\ud800": 1.0}}\n',
        b'{"t": 1, "e": "checkpoint", "step": 1, "metrics": {"\\ud800": 1.0}}\n',
        b'{"t": 1, "e": "failed", "what": "\\udfff"}\n',
        b"[" * 100_000 + b"\n",
        b'{"e": "log", "t": ' + b"9" * 5000 + b"}\n",
    ],
)
def test_a_line_that_neither_database_nor_parser_takes_does_not_stop_what_follows(bench, taken, line):
    taken(line, log(2, 0.5))
    assert losses(bench, taken.run) == [(2, 0.5)]


def test_events_that_are_a_pipe_or_a_link_are_not_waited_for_or_followed(bench, taken, tmp_path):
    import os

    path = bench.job(taken.run).events
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    read_new_events(bench.db, bench.job(taken.run), bench.read(taken.run), now=9.0, to_end=True)
    path.unlink()
    (tmp_path / "victim").write_text(json.dumps(log(2, 0.5)) + "\n")
    path.symlink_to(tmp_path / "victim")
    read_new_events(bench.db, bench.job(taken.run), bench.read(taken.run), now=9.0, to_end=True)
    assert losses(bench, taken.run) == []


def check_changes_nothing(bench, event, run, upload):
    db = bench.db
    job = bench.job(run)
    checkpoints.add_checkpoint(db, run.id, 2, created_at=1, size_bytes=1, metrics={}, upload=upload)
    with EventWriter(job.events) as events:
        events.write(event["e"], 1.0, **{key: value for key, value in event.items() if key != "e"})
    run = read_new_events(db, job, run, now=5.0, to_end=True)
    assert run.verdict == ""
    assert [row.upload for row in checkpoints.list_checkpoints(db, run.id)] == [upload]
    assert evaluations.of_writer(db, run.id) == []


@pytest.mark.parametrize("event", [
    {"e": "upload", "step": 2, "upload": "uploaded", "commit_id": "c" * 40},
    {"e": "end", "state": "succeeded", "reason": "trust me"},
    {"e": "evaluation", "step": 2, "benchmark": "mbpp", "state": "done", "num_samples": 1, "scores": []},
])  # fmt: skip
def test_a_worker_of_this_machine_cannot_speak_for_an_owner(bench, event):
    check_changes_nothing(bench, event, bench.submit("ok", repo_id="ada/model"), "queued")


@pytest.mark.parametrize("event", [
    {"e": "upload", "step": 2, "upload": "queued"},
    {"e": "upload", "step": 2, "upload": "uploading"},
    {"e": "upload", "step": 2, "upload": "everywhere"},
    {"e": "upload", "step": 2, "upload": ["uploaded"]},
    {"e": "upload", "step": -1, "upload": "uploaded"},
    {"e": "end", "state": "running"},
    {"e": "end", "state": {"a": 1}},
    {"e": "evaluation", "step": 2, "benchmark": "../../etc", "state": "done", "num_samples": 1},
    {"e": "evaluation", "step": 2, "benchmark": "mbpp", "state": "done", "num_samples": "many", "scores": 3},
])  # fmt: skip
def test_an_owner_in_a_job_that_speaks_nonsense_changes_nothing(bench, event):
    check_changes_nothing(bench, event, bench.submit("ok", repo_id="ada/model", place="hf-jobs"), "none")


def test_the_scores_of_a_job_come_home(bench):
    db, run = bench.db, bench.submit("ok", repo_id="ada/model", place="hf-jobs")
    score = {"name": "mbpp", "value": 0.5, "low": 0.4, "high": 0.6}
    given = {"step": 2, "benchmark": "mbpp", "state": "done", "num_samples": 1, "protocol": "p"}
    with EventWriter(bench.job(run).events) as events:
        events.write("evaluation", 1.0, **given, scores=[score, {"name": "x", "value": "high"}, 3])
        events.write("evaluation", 1.0, **{**given, "step": 4}, scores=3)
    read_new_events(db, bench.job(run), run, now=5.0, to_end=True)
    row, empty = evaluations.of_writer(db, run.id)
    assert (row.state, row.scores) == ("done", [score])
    assert empty.scores == []
