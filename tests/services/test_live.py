"""What an open page polls: everything once, then only what is new, and everything again after a cut."""

import dataclasses
import json

import pytest

from codex_space.core.errors import RunError
from codex_space.services import runs
from codex_space.services.live import HISTORY, TICK_MS, Live
from codex_space.store import metrics
from codex_space.store import runs as run_rows

RECIPE = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"


@pytest.fixture
def run(ctx):
    run = runs.submit(ctx, RECIPE)
    run_rows.change_state(ctx.db, run.id, "preflight", now=1.0)
    run_rows.change_state(ctx.db, run.id, "running", now=2.0)
    run_rows.update_progress(ctx.db, run.id, max_steps=1000)
    return run


def log(ctx, run, first, last, value=2.0):
    metrics.add_points(ctx.db, run.id, [("loss", step, value, float(step)) for step in range(first, last + 1)])
    run_rows.update_progress(ctx.db, run.id, step=last)


def ask(live, run, after=0):
    return json.loads(live.ready_bytes(run.id, after) or live.run_bytes(run.id, after))


class Viewer:
    """A page: keeps what it has drawn, as the widget does."""

    def __init__(self, live, run):
        self.live, self.run, self.seq, self.steps = live, run, 0, []

    def poll(self):
        body = ask(self.live, self.run, self.seq)
        new = body["curves"].get("loss", {"steps": []})["steps"]
        self.steps = new if body["full"] else self.steps + new
        self.seq = body["seq"]
        return body


def test_the_first_answer_is_whole_and_the_next_holds_only_what_is_new(ctx, run):
    live = Live(ctx)
    log(ctx, run, 1, 10)
    viewer = Viewer(live, run)
    assert viewer.poll()["full"]
    log(ctx, run, 11, 15)
    live.refresh(ctx.clock())
    body = viewer.poll()
    assert not body["full"]
    assert body["curves"]["loss"]["steps"] == [11, 12, 13, 14, 15]
    assert viewer.steps == list(range(1, 16))


def test_a_viewer_who_has_everything_gets_a_few_bytes(ctx, run):
    live = Live(ctx)
    log(ctx, run, 1, 500)
    viewer = Viewer(live, run)
    viewer.poll()
    live.refresh(ctx.clock())
    assert len(live.run_bytes(run.id, viewer.seq)) < 120


def test_a_viewer_who_missed_some_snapshots_catches_up(ctx, run):
    live = Live(ctx)
    viewer, late = Viewer(live, run), Viewer(live, run)
    for last in range(1, 20):
        log(ctx, run, last, last)
        live.refresh(ctx.clock())
        viewer.poll()
        if last == 3:
            late.poll()
    late.poll()
    assert late.steps == viewer.steps == list(range(1, 20))


def test_a_viewer_who_slept_too_long_starts_over(ctx, run):
    live = Live(ctx)
    viewer = Viewer(live, run)
    log(ctx, run, 1, 1)
    viewer.poll()
    for last in range(2, HISTORY + 10):
        log(ctx, run, last, last)
        live.run_bytes(run.id, 0)
        live.refresh(ctx.clock())
    assert viewer.poll()["full"]
    assert viewer.steps == list(range(1, HISTORY + 10))


def test_points_cut_by_a_resume_vanish_from_an_open_page(ctx, run):
    live = Live(ctx)
    viewer = Viewer(live, run)
    log(ctx, run, 1, 30)
    viewer.poll()
    metrics.truncate_after(ctx.db, run.id, 20)
    log(ctx, run, 21, 22, value=9.0)
    live.refresh(ctx.clock())
    viewer.poll()
    assert viewer.steps == list(range(1, 23))


def test_a_page_opened_on_a_restarted_server_starts_over(ctx, run):
    log(ctx, run, 1, 5)
    assert json.loads(Live(ctx).run_bytes(run.id, 17))["full"]


def test_an_unknown_run_is_an_error_and_a_deleted_one_becomes_one(ctx, run):
    live = Live(ctx)
    with pytest.raises(RunError):
        live.run_bytes("20260101-000000-sft-aaaa")
    live.run_bytes(run.id)
    run_rows.change_state(ctx.db, run.id, "failed", now=3.0)
    runs.delete(ctx, run.id)
    live.refresh(ctx.clock())
    with pytest.raises(RunError):
        live.run_bytes(run.id)


