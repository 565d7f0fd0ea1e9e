"""A training that ends in a GGUF file by itself: asked for on the page and on the command line, over real workers."""

import json
import re

import pytest
from playwright.sync_api import expect

from codex_space.core.export_tools import find_converter
from tests.e2e.conftest import queue, read_run, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_converter() is None, reason="llama.cpp is not set up on this machine: make export-tools"),
]


def test_a_command_trains_exports_and_ends_with_a_proven_file(page):
    page.stop()  # then the command itself owns the workspace
    told = page.cli(
        "train", "sft/tiny-cpu", "train.max_steps=4", "after=[export]", "export.gguf=[Q8_0]", "--json", timeout_s=400
    )
    assert told.returncode == 0, told.stderr
    body = json.loads(told.stdout)
    (after,) = body["after"]
    assert (body["status"], after["state"], after["types"]) == ("succeeded", "succeeded", ["Q8_0"])
    found = json.loads((page.workspace / "runs" / after["run"] / "export" / "export.json").read_text())
    (row,) = found["files"]
    assert (row["type"], row["passed"], row["tokens_equal"]) == ("Q8_0", True, True)
    assert found["source"].startswith(f"run:{body['run']}@step-")
    again = page.cli("runs", "list", "--json")
    assert sum(run["kind"] == "export" for run in json.loads(again.stdout)) == 1


def test_the_page_asks_for_it_and_leads_to_it(page, open_tab):
    tab = open_tab(page)
    tab.go("Train")
    field = tab.page.locator("#train-export-types input")
    field.scroll_into_view_if_needed()
    field.click()
    tab.page.get_by_role("option", name="Q8_0: 8 bits").click()
    tab.page.locator("#train-export-types label, #train-export-types span").first.click()
    expect(tab.page.locator("#train-yaml textarea")).to_have_value(re.compile("after:"))
    tab.shot("train-after")
    run_id = queue(page, "train.max_steps=4", "after=[export]", "export.gguf=[Q8_0]", "name=first")
    tab.page.evaluate(f"location.hash = '#runs/{run_id}'")
    expect(tab.page.locator("#runs-after")).to_contain_text("Then export as Q8_0 of the best checkpoint")
    tab.shot("runs-after-planned")
    wait_for(lambda: read_run(page, run_id)["state"] == "succeeded", 200, "the training")
    link = tab.page.locator("#runs-after a")
    expect(link).to_be_visible(timeout=30_000)
    tab.shot("runs-after-queued")
    link.click()
    expect(tab.page.locator("#export-result tbody tr[data-passed=true]")).to_have_count(1, timeout=180_000)
    expect(tab.page.locator("#export-list [data-key]")).to_have_count(1)
