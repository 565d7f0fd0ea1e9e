"""Runs from the queue to their end, with real worker processes."""

import json
import os
import signal

import pytest

from codex_space.core.paths import MANIFEST
from codex_space.store import checkpoints, metrics, runs
from codex_space.store.db import Database


def test_a_run_goes_from_the_queue_to_its_end(bench):
    run = bench.submit("ok")
    ended = bench.until_ended(run)
    assert (ended.state, ended.reason, ended.step, ended.max_steps, ended.attempt) == ("succeeded", "", 6, 6, 1)
    assert metrics.read_curve(bench.db, run.id, "loss").steps == [1, 2, 3, 4, 5, 6]
    assert [(row.step, row.on_disk, row.upload) for row in checkpoints.list_checkpoints(bench.db, run.id)] == [
        (6, True, "none")
    ]
    assert bench.alive(run) == []
    assert "fake worker ok, attempt 1" in bench.job(run).log.read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crash", "ended with code 3 and did not say why"),
        ("silent", "ended with code 0 and did not say why"),
        ("killed", "The worker was killed by signal 9 (often: out of memory)."),
        ("sentence", "rows: no token would be trained. Add a completion."),
    ],
)
def test_a_worker_that_fails_leaves_a_sentence(bench, name, said):
    run = bench.submit(name)
    ended = bench.until_ended(run)
    assert ended.state == "failed"
    assert said in ended.reason
    assert bench.alive(run) == []


def test_a_command_that_cannot_start_fails_its_run_and_not_the_queue(bench):
    bench.supervisor = bench.new_supervisor(command_for=lambda _: ["/no/such/program"])
    run = bench.submit("ok")
    assert "code 127" in bench.until_ended(run).reason
    assert "/no/such/program" in bench.job(run).log.read_text()


def test_a_run_without_its_folder_fails_with_a_sentence(bench):
    run = bench.submit("ok")
    bench.job(run).recipe.unlink()
    bench.job(run).root.rmdir()
    second = bench.submit("ok")
    assert bench.until_ended(second).state == "succeeded"
    assert "could not be started" in bench.read(run).reason


def test_a_recipe_that_cannot_be_read_does_not_hold_up_the_queue(bench):
    broken = bench.submit("ok", recipe="kind: nothing\n")
    run = bench.submit("ok")
    assert bench.until_ended(run).state == "succeeded"
    assert bench.read(broken).state == "failed"
    assert "unknown kind" in bench.read(broken).reason


def test_a_checkpoint_that_a_queued_run_names_is_held_until_that_run_ends(bench):
    first = bench.submit("ok")
    second = bench.submit("hang", model=f"run:{first.id}@step-3")
    kept, left = bench.job(first).asked(3), bench.job(first).asked(2)
    kept.parent.mkdir()
    kept.touch()
    left.touch()
    bench.until_ended(first)
    assert (kept.exists(), left.exists()) == (True, False)
    bench.wish(second, "cancel")
    bench.until_ended(second)
    bench.supervisor.close()
    bench.supervisor = bench.new_supervisor()
    assert not kept.exists()


def test_one_run_at_a_time_in_the_order_of_the_queue(bench):
    made = [bench.submit("logs-3") for _ in range(3)]
    seen = []

    def all_ended():
        active = runs.list_runs(bench.db, states=("preflight", "running", "stopping"))
        assert len(active) <= 1
        seen.extend(run.id for run in active if run.id not in seen)
        return not runs.count_runs(bench.db, states=("queued", "preflight", "running"))

    bench.until(all_ended)
    assert seen == [run.id for run in made]


def test_stop_lets_the_worker_save_and_end(bench):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    bench.wish(run, "stop")
    bench.step()
    assert bench.read(run).state == "stopping"
    assert bench.read(run).intent == "stop"
    ended = bench.until_ended(run)
    assert (ended.state, ended.reason) == ("stopped", "Stopped as asked. It can go on from step 1.")
    assert bench.alive(run) == []


@pytest.mark.parametrize("name", ["grandchild", "setsid-grandchild"])
def test_stop_reaches_grandchildren(bench, name):
    run = bench.submit(name)
    bench.until(lambda: bench.read(run).state == "running")
    grandchild = int((bench.job(run).root / "grandchild.pid").read_text())
    assert grandchild in bench.alive(run)
    bench.wish(run, "stop")
    assert bench.until_ended(run).state == "stopped"
    assert bench.alive(run) == []
    with pytest.raises(ProcessLookupError):
        os.kill(grandchild, 0)