def test_the_overview_says_who_computes_and_what_has_ended(ctx, run):
    live = Live(ctx)
    first = json.loads(live.overview_bytes())
    assert first["holder"]["id"] == run.id
    assert len(live.overview_bytes(first["seq"])) < 80
    run_rows.change_state(ctx.db, run.id, "failed", now=3.0, reason="the disk is full")
    live.refresh(ctx.clock())
    body = json.loads(live.overview_bytes(first["seq"]))
    assert body["holder"] is None
    assert [(entry["id"], entry["reason"]) for entry in body["ended"]] == [(run.id, "the disk is full")]


def test_a_run_name_cannot_break_the_json(ctx, run):
    run_rows.rename_run(ctx.db, run.id, '"</script><b>\u2028')
    assert json.loads(Live(ctx).run_bytes(run.id))["run"]["name"] == '"</script><b>\u2028'


@pytest.mark.parametrize(("viewers", "pace_ms"), [(1, 1000), (40, 1000), (100, 2000), (200, 4000), (2000, 4000)])
def test_the_more_look_the_less_often_each_of_them_asks(ctx, run, viewers, pace_ms):
    now = [1000.0]
    live = Live(dataclasses.replace(ctx, clock=lambda: now[0]))
    due = [now[0] + number / viewers for number in range(viewers)]
    for _ in range(100):
        now[0] += 0.25 + 0.007
        for number in range(viewers):
            if due[number] <= now[0]:
                due[number] = now[0] + ask(live, run)["poll_after_ms"] / 1000
        live.refresh(now[0])
    assert ask(live, run)["poll_after_ms"] == pytest.approx(pace_ms, rel=0.2)
    ticks = {round(1000 * at) % TICK_MS for at in due}
    assert ticks == {0} or viewers < 100, "they come together: each coming alone would interrupt a training"
    now[0] += 60
    live.refresh(now[0])
    assert ask(live, run)["poll_after_ms"] == 1000, "they have left"


@pytest.mark.parametrize(("viewers", "pace_ms"), [(1, 2000), (100, 2000), (200, 4000), (2000, 4000)])
def test_those_who_see_only_the_bar_on_top_wait_for_each_other_too(ctx, run, viewers, pace_ms):
    now = [1000.0]
    live = Live(dataclasses.replace(ctx, clock=lambda: now[0]))
    due = [now[0] + number / viewers for number in range(viewers)]
    for _ in range(100):
        now[0] += 0.25
        for number in range(viewers):
            if due[number] <= now[0]:
                due[number] += json.loads(live.overview_bytes())["poll_after_ms"] / 1000
        live.refresh(now[0])
    assert json.loads(live.overview_bytes())["poll_after_ms"] == pytest.approx(pace_ms, rel=0.2)


def test_what_one_viewer_was_given_is_ready_for_the_next_until_something_is_new(ctx, run):
    live = Live(ctx)
    log(ctx, run, 1, 10)
    assert live.ready_bytes(run.id, 0) is None, "nobody has asked yet"
    assert live.run_bytes(run.id, 0) == live.ready_bytes(run.id, 0)
    log(ctx, run, 11, 15)
    live.refresh(ctx.clock())
    assert live.ready_bytes(run.id, 0) is None, "the old answer is not given again"
    assert live.ready_bytes("no-such-run", 0) is None


def test_the_overview_is_ready_but_where_it_is_old_or_being_read(ctx, run):
    now = [1000.0]
    live = Live(dataclasses.replace(ctx, clock=lambda: now[0]))
    assert live.ready_overview(0) is None, "nobody has asked yet"
    whole = live.overview_bytes(0)
    assert json.loads(live.ready_overview(0)) == json.loads(whole)
    seq = json.loads(whole)["seq"]
    assert json.loads(live.ready_overview(seq)).keys() == {"seq", "poll_after_ms"}
    with live._lock:
        assert live.ready_overview(0) is None, "the page must not wait for a look at the store"
    now[0] += 60
    assert live.ready_overview(0) is None, "what is old is read anew"


