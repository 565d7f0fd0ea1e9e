"""A sweep from the Train tab to its table on Runs, in a real Chromium."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
SWEEP = """kind: sft
name: try
model: {model_name_or_path: fresh:tiny}
lora: {r: 4}
datasets: [{path: sample:python-first-chat}]
train: {max_steps: 3, per_device_train_batch_size: 2, logging_steps: 1}
sweep: {train.learning_rate: [1e-4, 1e-2]}
"""


def test_a_sweep_trains_each_point_and_the_table_marks_the_best(page, open_tab):
    tab = open_tab(page).go("Train")
    yaml = tab.page.locator("#train-yaml textarea")
    yaml.fill(SWEEP)
    yaml.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("2 runs, one after another")
    expect(tab.page.locator("#train-estimate")).to_contain_text("Fits")
    tab.page.locator("#train-go").click()
    expect(tab.page.locator("#train-result")).to_contain_text("2 runs are in the queue")
    wait_for(lambda: [run["state"] for run in all_runs(page)] == ["succeeded"] * 2, 200, "both runs' end")
    tab.go("Runs")
    for run in all_runs(page):
        tab.page.locator(f"input[data-run='{run['id']}']").check()
    rows = tab.page.locator("#runs-table tbody tr")
    expect(rows).to_have_count(2)
    expect(tab.page.locator("#runs-table")).to_contain_text("learning_rate")
    expect(tab.page.locator("#runs-table tr[data-best=true]")).to_contain_text("0.01")
    tab.page.locator("#runs-table th button", has_text="learning_rate").click()
    expect(rows.first).to_contain_text("0.0001")
    tab.shot("sweep")
