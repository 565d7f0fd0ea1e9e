"""What cards say of money: price times time, or why it is not known, and nothing where nothing was paid."""

import pytest

from codex_space.core.hardware import list_hardware
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.jobs.spent import say_cost
from codex_space.services import runs
from codex_space.services.prices import price_of
from codex_space.store import costs, hub_jobs

RUN = "20261121-001530-sft-k3f9"
RECIPE = "kind: sft\nname: one\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"


def add_job(ctx, run_id, attempt, flavor="l4x1", **changes):
    hub_jobs.add_job(ctx.db, run_id, attempt, flavor=flavor, timeout_s=3600, now=1.0, log_offset=0)
    hub_jobs.update_job(ctx.db, run_id, attempt, running_s=1800.0, **changes)


@pytest.mark.parametrize(("usd", "said"), [(0.8, "$0.80"), (1234.5, "$1,234.50"), (0.001, "less than $0.01")])
def test_what_this_machine_cost_is_said(ctx, usd, said):
    assert say_cost(ctx.db, RUN) == ""
    costs.add(ctx.db, RUN, at=1.0, seconds=60, usd=usd)
    assert say_cost(ctx.db, RUN) == said


def test_a_job_without_a_price_is_not_said_to_be_free(ctx):
    run_id = runs.submit(ctx, RECIPE).id
    add_job(ctx, run_id, 1, usd_per_hour=0.8)
    assert say_cost(ctx.db, run_id) == "$0.40"
    add_job(ctx, run_id, 2, "a100-large")
    assert say_cost(ctx.db, run_id) == "not known: the Hub named no price of the Job's a100-large; $0.40 for the rest"


def test_the_owner_in_a_job_counts_by_the_price_of_what_it_runs_on(tmp_path):
    settings = read_settings({"CODEX_SPACE_JOB_FLAVOR": "l4x1"}, workspace=tmp_path)
    assert price_of(Workspace(tmp_path), settings.accelerator) == list_hardware()["l4x1"].usd_per_hour > 0
    assert read_settings({}, workspace=tmp_path).accelerator == ""