def test_stop_kills_a_worker_that_ignores_sigterm(bench):
    run = bench.submit("ignore-term")
    bench.until_state(run, "running")
    bench.wish(run, "stop")
    bench.step()
    bench.step(seconds=59)
    assert len(bench.alive(run)) == 2, "not before its time"
    bench.step(seconds=1)
    assert len(bench.alive(run)) == 2, "SIGTERM alone does not end it"
    bench.now += 15
    ended = bench.until_ended(run)
    assert (ended.state, ended.reason) == ("stopped", "It did not stop by itself and was ended.")
    assert bench.alive(run) == []
    assert json.loads(bench.job(run).exit.read_text()) == {"signal": 9}


def test_cancel_ends_at_once_without_a_last_checkpoint(bench):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    bench.wish(run, "cancel")
    ended = bench.until_ended(run)
    assert (ended.state, ended.reason) == ("stopped", "Cancelled.")
    assert bench.alive(run) == []


def test_cancel_overtakes_a_stop_that_takes_too_long_and_not_the_other_way_round(bench):
    run = bench.submit("ignore-term")
    bench.until_state(run, "running")
    bench.wish(run, "stop")
    bench.step()
    bench.wish(run, "cancel")
    bench.step()
    bench.wish(run, "stop")
    bench.step()
    assert bench.read(run).intent == "cancel"
    bench.now += 5
    assert bench.until_ended(run).reason == "Cancelled."


def test_even_a_shim_that_does_not_answer_is_ended(bench):
    run = bench.submit("setsid-grandchild")
    bench.until_state(run, "running")
    shim = json.loads(bench.job(run).worker.read_text())["pid"]
    os.kill(shim, signal.SIGSTOP)
    bench.wish(run, "cancel")
    bench.step()
    bench.now += 15
    assert bench.until_ended(run).state == "stopped"
    assert bench.alive(run) == []


def test_the_intent_is_stored_before_the_first_signal(bench, monkeypatch):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    bench.wish(run, "cancel")
    stored = []
    on_disk = Database.open(bench.workspace.database)  # sees only what is committed
    handle = bench.supervisor._handles[run.id]
    monkeypatch.setattr(handle, "send", lambda _: stored.append(runs.read_run(on_disk, run.id).intent))
    bench.step()
    monkeypatch.undo()
    on_disk.close()
    assert stored == ["cancel"]


def test_the_last_words_of_a_worker_are_not_missed(bench, monkeypatch):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    find = bench.supervisor._find

    def end_while_looked_at(run, job):
        """The worker writes its last events and ends just as the supervisor looks at it."""
        handle = find(run, job)
        job.stop_request.touch()
        assert handle.wait(20)
        return find(run, job)

    monkeypatch.setattr(bench.supervisor, "_find", end_while_looked_at)
    bench.step()
    assert bench.read(run).state == "stopped"
    assert [row.step for row in checkpoints.list_checkpoints(bench.db, run.id)] == [1]


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_queued_run_is_taken_out_of_the_queue(bench, verb):
    first, second = bench.submit("hang"), bench.submit("ok")
    bench.until_state(first, "running")
    bench.wish(second, verb)
    bench.step()
    assert bench.read(second).state == "stopped"
    assert not bench.job(second).events.exists()


def test_save_now_gives_a_checkpoint_and_goes_on(bench):
    run = bench.submit("hang")
    bench.until_state(run, "running")
    bench.wish(run, "save")
    bench.until(lambda: checkpoints.list_checkpoints(bench.db, run.id))
    assert bench.read(run).state == "running"
    assert (bench.job(run).checkpoint(1) / MANIFEST).is_file()


def test_wishes_that_came_too_late_change_nothing(bench):
    run = bench.submit("ok")
    bench.until_ended(run)
    for verb in ("stop", "cancel", "save", "resume"):
        bench.wish(run, verb)
    bench.step()
    assert bench.read(run).state == "succeeded"
    assert not bench.job(run).save_request.exists()


def test_a_resumed_run_drops_what_it_logs_again(bench):
    run = bench.submit("die-once")
    died = bench.until_ended(run)
    assert (died.state, died.step) == ("failed", 4)
    assert "It can go on from step 2." in died.reason
    assert metrics.read_curve(bench.db, run.id, "loss").values == [11.0, 12.0, 13.0, 14.0]
    bench.wish(run, "resume")
    bench.step()
    ended = bench.until_ended(run)
    assert (ended.state, ended.attempt, ended.reason) == ("succeeded", 2, "")
    curve = metrics.read_curve(bench.db, run.id, "loss")
    assert (curve.steps, curve.values) == ([1, 2, 3, 4, 5, 6], [11.0, 12.0, 23.0, 24.0, 25.0, 26.0])
    assert [row.step for row in checkpoints.list_checkpoints(bench.db, run.id)] == [2, 6]


