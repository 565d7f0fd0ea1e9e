"""The Runs tab in a real Chromium while a run goes wrong: its alert, its groups of curves, what its model wrote at two steps."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import drawn_step, queue, read_run, wait_for
from tests.e2e.test_looks import CONTRAST

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
WILD = [
    "lora=null", "train.max_steps=60", "train.learning_rate=3.0", "train.lr_scheduler_type=constant", "train.logging_steps=1", "train.max_grad_norm=1e9",
    "samples={every_steps: 20, max_new_tokens: 12}", "checkpoints.every_steps=30", "launch.probe=on",
]  # fmt: skip


def test_a_run_that_goes_wrong_is_watched_and_understood(page, open_tab):
    run_id = queue(page, *WILD)
    tab = open_tab(page)
    tab.go("Runs")
    wait_for(lambda: read_run(page, run_id)["state"] in {"succeeded", "failed"}, 150, "the end of the run")
    alert = tab.page.locator("#runs-alerts [data-alert=diverged]")
    expect(alert).to_contain_text("Start again with train.learning_rate=0.3, a tenth of now.")
    expect(tab.page.locator("#runs-alerts details")).to_contain_text("Progress score")
    expect(tab.page.locator("#runs-head")).to_contain_text(re.compile(r"memory \d\.\d\d GiB, estimated \d\.\d\d"))
    wait_for(lambda: drawn_step(tab) > 5, 30, "the curve")
    groups = tab.page.locator("#runs-metric optgroup").evaluate_all("all => all.map(one => one.label)")
    assert groups == ["Loss", "Gradient", "Speed", "Machine"]
    beside = tab.page.locator("#runs-chart [data-metric]")
    expect(tab.page.locator("#runs-chart [data-metric=perplexity]")).to_be_visible()
    tab.page.locator("#runs-metric").select_option("cpu_percent")
    expect(beside).to_have_count(2)
    tab.page.locator("#runs-chart [data-metric=ram_percent]").click()
    expect(tab.page.locator("#runs-metric")).to_have_value("ram_percent")
    tab.page.locator("#runs-metric").select_option("loss")
    told = page.cli("runs", "show", run_id).stdout
    assert "diverged: The loss was" in told
    assert "memory of a step on the longest rows: " in told
    tab.shot("watch-light")
    tab.page.get_by_role("tab", name="Samples").click()
    samples = tab.page.locator("#runs-samples")
    expect(samples.locator("section")).to_have_count(3)
    expect(samples.locator("#samples-left")).to_have_value("0")
    expect(samples.locator("#samples-right")).to_have_value("60")
    samples.locator("#samples-right").select_option("20")
    expect(samples.locator("section").first).to_contain_text("Step 20")
    samples.scroll_into_view_if_needed()
    tab.shot("samples-light")
    phone = open_tab(page, viewport={"width": 390, "height": 844}, color_scheme="dark")
    _look_on_a_phone(phone)
    for each in (tab, phone):
        assert each.page.evaluate(CONTRAST) == []


def _look_on_a_phone(phone):
    phone.go("Runs")
    expect(phone.page.locator("#runs-alerts [data-alert=diverged]")).to_be_visible()
    phone.page.get_by_role("tab", name="Samples").click()
    expect(phone.page.locator("#runs-samples section")).to_have_count(3)
    phone.page.wait_for_timeout(400)  # let the tab's fade end
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("samples", "alerts", "chart .cs-beside"):
        phone.page.locator(f"#runs-{name}").scroll_into_view_if_needed()
        phone.shot(f"watch-phone-dark-{name.split()[0]}")
