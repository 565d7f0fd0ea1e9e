"""Queueing, listing, the table of states, and wishes."""

import pytest

from codex_space.core.errors import RunError
from codex_space.store import checkpoints, metrics, runs
from codex_space.store.db import Database
from codex_space.store.runs import ACTIVE, ALLOWED, FINAL


def test_a_new_run_is_queued_with_its_recipe(db, new_run):
    run = new_run(name="first", repo_id="me/model", now=5.0)
    assert runs.read_run(db, run.id) == run
    assert (run.state, run.created_at, run.repo_id, run.recipe) == ("queued", 5.0, "me/model", "kind: sft\n")


def test_the_same_request_gives_the_same_run(db, new_run):
    first = new_run(request_key="press-1")
    again = new_run(request_key="press-1", name="other")
    assert again == first
    assert runs.count_runs(db) == 1


def test_the_same_request_from_two_connections_gives_one_run(db, new_run):
    other = Database.open(db.path)
    first = new_run(request_key="press-1")
    again = runs.insert_run(
        other,
        id="20261121-000009-sft-bbbb",
        name="x",
        kind="sft",
        recipe="",
        repo_id=None,
        now=1.0,
        request_key="press-1",
    )
    assert again.id == first.id
    other.close()


def test_an_id_is_taken_once(db, new_run):
    run = new_run()
    with pytest.raises(RunError, match="already"):
        new_run(id=run.id)


def test_an_unknown_run_is_named(db):
    with pytest.raises(RunError, match="no-such-run: there is no such run"):
        runs.read_run(db, "no-such-run")


def test_runs_are_listed_newest_first_and_paged(db, new_run):
    made = [new_run(name=f"run {number}", now=float(number)) for number in range(5)]
    assert [run.id for run in runs.list_runs(db)] == [run.id for run in reversed(made)]
    assert [run.name for run in runs.list_runs(db, limit=2, offset=1)] == ["run 3", "run 2"]


@pytest.mark.parametrize(
    ("search", "found"),
    [("100%", ["100%_a"]), ("_A", ["100%_a"]), ("%", ["100%_a"]), ("PLAIN", ["plain"]), ("'; --", [])],
)
def test_a_search_finds_text_and_not_patterns(db, new_run, search, found):
    new_run(name="100%_a")
    new_run(name="plain")
    assert [run.name for run in runs.list_runs(db, search=search)] == found
    assert runs.count_runs(db, search=search) == len(found)


def test_runs_are_found_by_state_and_by_id(db, new_run):
    first, second = new_run(), new_run()
    runs.change_state(db, first.id, "preflight", now=1.0)
    assert [run.id for run in runs.list_runs(db, states=("preflight", "running"))] == [first.id]
    assert [run.id for run in runs.list_runs(db, ids=(second.id,))] == [second.id]
    assert runs.list_runs(db, ids=("nothing",)) == []


def path_to(state):
    """Return the states a run goes through to get there."""
    return {
        "queued": [], "preflight": ["preflight"], "running": ["preflight", "running"],
        "stopping": ["preflight", "stopping"], "succeeded": ["preflight", "running", "succeeded"],
    }.get(state, ["preflight", state])  # fmt: skip


@pytest.mark.parametrize("start", list(ALLOWED))
def test_only_the_changes_of_the_table_are_possible(db, new_run, start):
    for to in ALLOWED:
        run = new_run()
        for state in path_to(start):
            runs.change_state(db, run.id, state, now=1.0)
        if to in ALLOWED[start]:
            assert runs.change_state(db, run.id, to, now=2.0, reason="why").state == to
        else:
            with pytest.raises(RunError, match=f"a run that is {start} cannot become {to}"):
                runs.change_state(db, run.id, to, now=2.0)
            assert runs.read_run(db, run.id).state == start


def test_every_state_has_its_place():
    assert set(ALLOWED) == {"queued"} | ACTIVE | FINAL
    assert {state for state, after in ALLOWED.items() if "queued" in after} == FINAL - {"succeeded"}


def test_times_attempts_and_marks_follow_the_state(db, new_run):
    run = new_run(now=1.0)
    runs.change_state(db, run.id, "preflight", now=2.0)
    runs.set_intent(db, run.id, "stop", 3.0)
    runs.update_progress(db, run.id, verdict="stopped", phase="busy")
    ended = runs.change_state(db, run.id, "stopped", now=4.0, reason="Stopped.")
    assert (ended.started_at, ended.ended_at, ended.attempt, ended.intent) == (2.0, 4.0, 1, "")
    assert (ended.phase, ended.reason) == ("", "Stopped.")
    queued = runs.change_state(db, run.id, "queued", now=5.0)
    assert (queued.ended_at, queued.queued_at, queued.reason) == (None, 5.0, "")
    again = runs.change_state(db, run.id, "preflight", now=6.0)
    assert (again.attempt, again.verdict, again.started_at) == (2, "", 6.0)


def test_a_resumed_run_goes_to_the_end_of_the_queue(db, new_run):
    first, second = new_run(now=1.0), new_run(now=2.0)
    runs.change_state(db, first.id, "stopped", now=3.0)
    runs.change_state(db, first.id, "queued", now=4.0)
    assert [run.id for run in runs.list_queue(db)] == [second.id, first.id]


def test_progress_leaves_what_is_not_given(db, new_run):
    run = new_run()
    runs.update_progress(db, run.id, step=3, max_steps=10, phase="loading")
    runs.update_progress(db, run.id, step=4)
    after = runs.read_run(db, run.id)
    assert (after.step, after.max_steps, after.phase) == (4, 10, "loading")


def test_wishes_are_taken_once_in_their_order(db, new_run):
    run = new_run()
    other = Database.open(db.path)
    runs.add_wish(other, run.id, "save", 1.0)
    runs.add_wish(other, run.id, "stop", 2.0)
    other.close()
    assert [(wish.run_id, wish.verb) for wish in runs.take_wishes(db)] == [(run.id, "save"), (run.id, "stop")]
    assert runs.take_wishes(db) == []


def test_wishes_for_no_run_or_of_no_kind_are_refused(db, new_run):
    with pytest.raises(RunError):
        runs.add_wish(db, "nothing", "stop", 1.0)
    with pytest.raises(RunError, match="explode"):
        runs.add_wish(db, new_run().id, "explode", 1.0)


def test_deleting_a_run_leaves_none_of_its_rows(db, new_run):
    run, kept = new_run(), new_run()
    for each in (run, kept):
        metrics.add_points(db, each.id, [("loss", 1, 1.0, 1.0)])
        checkpoints.add_checkpoint(db, each.id, 1, created_at=1.0, size_bytes=1, metrics={})
        runs.add_wish(db, each.id, "stop", 1.0)
    runs.delete_run(db, run.id)
    for table in ("runs", "wishes", "curves", "points", "checkpoints"):
        assert db.query(f"SELECT count(*) FROM {table}")[0][0] == 1, table
    assert db.query("SELECT count(*) FROM buckets")[0][0] == 2
