"""What the server keeps of opened pages: their states, which are their own, and not the settings of every component."""

import asyncio

import pytest

from bench.page_client import Browser, PageMap
from codex_space.ui.serve import EVENTS_LOOKED_FOR_S, PROGRESS_LOOKED_FOR_S
from codex_space.ui.sessions import MOST_SESSIONS, LeanSession
from tests.ui.test_uploads import Visitor


@pytest.fixture(scope="module")
def visitor(tmp_path_factory):
    opened = Visitor(tmp_path_factory.mktemp("page"))
    yield opened
    opened.close()


def held(visitor):
    return visitor.page.demo.app.state_holder


async def open_page(browser, page):
    """Get the page's key, as a page does that opens; return the event's answer."""
    (answer,) = await browser.send(page.filling(page.of("train-go", "click")[0].inputs[0]), [])
    return answer


def test_an_opened_page_costs_its_states_and_no_settings(visitor):
    async def open_some():
        for number in range(5):
            async with Browser(visitor.address, f"guest {number}") as browser:
                page = PageMap((await browser.ask("GET", "/config")).json())
                assert not (await open_page(browser, page)).error
                for event in page.of("data-list", "select"):  # its answer changes components
                    assert not (await browser.send(event, page.values(event)))[0].error

    before = len(held(visitor).session_data)
    asyncio.run(open_some())
    sessions = list(held(visitor).session_data.values())[before:]
    assert len(sessions) == 5
    assert all(isinstance(one, LeanSession) and not one.config_values for one in sessions)
    keys = [
        value for one in sessions for value in one.state_data.values() if isinstance(value, str) and len(value) == 16
    ]
    assert len(set(keys)) == 5, "each page has a key of its own"


def test_sessions_are_bounded_and_one_that_was_let_go_begins_anew(visitor, monkeypatch):
    assert held(visitor).capacity == MOST_SESSIONS
    monkeypatch.setattr(held(visitor), "capacity", 3)

    async def come_back():
        async with Browser(visitor.address, "early") as early:
            page = PageMap((await early.ask("GET", "/config")).json())
            await open_page(early, page)
            for number in range(4):
                async with Browser(visitor.address, f"later {number}") as later:
                    await open_page(later, page)
            (go,) = page.of("train-go", "click")
            return (await early.send(go, page.values(go, train_yaml="kind: nothing")))[0]

    answer = asyncio.run(come_back())
    assert not answer.error
    assert "Not started" in answer.text
    assert len(held(visitor).session_data) <= 3


def test_the_queue_looks_for_events_at_the_pace_it_was_told(visitor):
    queue = visitor.page.demo._queue
    assert (queue.sleep_when_free, queue.progress_update_sleep_when_free) == (
        EVENTS_LOOKED_FOR_S,
        PROGRESS_LOOKED_FOR_S,
    )
    assert "sleep_when_free" in type(queue).start_processing.__code__.co_names, (
        "Gradio looks for events in another way now"
    )
    assert "progress_update_sleep_when_free" in type(queue).start_progress_updates.__code__.co_names


def test_the_class_that_is_replaced_still_has_what_is_replaced():
    base = LeanSession.__mro__[1]
    assert {"_update_config", "_update_value_in_config", "components", "state_components"} <= set(dir(base))
    told = {"blocks_config", "config_values", "state_data", "_state_ttl", "is_closed"}
    assert told <= set(base.__init__.__code__.co_names)
