"""From the Train tab to a Job and back: the rented machine is chosen there, and its curve is live on Runs."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Page, all_runs, drawn_step, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
LONG = """kind: sft
name: rented
model: {model_name_or_path: fresh:tiny}
lora: {r: 4}
datasets: [{path: sample:python-first-chat}]
train: {max_steps: 2000, per_device_train_batch_size: 2, logging_steps: 1}
checkpoints: {every_steps: 20}
"""


@pytest.fixture
def control_room(hub, tmp_path):
    served = Page(
        tmp_path / "workspace",
        HF_ENDPOINT=hub.endpoint,
        HF_HUB_OFFLINE="0",
        HF_TOKEN="hf_write",
        CODEX_SPACE_JOB_IMAGE="hf.co/spaces/ada/codex",
    )
    served.workspace.mkdir()
    yield served.start()
    served.close()


def test_a_rented_machine_is_chosen_and_its_curve_is_live(control_room, hub, open_tab):
    tab = open_tab(control_room).go("Train")
    yaml = tab.page.locator("#train-yaml textarea")
    yaml.fill(LONG)
    yaml.blur()
    expect(tab.page.locator("#train-name textarea, #train-name input").first).to_have_value("rented")
    where = tab.page.locator("#train-where input")
    where.click()
    option = tab.page.get_by_role("option", name="HF Jobs: l4x1")
    expect(option).to_contain_text("$0.90 an hour")  # what the Hub says now, not what we shipped
    option.click()
    expect(tab.page.locator("#train-ready")).to_contain_text("needs hub.repo_id")
    repo = tab.page.locator("#train-repo-id textarea, #train-repo-id input").first
    repo.fill("ada/rented")
    repo.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("your consent")
    tab.page.locator("#train-keep-rows input").check()
    expect(tab.page.locator("#train-ready")).to_contain_text("l4x1 of Hugging Face for at most 4h")
    tab.shot("jobs-train")
    tab.page.locator("#train-go").click()
    (run,) = wait_for(lambda: all_runs(control_room), 30, "the run")
    assert run["place"] == "hf-jobs"
    tab.go("Runs")
    tab.page.locator("#runs-chart .cs-chart-host [data-step]").wait_for(
        timeout=90_000
    )  # the machine has to begin first
    wait_for(lambda: drawn_step(tab) > 5, 120, "the live curve")
    expect(tab.page.locator("#runs-head")).to_contain_text("HF Jobs on l4x1")
    expect(tab.page.get_by_role("link", name="See it on the Hub")).to_have_attribute(
        "href", f"{hub.endpoint}/jobs/ada/{next(iter(hub.state.jobs.jobs))}"
    )
    expect(tab.page.locator("#runs-checkpoints")).to_contain_text("on the Hub", timeout=90_000)
    tab.shot("jobs-runs")
    control_room.stop()
    control_room.start()  # the Job went on; its log is read on from where it was
    at = drawn_step(tab)
    wait_for(lambda: drawn_step(tab) > at, 90, "the curve after the restart")
    assert control_room.cli("jobs", "cancel", run["id"]).returncode == 0
    expect(tab.page.locator("#runs-head")).to_contain_text("Cancelled", timeout=60_000)
    listed = control_room.cli("jobs", "list").stdout
    assert "stopped" in listed