def test_what_is_new_is_ready_for_the_first_who_asks(ctx, run):
    live = Live(ctx)
    viewer = Viewer(live, run)
    log(ctx, run, 1, 10)
    viewer.poll()
    log(ctx, run, 11, 15)
    live.refresh(ctx.clock())
    ready = live.ready_bytes(run.id, viewer.seq)
    assert ready == live.run_bytes(run.id, viewer.seq)
    assert json.loads(ready)["curves"]["loss"]["steps"] == [11, 12, 13, 14, 15]


def test_numbers_that_nobody_was_given_share_one_answer(ctx, run):
    live = Live(ctx)
    log(ctx, run, 1, 10)
    whole = live.run_bytes(run.id, 0)
    for made_up in range(1, 2000):
        assert live.run_bytes(run.id, made_up) == whole
    assert len(live._runs[run.id].cached) == 1, "a stranger who counts must not fill the memory"


def test_an_answer_that_is_ready_waits_for_no_look_at_the_store(ctx, run):
    live = Live(ctx)
    live.run_bytes(run.id, 0)
    with live._lock:  # held while the store is read
        assert live.ready_bytes(run.id, 0)


def test_a_snapshot_made_while_a_viewer_is_looked_for_among_the_old_ones_disturbs_nobody(ctx, run):
    live = Live(ctx)
    viewer = Viewer(live, run)
    for step in range(1, 9):
        log(ctx, run, step, step)
        live.refresh(ctx.clock())
        viewer.poll()
    watched = live._runs[run.id]

    class Meanwhile(int):
        """A number that is compared while another thread takes in what is new."""

        __hash__ = int.__hash__

        def __eq__(self, other):
            watched.added.append((other, {}))
            return False

    assert live.ready_bytes(run.id, Meanwhile(5)) is None


def test_alerts_and_score_come_with_the_snapshot_and_are_read_anew_at_most_every_five_seconds(ctx, run, monkeypatch):
    now = [100.0]
    ctx = dataclasses.replace(ctx, clock=lambda: now[0])
    live = Live(ctx)
    log(ctx, run, 1, 40)
    metrics.add_points(ctx.db, run.id, [("grad_norm", step, 0.0, float(step)) for step in range(1, 41)])
    body = ask(live, run)
    assert [alert["kind"] for alert in body["alerts"]] == ["zero_gradients"]
    assert body["score"] == pytest.approx(0.3 * 0.04)
    metrics.add_points(ctx.db, run.id, [("grad_norm", step, 1.0, float(step)) for step in range(41, 51)])
    for at, kinds in ((102.0, ["zero_gradients"]), (106.0, [])):
        now[0] = at
        live.refresh(at)
        assert [alert["kind"] for alert in ask(live, run)["alerts"]] == kinds


PROBE = {"e": "probe", "t": 1.0, "peak_gib": 1.25, "estimated_gib": 1.5, "rows": 2}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (PROBE, {"peak_gib": 1.25, "estimated_gib": 1.5}),
        ({**PROBE, "estimated_gib": None}, {"peak_gib": 1.25, "estimated_gib": None}),
        ({**PROBE, "peak_gib": "much"}, None),
        ({**PROBE, "estimated_gib": [3]}, {"peak_gib": 1.25, "estimated_gib": None}),
        ({**PROBE, "estimated_gib": float("nan")}, {"peak_gib": 1.25, "estimated_gib": None}),
        ({**PROBE, "peak_gib": float("inf")}, None),
        ({**PROBE, "peak_gib": 10**400}, None),
        ({"e": "log", "t": 1.0, "step": 1, "metrics": {}}, None),
    ],
)
def test_memory_that_was_measured_first_stands_beside_its_estimate(ctx, run, event, told):
    job = ctx.workspace.job(run.id)
    job.root.mkdir(parents=True, exist_ok=True)
    job.events.write_text(json.dumps({"e": "attempt", "t": 0.0, "attempt": 1}) + "\n" + json.dumps(event) + "\n")
    assert ask(Live(ctx), run)["probe"] == told


def test_a_run_without_curves_has_no_alerts(ctx, run):
    body = ask(Live(ctx), run)
    assert body["alerts"] == []
    assert body["score"] is None
