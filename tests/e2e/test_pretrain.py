"""The Pretrain tab in a real Chromium: the dial, the budget, a blend's mistakes, packed text, and the start."""

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_dial_from_its_budget_to_a_run(page, open_tab):
    page.cli("tokenizer", "train", "tokenizer/tiny-cpu")
    tab = open_tab(page)
    tab.go("Pretrain")
    sizes, budget = tab.page.locator("#pretrain-sizes"), tab.page.locator("#pretrain-budget")
    expect(sizes).to_contain_text("4 layers, 256 wide")
    expect(budget).to_contain_text("l4x1")
    tab.shot("pretrain")
    depth = tab.page.locator("#pretrain-depth input[type=number]")
    depth.fill("20")
    depth.press("Tab")
    expect(sizes).to_contain_text("20 layers, 1,280 wide")
    expect(budget).to_contain_text("$")
    tab.shot("pretrain-20")
    shares = tab.page.locator("#pretrain-shares textarea, #pretrain-shares input").first
    shares.fill("0.7, 0.2")
    shares.press("Tab")
    expect(sizes).to_contain_text("there are 2 shares for 1 sources")
    expect(tab.page.locator("#pretrain-start")).to_be_disabled()
    shares.fill("")
    shares.press("Tab")
    depth.fill("2")
    depth.press("Tab")
    expect(sizes).to_contain_text("2 layers, 128 wide")
    tab.page.locator("#pretrain-tokenizer input").click()
    tab.page.get_by_role("option", name="tiny tokenizer (trained here)").click()
    tab.page.get_by_text("Look at packed text").click()
    tab.page.locator("#pretrain-look").click()
    expect(tab.page.locator("#pretrain-looked")).to_contain_text("marks where one ends")
    tab.shot("pretrain-packed")
    expect(tab.page.locator("#pretrain-start")).to_be_enabled()
    tab.page.locator("#pretrain-measure").click()
    expect(tab.page.locator("#pretrain-measured")).to_contain_text("The time is measured", timeout=90_000)
    expect(budget.locator("tr", has_text="this machine")).to_contain_text(", measured")
    tab.shot("pretrain-measured")
    tab.page.locator("#pretrain-start").click()
    expect(tab.page.locator("#pretrain-started")).to_contain_text("is in the queue")
    wait_for(lambda: all_runs(page)[0]["name"] == "depth 2", 30, "the run")
    tab.page.set_viewport_size({"width": 390, "height": 844})
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.shot("pretrain-phone")
