"""The machine's cost by run and month, caps that save and stop, and leaving a machine only when nothing would be lost."""

import json
import time

import pytest

from codex_space.cli.main import main
from codex_space.core import durable
from codex_space.core.errors import CodexError
from codex_space.core.settings import read_settings
from codex_space.hub.space import SpaceHub
from codex_space.jobs.leaving import Leaving, is_leaving, wish_path
from codex_space.jobs.spending import LONGEST_GAP_S, Spending
from codex_space.jobs.supervisor import Supervisor
from codex_space.services import leaving as service
from codex_space.services import money, runs, space
from codex_space.services.context import open_context
from codex_space.store import checkpoints, costs, hub_jobs
from codex_space.store import runs as run_rows
from tests.fakes.hub_spaces import new_space

NOVEMBER = 1_795_000_000.0  # 2026-11-18
SPACE = "lab/studio"
RECIPE = (
    "kind: sft\nname: {}\nmodel: {{model_name_or_path: fresh:tiny}}\ndatasets: [{{path: sample:python-first-chat}}]\n{}"
)


def there(hub):
    """Return the state of the Space at the Hub, made where it is missing."""
    if f"spaces/{SPACE}" not in hub.state.repos:
        hub.state.put("spaces", SPACE, {"app.py": "print()"})
        state = new_space("l4x1", 900) | {"stage": "RUNNING", "current": "l4x1"}
        hub.state.repos[f"spaces/{SPACE}"]["space"] = state
    return hub.state.repos[f"spaces/{SPACE}"]["space"]


class Clock:
    now = NOVEMBER

    def __call__(self):
        return self.now


@pytest.fixture
def open_there(tmp_path, hub):
    opened = []

    def make(**environ):
        there(hub)
        env = {"SPACE_ID": SPACE, "SYSTEM": "spaces", "ACCELERATOR": "l4x1", "HF_TOKEN": "hf_write"}
        env |= {"HF_ENDPOINT": hub.endpoint, "CODEX_SPACE_HOME": str(tmp_path / "workspace"), **environ}
        opened.append(open_context(read_settings(env), Clock(), own=False))
        return opened[-1]

    yield make
    for ctx in opened:
        ctx.close()


@pytest.fixture
def ctx(open_there):
    return open_there()


def running(ctx, name="one", extra=""):
    run = runs.submit(ctx, RECIPE.format(name, extra))
    run_rows.change_state(ctx.db, run.id, "preflight", now=NOVEMBER)
    return run_rows.change_state(ctx.db, run.id, "running", now=NOVEMBER)


def end(ctx, run, state="succeeded"):
    run_rows.change_state(ctx.db, run.id, state, now=NOVEMBER)


def spending(ctx, price=3.6):
    return Spending(ctx.db, usd_per_hour=lambda: price, monthly_cap_usd=ctx.settings.monthly_cap_usd)


def wishes(ctx):
    return [(wish.verb, wish.reason) for wish in run_rows.take_wishes(ctx.db)]


def test_a_run_pays_for_its_seconds_and_the_machine_alone_for_the_rest(ctx):
    accountant, run = spending(ctx), running(ctx)
    for second in range(11):
        accountant.step(NOVEMBER + second)
    end(ctx, run)
    accountant.step(NOVEMBER + 20)
    assert costs.by_run(ctx.db, (run.id,))[run.id] == pytest.approx(0.010)
    assert money.read(ctx).month_usd == pytest.approx(0.020 - 0.001 + 0.001)
    assert money.read(ctx).month == "2026-11"
    assert costs.months(ctx.db) == {"2026-11": pytest.approx(0.020)}


def test_what_a_deleted_run_has_cost_stays_spent(ctx):
    accountant, run = spending(ctx), running(ctx)
    accountant.step(NOVEMBER)
    accountant.step(NOVEMBER + 10)
    end(ctx, run)
    runs.delete(ctx, run.id)
    assert money.read(ctx).month_usd == pytest.approx(0.010)


def test_time_in_which_the_machine_was_off_costs_nothing_and_a_clock_set_back_neither(ctx):
    accountant, run = spending(ctx), running(ctx)
    for at in (0, LONGEST_GAP_S + 1, 5000, 4000, 4001):
        accountant.step(NOVEMBER + at)
    assert costs.by_run(ctx.db, (run.id,))[run.id] == pytest.approx(0.001)