def test_a_resume_keeps_the_threads_of_the_first_start(bench):
    run = bench.submit("die-once")
    bench.until_ended(run)
    assert json.loads(bench.job(run).launch.read_text())["num_threads"] == 2
    bench.supervisor = bench.new_supervisor(num_cores=7)
    bench.wish(run, "resume")
    bench.step()
    bench.until_ended(run)
    facts = json.loads(bench.job(run).launch.read_text())
    assert (facts["num_threads"], facts["resume_from_step"], facts["attempt"]) == (2, 2, 2)


def test_a_checkpoint_that_is_to_be_pushed_is_queued_for_it(bench):
    run = bench.submit("hang", repo_id="me/model")
    bench.until_state(run, "running")
    bench.wish(run, "stop")
    bench.until_ended(run)
    assert [row.upload for row in checkpoints.list_checkpoints(bench.db, run.id)] == ["queued"]


def test_a_run_waits_for_the_one_it_builds_on(bench):
    parent = bench.submit("hang")
    child = bench.submit("ok", model=f"'run:{parent.id}'")
    other = bench.submit("ok")
    bench.until_state(parent, "running")
    bench.wish(parent, "cancel")
    bench.until_ended(other)
    ended = bench.until_ended(child)
    assert ended.state == "failed"
    assert "'hang', did not succeed (stopped). Resume that one, then this one." in ended.reason


def test_a_run_starts_from_the_newest_checkpoint_of_the_one_it_builds_on(bench):
    parent = bench.submit("ok")
    child = bench.submit("ok", model=f"'run:{parent.id}'")
    assert bench.until_ended(child).state == "succeeded"
    facts = json.loads(bench.job(child).launch.read_text())
    assert facts["references"] == {f"run:{parent.id}": str(bench.job(parent).checkpoint(6))}
    assert facts["offline"] is True


def test_a_run_waits_for_a_parent_that_was_queued_after_it(bench):
    parent = bench.submit("die-once")
    bench.until_ended(parent)
    child = bench.submit("ok", model=f"'run:{parent.id}'")
    bench.now += 1
    bench.wish(parent, "resume")
    assert bench.until_ended(child).state == "succeeded"
    assert bench.read(parent).state == "succeeded"
    facts = json.loads(bench.job(child).launch.read_text())
    assert facts["references"][f"run:{parent.id}"].endswith("checkpoint-6")


def test_a_chain_fails_as_a_whole_when_its_first_run_fails(bench):
    first = bench.submit("crash")
    second = bench.submit("ok", model=f"'run:{first.id}'")
    third = bench.submit("ok", model=f"'run:{second.id}'")
    bench.until_ended(third)
    assert [bench.read(run).state for run in (first, second, third)] == ["failed"] * 3


def test_a_stopped_run_can_be_built_on_when_it_was_chosen_as_it_was(bench):
    parent = bench.submit("die-once")
    bench.until_ended(parent)
    child = bench.submit("ok", model=f"'run:{parent.id}'")
    assert bench.until_ended(child).state == "succeeded"


@pytest.mark.parametrize("ref", ["run:20990101-000000-sft-aaaa", "run:../../etc", "run:x@step-1"])
def test_a_run_that_builds_on_nothing_fails_with_a_sentence(bench, ref):
    run = bench.submit("ok", model=f"'{ref}'")
    assert bench.until_ended(run).state == "failed"
    assert bench.read(run).reason


def test_a_step_that_stumbles_over_the_disk_leaves_the_queue_as_it_was(bench, monkeypatch):
    run = bench.submit("ok")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codex_space.core.durable.write_json", refuse)
    bench.step()
    assert bench.read(run).state == "failed"
    assert "No space left" in bench.read(run).reason


def test_the_next_run_waits_until_the_gpu_has_its_memory_back_but_not_for_ever(bench):
    used_bytes = [1 << 30]
    bench.supervisor.close()
    bench.supervisor = bench.new_supervisor(gpu_used_bytes=lambda: used_bytes[0])
    first, second, third = bench.submit("ok"), bench.submit("ok"), bench.submit("ok")
    bench.step()
    used_bytes[0] = 20 << 30  # the first run takes its share, and its memory outlives it
    bench.until_ended(first)
    bench.step(5)
    assert bench.read(second).state == "queued"
    used_bytes[0] = 1 << 30
    bench.until(lambda: bench.read(second).state != "queued")
    used_bytes[0] = 20 << 30
    bench.until_ended(second)
    bench.step(5)
    assert bench.read(third).state == "queued"
    bench.step(31)
    bench.until_ended(third)
