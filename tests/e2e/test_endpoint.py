"""A model on a server is evaluated by a press in a real Chromium: its key is gone from the page, its score stands in the list, and it stops."""

import threading

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, wait_for
from tests.fakes.openai_server import send, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
KEY = "a-key-that-nobody-sees"


def test_a_server_is_asked_by_a_press(page, open_tab):
    with serving() as served:
        served.always = send(200, '{"choices": [{"text": "    return 0\\n"}]}')
        tab = open_tab(page).go("Evaluate")
        field = tab.page.locator
        assert field("#evaluate-url input").count() == 0 or not field("#evaluate-url input").is_visible()
        tab.page.get_by_label("On a server").check()
        expect(field("#evaluate-source")).to_be_hidden()
        fields = {"url": served.url, "served": "some/model", "key": KEY, "limit": "4"}
        for name, value in fields.items():
            field(f"#evaluate-{name} input, #evaluate-{name} textarea").first.fill(value)
        assert field("#evaluate-key input").get_attribute("type") == "password"
        tab.shot("evaluate-server")
        field("#evaluate-go").dblclick()
        result = field("#evaluate-result")
        expect(result.locator(".cs-state[data-state=succeeded]")).to_be_visible(timeout=90_000)
        expect(result).to_contain_text("some/model")
        expect(field("#evaluate-problems [data-task]")).to_have_count(4)
        expect(field("#evaluate-key input")).to_have_value("")
        assert len(all_runs(page)) == 1, "a double click is one press"
        assert {authorization for _, authorization, _ in served.asked} == {f"Bearer {KEY}"}
        stored = "JSON.stringify({...localStorage, ...sessionStorage}) + document.documentElement.outerHTML"
        assert KEY not in tab.page.evaluate(stored)
        kept = [
            path for path in page.workspace.parent.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
        ]
        assert kept == []
        tab.shot("evaluate-server-done")

        asked, over = threading.Event(), threading.Event()
        served.always = lambda _handler: (asked.set(), over.wait(60))
        field("#evaluate-go").click()
        assert asked.wait(60)
        field("#evaluate-stop").click()
        wait_for(lambda: {run["state"] for run in all_runs(page)} == {"succeeded", "stopped"}, 30, "the stop")
        over.set()
        expect(result.locator(".cs-state[data-state=stopped]")).to_be_visible()


def test_what_is_missing_is_said_and_nothing_starts(page, open_tab):
    tab = open_tab(page).go("Evaluate")
    tab.page.get_by_label("On a server").check()
    press, message = tab.page.locator("#evaluate-go"), tab.page.locator("#evaluate-message")
    press.click()
    expect(message).to_contain_text("no server is named")
    tab.page.locator("#evaluate-url input, #evaluate-url textarea").first.fill("file:///etc/passwd")
    press.click()
    expect(message).to_contain_text("no model is named")
    tab.page.locator("#evaluate-served input, #evaluate-served textarea").first.fill("m")
    press.click()
    expect(message).to_contain_text("endpoint.url")
    assert all_runs(page) == []