def test_each_stretch_of_time_is_paid_at_the_price_of_its_own_hardware(open_there):
    """A run that moved from an L4 to an A100: neither half is counted anew at the other's price."""
    ctx = open_there()
    run, accountant = running(ctx), spending(ctx, ctx.usd_per_hour())
    for at in range(0, 101, 10):
        accountant.step(NOVEMBER + at)
    assert costs.by_run(ctx.db, (run.id,))[run.id] == pytest.approx(100 * 0.80 / 3600)
    moved = open_there(ACCELERATOR="a100-large")
    accountant = spending(moved, moved.usd_per_hour())
    for at in range(1000, 1101, 10):
        accountant.step(NOVEMBER + at)
    assert costs.by_run(moved.db, (run.id,))[run.id] == pytest.approx(100 * (0.80 + 2.50) / 3600)


def test_a_price_that_changes_while_a_run_trains_counts_from_then_on(ctx):
    price = [3.6]
    accountant = Spending(ctx.db, usd_per_hour=lambda: price[0], monthly_cap_usd=None)
    run = running(ctx)
    accountant.step(NOVEMBER)
    accountant.step(NOVEMBER + 10)
    price[0] = 36.0
    accountant.step(NOVEMBER + 20)
    assert costs.by_run(ctx.db, (run.id,))[run.id] == pytest.approx(0.010 + 0.100)


def test_each_attempt_of_a_job_is_paid_at_the_price_of_its_own_flavour(ctx):
    run = running(ctx)
    for attempt, flavor, price in ((1, "l4x1", 0.80), (2, "a100-large", 2.50)):
        hub_jobs.add_job(ctx.db, run.id, attempt, flavor=flavor, timeout_s=1e5, now=NOVEMBER, log_offset=0)
        hub_jobs.update_job(ctx.db, run.id, attempt, usd_per_hour=price, running_s=3600.0)
    durable.write_json(
        ctx.workspace.root / "hardware_prices.json", {"usd_per_hour": {"l4x1": 99.0, "a100-large": 99.0}, "at": 1.0}
    )
    assert costs.by_run(ctx.db, (run.id,))[run.id] == pytest.approx(3.30)
    assert money.read(ctx).month_usd == pytest.approx(3.30)


