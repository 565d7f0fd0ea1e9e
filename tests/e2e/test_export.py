"""Taking a model home in a real Chromium: train, export, read the table, download with a break, chat with the file."""

import http.client
import json

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


def fetch(page, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("GET", path, headers=headers)
    return connection, connection.getresponse()


def download_with_a_break(page, tab, link, saved):
    with tab.page.expect_download() as started:
        link.click()
    started.value.save_as(saved)
    assert started.value.suggested_filename == "first-Q4_K_M.gguf"
    whole = saved.read_bytes()
    assert whole[:4] == b"GGUF"
    path = link.get_attribute("href")
    connection, answer = fetch(page, path)
    part = answer.read(len(whole) // 3)
    tag = answer.getheader("etag")
    connection.close()  # in the middle of the transfer
    connection, answer = fetch(page, path, **{"Range": f"bytes={len(part)}-", "If-Range": tag})
    assert answer.status == 206
    assert part + answer.read() == whole
    connection.close()


def check_command(page, run_id):
    told = page.cli("export", run_id, "--gguf", "Q8_0", "--json")
    assert told.returncode == 0, told.stderr
    body = json.loads(told.stdout)
    assert body["card"] == "README.md"
    assert [sorted(each) for each in body["files"]] == [
        ["bytes", "kl", "passed", "path", "tokens_equal", "top1", "type", "why"]
    ]
    assert body["files"][0]["type"] == "Q8_0"
    assert body["files"][0]["passed"]


def test_a_model_is_trained_exported_downloaded_with_a_break_and_talked_to(page, open_tab, tmp_path):
    run_id = queue(page, "train.max_steps=20", "name=first")
    tab = open_tab(page)
    wait_for(lambda: read_run(page, run_id)["state"] == "succeeded", 200, "the training")
    tab.go("Export")
    tab.shot("export-empty")
    expect(tab.page.locator("#export-result")).to_contain_text("Take a model home")
    expect(tab.page.locator("#export-types")).to_contain_text("Q4_K_M")
    expect(tab.page.locator("#export-types")).to_contain_text("kB")  # the size a file will have
    tab.page.locator("#export-go").dblclick()
    rows = tab.page.locator("#export-result tbody tr[data-passed=true]")
    expect(rows).to_have_count(2, timeout=180_000)
    expect(tab.page.locator("#export-result .cs-state[data-state=succeeded]")).to_be_visible(timeout=60_000)
    expect(tab.page.locator("#export-list [data-key]")).to_have_count(1)  # the double click queued one
    expect(tab.page.locator("#export-result")).to_contain_text("best for 4, 8, 16 GB")
    expect(tab.page.locator("#export-result")).to_contain_text("500 of 500")
    tab.shot("export")
    tab.page.get_by_role("button", name="llama.cpp", exact=True).click()
    expect(tab.page.locator("#export-result .cs-command")).to_contain_text("llama-cli -m first-Q4_K_M.gguf")

    download_with_a_break(page, tab, rows.locator("a", has_text="Download").last, tmp_path / "saved.gguf")
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.shot("export-390")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    export_id = tab.page.locator("#export-list [data-key]").get_attribute("data-key")
    tab.go("Playground")
    expect(tab.page.locator("#chat-source input")).to_have_value("first · Q8_0 (GGUF)")
    tab.page.evaluate(f"location.hash = '#playground/gguf:{export_id}/first-Q4_K_M.gguf'")
    expect(tab.page.locator("#chat-source input")).to_have_value("first · Q4_K_M (GGUF)")
    tab.page.locator("#chat-input textarea").fill("Write a function that adds two numbers.")
    tab.page.locator("#chat-send").click()
    expect(tab.page.locator("#chat-log")).to_contain_text("tokens/s", timeout=90_000)
    tab.shot("export-chat")

    check_command(page, run_id)
