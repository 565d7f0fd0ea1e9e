"""The page in a real Chromium: first model, upload and train, stop and resume, reload, two people, keyboard, contrast."""

import json
import re
import signal
import time

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

LONG_S = 180_000
WRONG = '{"question": "a"}\n' * 3 + "not json\n"
ROWS = [{"prompt": f"Write a function that adds {n}.\n", "completion": f"def add{n}(x):\n    return x + {n}\n"} for n in range(60)]


def write_rows(tmp_path):
    path = tmp_path / "adders.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run_state(page, run_id):
    shown = page.cli("runs", "show", run_id, "--json")
    return json.loads(shown.stdout)["status"]


def newest_run(page):
    return json.loads(page.cli("runs", "list", "--json").stdout)[0]


def wait_for(condition, timeout_s=120, what="it"):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


def test_the_first_model_from_the_start_tab_to_a_chat(page, open_tab):
    tab = open_tab(page)
    tab.shot("start-empty")
    tab.page.locator("#start-train").click()
    tab.shot("start-running")
    wait_for(lambda: newest_run(page)["name"].endswith("tuning") and newest_run(page)["state"] == "succeeded", 170, "the first model")
    tab.go("Runs")
    expect(tab.page.locator("#runs-list")).to_contain_text("First model - tuning")
    tab.go("Playground")
    tab.page.locator("#chat-input textarea").fill("Write a function that adds two numbers.")
    tab.page.locator("#chat-send").click()
    expect(tab.page.locator("#chat-log")).to_contain_text("tokens/s", timeout=60_000)
    tab.shot("playground")