def test_what_the_machine_has_cost_since_it_started_counts_idle_time_too(open_there, monkeypatch, capsys):
    ctx = open_there()
    monkeypatch.setattr(money, "booted_at", lambda: NOVEMBER - 5400)
    found = money.read(ctx)
    assert (found.since_boot_s, found.since_boot_usd) == (5400, pytest.approx(1.20))
    monkeypatch.setattr(money, "booted_at", lambda: NOVEMBER + 5400)
    assert money.read(ctx).since_boot_usd == 0, "a clock that was set back"
    assert money.read(open_there(SPACE_ID="")).since_boot_usd == 0
    monkeypatch.undo()
    assert 0 < money.booted_at() <= time.time()
    for name, value in ctx.settings.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["space", "money", "--json", "--workspace", str(ctx.settings.workspace)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["since_boot_usd"] == pytest.approx(told["since_boot_s"] * 0.80 / 3600)
    assert main(["space", "money", "--workspace", str(ctx.settings.workspace)]) == 0
    assert "idle or not" in capsys.readouterr().out


def test_a_month_is_a_month(ctx):
    accountant = spending(ctx)
    december = 1_796_083_200.0  # 2026-12-01 00:00 UTC
    for at in (december - 10, december - 1, december + 9):
        accountant.step(at)
    assert costs.months(ctx.db) == {"2026-12": pytest.approx(0.010), "2026-11": pytest.approx(0.009)}


def test_the_price_is_that_of_the_hardware_and_a_machine_of_ones_own_costs_nothing(open_there, tmp_path):
    ctx = open_there()
    assert ctx.usd_per_hour() == pytest.approx(0.80)
    durable.write_json(ctx.workspace.root / "hardware_prices.json", {"usd_per_hour": {"l4x1": 0.9}, "at": 1.0})
    assert ctx.usd_per_hour() == pytest.approx(0.90)
    own = open_context(
        read_settings({"CODEX_SPACE_HOME": str(tmp_path / "own"), "ACCELERATOR": "l4x1"}), Clock(), own=False
    )
    assert own.usd_per_hour() == 0
    own.close()
    assert open_there(ACCELERATOR="none").usd_per_hour() == 0


def test_at_the_months_cap_all_are_saved_and_stopped_and_no_more_is_taken(open_there):
    ctx = open_there(CODEX_SPACE_MONTHLY_CAP_USD="0.01")
    accountant, run = spending(ctx), running(ctx)
    waiting = runs.submit(ctx, RECIPE.format("two", ""))
    accountant.step(NOVEMBER)
    accountant.step(NOVEMBER + 9)
    assert wishes(ctx) == []
    accountant.step(NOVEMBER + 11)
    told = run_rows.take_wishes(ctx.db)
    assert {(wish.run_id, wish.verb) for wish in told} == {(run.id, "stop"), (waiting.id, "stop")}
    assert "the cap is $0.01" in told[0].reason
    with pytest.raises(Exception, match="the cap is"):
        runs.submit(ctx, RECIPE.format("three", ""))


def test_a_runs_own_cap_stops_it_alone(ctx):
    accountant = spending(ctx, 18.0)
    dear = running(ctx, "dear", "launch: {max_cost_usd: 0.02}\n")
    accountant.step(NOVEMBER)
    accountant.step(NOVEMBER + 3)
    assert wishes(ctx) == []
    accountant.step(NOVEMBER + 5)
    assert [verb for verb, reason in wishes(ctx) if "max_cost_usd is 0.02" in reason] == ["stop"]
    run_rows.set_intent(ctx.db, dear.id, "stop", NOVEMBER, "x")
    accountant.step(NOVEMBER + 6)
    assert wishes(ctx) == [], "asked once"


@pytest.mark.parametrize("value", ["0", "-1", "a lot", "nan", "1e99", "inf"])
def test_a_cap_that_is_none_is_refused(value):
    with pytest.raises(Exception, match="no number above 0"):
        read_settings({"CODEX_SPACE_MONTHLY_CAP_USD": value})


def leaving(ctx):
    return Leaving(
        ctx.db, ctx.workspace.root, ctx.settings, lambda: SpaceHub("hf_write", ctx.settings.environ["HF_ENDPOINT"])
    )


def add_checkpoint(ctx, run, upload):
    checkpoints.add_checkpoint(ctx.db, run.id, 5, created_at=1.0, size_bytes=1, metrics={}, upload=upload)


def test_a_move_waits_for_the_run_and_its_uploads(ctx, hub):
    run, goes = running(ctx), leaving(ctx)
    add_checkpoint(ctx, run, "queued")
    service.leave(ctx, "a100-large")
    assert [verb for verb, reason in wishes(ctx) if "moves to a100-large" in reason] == ["stop"]
    goes.step(NOVEMBER)
    assert there(hub)["requested"] == "l4x1", "a run is under way"
    end(ctx, run, "stopped")
    for upload in ("queued", "uploading", "failed"):
        checkpoints.set_upload(ctx.db, run.id, 5, upload)
        goes.step(NOVEMBER)
        assert there(hub)["requested"] == "l4x1", upload
    checkpoints.set_upload(ctx.db, run.id, 5, "uploaded")
    goes.step(NOVEMBER)
    assert there(hub)["requested"] == "a100-large"
    assert service.wished(ctx) is None


def test_nothing_new_starts_while_the_machine_is_being_left(ctx):
    runs.submit(ctx, RECIPE.format("waits", ""))
    durable.write_json(wish_path(ctx.workspace.root), {"to": "pause", "reason": "", "asked_at": 1.0, "error": ""})
    assert is_leaving(ctx.workspace.root)
    supervisor = Supervisor(ctx.db, ctx.workspace, environ={}, command_for=lambda _: ["false"])
    supervisor.step(NOVEMBER)
    assert [run.state for run in runs.list_runs(ctx)] == ["queued"]
    service.stay(ctx)
    assert not is_leaving(ctx.workspace.root)
    supervisor.step(NOVEMBER)
    assert [run.state for run in runs.list_runs(ctx)] != ["queued"]
    supervisor.close()


def test_a_refusal_is_kept_for_people_and_work_goes_on(ctx, hub):
    hub.state.users["hf_write"] = {**hub.state.users["hf_write"], "no_credit": ["lab"]}
    service.leave(ctx, "a100-large")
    leaving(ctx).step(NOVEMBER)
    assert "payment method" in service.wished(ctx)["error"]
    assert not is_leaving(ctx.workspace.root)


def test_a_hub_that_does_not_answer_is_asked_again(ctx, hub):
    hub.fail("pause", status=503, times=10)
    service.leave(ctx, "pause")
    goes = leaving(ctx)
    goes.step(NOVEMBER)
    hub.heal()
    goes.step(NOVEMBER + 1)
    assert there(hub)["stage"] == "RUNNING", "not asked all the time"
    goes.step(NOVEMBER + 60)
    assert there(hub)["stage"] == "PAUSED"


def test_an_idle_space_leaves_after_its_minutes_and_not_before(open_there, hub):
    ctx = open_there(CODEX_SPACE_WHEN_IDLE="pause", CODEX_SPACE_IDLE_MINUTES="10")
    goes, run = leaving(ctx), running(ctx)
    goes.step(NOVEMBER)
    goes.step(NOVEMBER + 3600)
    end(ctx, run)
    goes.step(NOVEMBER + 3700)
    goes.step(NOVEMBER + 3700 + 599)
    assert there(hub)["stage"] == "RUNNING"
    goes.step(NOVEMBER + 3700 + 600)
    assert there(hub)["stage"] == "PAUSED"


@pytest.mark.parametrize(
    ("environ", "left"), [({}, False), ({"ACCELERATOR": "none"}, False), ({"SPACE_ID": ""}, False)]
)
def test_who_is_not_to_leave_stays(open_there, hub, environ, left):
    idle = {} if not environ else {"CODEX_SPACE_WHEN_IDLE": "cpu"}
    ctx = open_there(**idle, **environ)
    goes = leaving(ctx)
    goes.step(NOVEMBER)
    goes.step(NOVEMBER + 1e6)
    assert (there(hub)["requested"] != "l4x1") == left


def test_the_sleep_time_is_lifted_while_a_run_is_under_way(open_there, hub):
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    goes, run = leaving(ctx), running(ctx)
    goes.step(NOVEMBER)
    assert there(hub)["sleep"] == -1
    end(ctx, run)
    goes.step(NOVEMBER + 5)
    assert there(hub)["sleep"] == 900


def test_a_page_that_was_killed_meanwhile_still_sets_the_sleep_time_back(open_there, hub):
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    run = running(ctx)
    leaving(ctx).step(NOVEMBER)
    assert there(hub)["sleep"] == -1
    end(ctx, run)
    leaving(ctx).step(NOVEMBER + 60)  # another process, which lifted nothing itself
    assert there(hub)["sleep"] == 900


def test_a_sleep_time_that_was_never_set_or_was_set_by_hand_meanwhile_stays(open_there, hub):
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    for before, by_hand, after in ((None, None, None), (-1, None, -1), (900, 7200, 7200)):
        there(hub)["sleep"] = before
        goes, run = leaving(ctx), running(ctx)
        goes.step(NOVEMBER)
        asked = len(hub.state.requests)
        goes.step(NOVEMBER + 1)
        assert len(hub.state.requests) == asked, "not asked at every step"
        if by_hand is not None:
            there(hub)["sleep"] = by_hand
        end(ctx, run)
        goes.step(NOVEMBER + 2)
        assert there(hub)["sleep"] == after


def test_it_stays_awake_until_what_was_made_is_on_the_hub(open_there, hub):
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    goes, run = leaving(ctx), running(ctx)
    add_checkpoint(ctx, run, "queued")
    goes.step(NOVEMBER)
    end(ctx, run)
    goes.step(NOVEMBER + 1)
    assert there(hub)["sleep"] == -1
    checkpoints.set_upload(ctx.db, run.id, 5, "uploaded")
    goes.step(NOVEMBER + 2)
    assert there(hub)["sleep"] == 900


def test_it_can_be_asked_for_and_taken_back_while_a_run_trains(ctx, hub):
    goes, _ = leaving(ctx), running(ctx)
    goes.step(NOVEMBER)
    assert there(hub)["sleep"] == 900
    service.keep_awake(ctx, on=True)
    goes.step(NOVEMBER + 1)
    assert there(hub)["sleep"] == -1
    service.keep_awake(ctx, on=False)
    goes.step(NOVEMBER + 2)
    assert there(hub)["sleep"] == 900


def test_a_hub_that_refuses_is_asked_again_later_and_leaving_does_not_wait_for_it(open_there, hub):
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    goes, run = leaving(ctx), running(ctx)
    hub.fail("sleeptime", status=503, times=10)
    goes.step(NOVEMBER)
    assert there(hub)["sleep"] == 900
    hub.heal()
    end(ctx, run)
    service.leave(ctx, "pause")
    goes.step(NOVEMBER + 1)
    assert there(hub)["stage"] == "PAUSED"


def test_what_would_go_with_the_disk_is_named(ctx):
    assert service.losses(ctx) == []
    run = running(ctx)
    add_checkpoint(ctx, run, "failed")
    (ctx.workspace.datasets / "mine").mkdir(parents=True)
    told = " ".join(service.losses(ctx))
    assert "1 unfinished runs push nothing" in told
    assert "1 datasets" in told
    assert "1 uploads have failed" in told


@pytest.mark.parametrize(
    ("to", "said"), [("l4x1", "on l4x1 already"), ("l4x", "Did you mean"), ("../x", "x"), ("", "hardware")]
)
def test_where_it_cannot_go_is_one_sentence(ctx, to, said):
    with pytest.raises(CodexError, match=said):
        service.leave(ctx, to)
    assert service.wished(ctx) is None


def test_a_machine_of_ones_own_is_not_left(open_there):
    with pytest.raises(CodexError, match="not a Space"):
        service.leave(open_there(SPACE_ID=""), "pause")


def test_the_command_line_asks_before_something_is_lost(open_there, hub, tmp_path, monkeypatch, capsys):
    ctx = open_there()
    running(ctx)
    for name, value in ctx.settings.environ.items():
        monkeypatch.setenv(name, value)
    where = ["--workspace", str(ctx.settings.workspace)]
    assert main(["space", "leave", "a100-large", *where]) == 1
    assert "would be lost" in capsys.readouterr().err
    assert service.wished(ctx) is None
    assert main(["space", "leave", "a100-large", "--yes", *where]) == 0
    assert service.wished(ctx)["to"] == "a100-large"
    assert main(["space", "stay", *where]) == 0
    assert service.wished(ctx) is None
    costs.add(ctx.db, "x", at=time.time(), seconds=3600, usd=0.8)
    assert main(["space", "money", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["month_usd"] == pytest.approx(0.8)


def test_the_machine_is_not_taken_from_under_a_run_or_an_upload(ctx, hub):
    run = running(ctx)
    asks = (
        lambda: space.request_hardware(ctx, "a100-large"),
        lambda: space.pause(ctx),
        lambda: space.restart(ctx),
    )
    for ask in asks:
        with pytest.raises(CodexError, match="1 runs are under way"):
            ask()
    end(ctx, run)
    add_checkpoint(ctx, run, "queued")
    for ask in asks:
        with pytest.raises(CodexError, match="1 checkpoints are not on the Hub"):
            ask()
    assert (there(hub)["stage"], there(hub)["requested"]) == ("RUNNING", "l4x1")
    checkpoints.set_upload(ctx.db, run.id, 5, "uploaded")
    space.pause(ctx)
    assert there(hub)["stage"] == "PAUSED"


def test_a_recipe_of_another_version_keeps_no_other_runs_cap_from_holding(ctx):
    accountant, run, other = spending(ctx), running(ctx, extra="launch: {max_cost_usd: 0.05}"), running(ctx)
    with ctx.db.transaction() as cursor:
        cursor.execute("UPDATE runs SET recipe = 'kind: sorcery' WHERE id = ?", (other.id,))
    costs.add(ctx.db, run.id, at=NOVEMBER, seconds=60, usd=0.06)
    accountant.step(NOVEMBER)
    assert [wish.run_id for wish in run_rows.take_wishes(ctx.db)] == [run.id]
