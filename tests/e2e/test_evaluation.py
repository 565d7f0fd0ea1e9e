"""Evaluation in a real Chromium: a score under the loss while training, the problems, and one model against another."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import queue, read_run, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
ASKED = "evaluate={benchmarks: [first-steps], limit: 6, max_new_tokens: 16}"


def test_a_model_is_evaluated_while_it_trains_and_by_a_press(page, open_tab):
    run_id = queue(page, "train.max_steps=20", "checkpoints.every_steps=10", ASKED, "name=asked")
    tab = open_tab(page)
    tab.go("Runs")
    wait_for(lambda: read_run(page, run_id)["state"] == "succeeded", 200, "the training")
    scores = tab.page.locator("#runs-scores")
    expect(scores).to_be_visible(timeout=30_000)
    tab.shot("runs-scores")

    tab.go("Evaluate")
    listed = tab.page.locator("#evaluate-list [data-key]")
    expect(listed).to_have_count(3, timeout=60_000)  # the base and two checkpoints
    tab.page.locator("#evaluate-limit input, #evaluate-limit textarea").first.fill("6")
    tab.page.locator("#evaluate-go").dblclick()
    expect(listed).to_have_count(4, timeout=90_000)
    result = tab.page.locator("#evaluate-result")
    expect(result.locator(".cs-state[data-state=succeeded]")).to_be_visible(timeout=90_000)
    expect(result).to_contain_text("first-steps.jsonl")  # the protocol
    squares = tab.page.locator("#evaluate-problems [data-task]")
    expect(squares).to_have_count(6)
    squares.first.click()
    expect(tab.page.locator("#evaluate-problems")).to_contain_text("def ")
    tab.shot("evaluate")
    against = tab.page.locator("#evaluate-against select")
    against.select_option(index=1)
    expect(tab.page.locator("#evaluate-against")).to_contain_text("No difference can be claimed")
    tab.shot("evaluate-against")
    tab.page.reload()
    expect(tab.page.locator("#evaluate-result .cs-state[data-state=succeeded]")).to_be_visible(timeout=30_000)
