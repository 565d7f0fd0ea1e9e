"""What a run will cost and whether the Space would sleep before its end, said before the start, by service and command line."""

import json
import threading

import pytest

from codex_space.cli.main import main
from codex_space.core.errors import CodexError, RecipeError
from codex_space.core.presets import read_recipe_text
from codex_space.core.recipe import parse_recipe, render_recipe
from codex_space.core.sweep import expand
from codex_space.services import audit, forecast, leaving, runs, space
from codex_space.services.answers import KEPT_S
from codex_space.store import costs
from tests.jobs.test_leaving_and_spending import NOVEMBER, open_there, there  # noqa: F401  # the fixture

BASE = "sft/qwen2.5-coder-7b-qlora"


def recipe(*overrides, steps=2000):
    text = render_recipe(parse_recipe(read_recipe_text(BASE), [f"train.max_steps={steps}", *overrides]))
    return expand(text)


def told(ctx, *overrides, **given):
    found = forecast.predict(ctx, recipe(*overrides, **given))
    return {line.label: line for line in forecast.warnings(ctx, found, wait_s=5)}


@pytest.fixture
def ctx(open_there):  # noqa: F811
    return open_there()


def test_here_it_costs_the_spaces_price_for_its_likely_hours(ctx):
    found = forecast.predict(ctx, recipe())
    assert found.hours > 1
    assert found.usd == pytest.approx(0.80 * found.hours)
    assert found.low_usd == pytest.approx(0.75 * found.usd)
    line = forecast.describe_cost(found)
    assert f"about {forecast.dollars(found.usd)}" in line.detail
    assert "l4x1 at $0.80 an hour" in line.detail


def test_a_job_costs_its_flavours_price_and_never_more_than_its_timeout(ctx):
    jobs = ("launch.where=hf-jobs", "launch.flavor=a100-large", "hub.repo_id=ada/x", "hub.keep_rows=true")
    found = forecast.predict(ctx, recipe(*jobs, "launch.timeout=9d"))
    assert found.usd == pytest.approx(2.5 * found.hours)
    short = forecast.predict(ctx, recipe(*jobs, "launch.timeout=6m"))
    assert short.usd == pytest.approx(0.25)
    assert told(ctx, *jobs) == {}, "a Job does not mind the Space's sleep"


def test_a_sweep_costs_all_its_runs(ctx):
    one = forecast.predict(ctx, recipe())
    text = recipe()[0] + "sweep: {train.learning_rate: [1.0e-4, 2.0e-4, 3.0e-4]}\n"
    found = forecast.predict(ctx, expand(text))
    assert found.total_usd == pytest.approx(3 * one.usd)
    assert "3 runs together" in forecast.describe_cost(found).detail


def test_a_machine_of_ones_own_costs_nothing_and_does_not_sleep(open_there, hub):  # noqa: F811
    own = open_there(SPACE_ID="")
    found = forecast.predict(own, recipe("launch.max_cost_usd=0.01"))
    assert (found.usd, forecast.describe_cost(found)) == (None, None)
    assert forecast.warnings(own, found, wait_s=5) == []
    assert not hub.asked("runtime", "GET")


def test_what_trains_no_model_or_cannot_be_known_says_nothing_of_money(ctx):
    evaluation = read_recipe_text("tokenizer/stdlib")
    found = forecast.predict(ctx, expand(evaluation))
    assert found.usd is None
    assert set(told(ctx, "model.model_name_or_path=nobody/knows-this")) == {"Sleep"}


def test_over_its_own_cap_is_a_warning_and_over_it_at_the_low_end_a_refusal(ctx, hub):
    usd = forecast.predict(ctx, recipe()).usd
    assert "Cost" not in told(ctx, f"launch.max_cost_usd={usd * 1.01:.2f}")
    line = told(ctx, f"launch.max_cost_usd={usd * 0.9:.2f}")["Cost"]
    assert line.ok is None
    assert "saved and stopped before its end" in line.detail
    line = told(ctx, f"launch.max_cost_usd={usd * 0.5:.2f}")["Cost"]
    assert line.ok is False


def test_submit_refuses_it_says_why_and_takes_it_with_a_higher_cap(ctx):
    text = (
        "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
        "train: {max_steps: 2000000}\nlaunch: {max_cost_usd: 0.01}\n"
    )
    with pytest.raises(RecipeError, match="at the least") as caught:
        runs.submit(ctx, text)
    assert caught.value.where == "launch.max_cost_usd"
    assert "Raise launch.max_cost_usd to" in caught.value.cure
    assert runs.list_runs(ctx) == []
    raised = float(caught.value.cure.split(" to ")[1].split(",")[0].rstrip(",."))
    assert runs.submit(ctx, text, overrides=[f"launch.max_cost_usd={raised}"]).state == "queued"
    assert runs.submit(ctx, text.replace("launch: {max_cost_usd: 0.01}\n", "")).state == "queued"


def test_over_what_is_left_of_the_month_is_a_warning(open_there):  # noqa: F811
    ctx = open_there(CODEX_SPACE_MONTHLY_CAP_USD="1000")
    assert "Month" not in told(ctx)
    costs.add(ctx.db, "x", at=NOVEMBER, seconds=1, usd=999.5)
    line = told(ctx)["Month"]
    assert line.ok is None
    assert "$0.50 are left" in line.detail


def test_a_space_that_would_sleep_before_the_end_is_a_warning_with_a_cure(ctx, hub):
    line = told(ctx)["Sleep"]
    assert line.ok is None
    assert "sleeps 15 minutes after the last request" in line.detail
    assert "space awake on" in line.cure
    for sleep_s, warned in ((60, True), (None, False), (-1, False), (30 * 86_400, False)):
        there(hub)["sleep"] = sleep_s
        ctx.answers.forget("runtime lab/studio")
        found = forecast.predict(ctx, expand(read_recipe_text("sft/tiny-cpu")))
        lines = forecast.warnings(ctx, found, wait_s=5)
        assert ("Sleep" in {line.label for line in lines}) is warned, sleep_s


def test_where_the_time_is_not_known_a_sleep_time_is_told_all_the_same(ctx):
    line = told(ctx, "train.max_steps=-1", "datasets.0.path=someone/rows")["Sleep"]
    assert "how long the run takes is not known" in line.detail


def test_the_free_machine_says_what_can_be_done_there(open_there, hub):  # noqa: F811
    ctx = open_there(ACCELERATOR="none")
    there(hub)["current"] = there(hub)["requested"] = "cpu-basic"
    line = told(ctx)["Sleep"]
    assert "48 hours" in line.detail
    assert "page open" in line.cure
    with pytest.raises(CodexError, match="48 hours"):
        leaving.keep_awake(ctx, on=True)


def test_the_hub_is_asked_for_it_once_a_minute(ctx, hub):
    for _ in range(20):
        told(ctx)
    assert len(hub.asked("runtime", "GET")) == 1
    ctx.clock.now += KEPT_S
    told(ctx)
    assert len(hub.asked("runtime", "GET")) == 2


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_a_hub_that_does_not_answer_says_nothing_and_blocks_nothing(ctx, hub, status):
    hub.fail("runtime", status=status, times=100)
    assert "Sleep" not in told(ctx)


def test_a_hub_that_hangs_is_not_waited_for(ctx, monkeypatch):
    going = threading.Event()
    monkeypatch.setattr("codex_space.hub.space.SpaceHub.space_runtime", lambda *_: going.wait(20))
    assert space.sleep_after_s(ctx, wait_s=0.05) is None
    going.set()


def test_kept_awake_there_is_nothing_to_warn_of_and_it_is_written_down(ctx):
    leaving.keep_awake(ctx, on=True)
    assert "Sleep" not in told(ctx)
    leaving.keep_awake(ctx, on=False)
    assert "Sleep" in told(ctx)
    assert [deed.verb for deed in audit.read(ctx)] == ["no longer keep awake", "keep awake while runs train"]


def test_by_hand_it_overrides_the_setting(open_there):  # noqa: F811
    ctx = open_there(CODEX_SPACE_KEEP_AWAKE="1")
    assert leaving.is_kept_awake(ctx)
    leaving.keep_awake(ctx, on=False)
    assert not leaving.is_kept_awake(ctx)


def test_another_machine_than_a_space_is_not_kept_awake(open_there):  # noqa: F811
    with pytest.raises(CodexError, match="not a Space"):
        leaving.keep_awake(open_there(SPACE_ID=""), on=True)


def test_the_command_line_says_the_same_and_keeps_awake(ctx, monkeypatch, capsys):
    for name, value in ctx.settings.environ.items():
        monkeypatch.setenv(name, value)
    where = ["--workspace", str(ctx.settings.workspace)]
    asked = [BASE, "train.max_steps=2000", "launch.max_cost_usd=0.1"]
    assert main(["estimate", *asked, "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {line["label"] for line in found["warnings"]} == {"Cost", "Sleep"}
    assert main(["estimate", *asked, *where]) == 0
    assert "warning: this Space sleeps" in capsys.readouterr().out
    assert main(["space", "awake", "on", *where]) == 0
    assert main(["estimate", *asked, *where]) == 0
    assert "this Space sleeps" not in capsys.readouterr().out
    assert main(["space", "awake", "off", *where]) == 0
    assert not leaving.is_kept_awake(ctx)


def test_check_refuses_what_submit_would(ctx, monkeypatch, capsys):
    for name, value in ctx.settings.environ.items():
        monkeypatch.setenv(name, value)
    asked = ["sft/tiny-cpu", "train.max_steps=2000000", "launch.max_cost_usd=0.01"]
    assert main(["check", *asked, "--workspace", str(ctx.settings.workspace)]) == 1
    out = capsys.readouterr().out
    assert "--  Sleep" in out
    assert "NO  Cost" in out
    assert "Tokens" not in out
