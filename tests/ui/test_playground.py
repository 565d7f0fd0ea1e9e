"""The Playground of a launched page, asked by several people at once; the model is a counter."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from bench.page_client import Browser, PageMap
from codex_space.jobs.warm import WarmWorker
from codex_space.services.chat import AT_ONCE
from tests.ui.test_uploads import Visitor

WORKER = Path(__file__).parent.parent / "fakes" / "chat_worker.py"


@pytest.fixture(scope="module")
def visitor(tmp_path_factory):
    opened = Visitor(tmp_path_factory.mktemp("page"))
    chat = opened.page.chat
    chat._worker = WarmWorker([sys.executable, str(WORKER)], {}, opened.ctx.workspace.root / "chat.log")
    yield opened
    opened.close()


class Guest:
    """Somebody at the Playground."""

    def __init__(self, browser, page, chat):
        self.browser, self.page, self.chat = browser, page, chat

    def ask(self, num_words, text="hello"):
        event = self.page.of("chat-send", "click")[0]
        values = self.page.values(event, chat_source="counter", chat_input=text, chat_max_tokens=num_words)
        return asyncio.create_task(self.browser.send(event, values))

    async def press_stop(self):
        await self.browser.join(self.page.of("chat-stop", "click")[0], [])

    async def until_answered(self, num):
        deadline = time.monotonic() + 20
        while self.chat._num_answers != num:
            assert time.monotonic() < deadline, f"{self.chat._num_answers} are being answered"
            await asyncio.sleep(0.005)


@pytest.fixture
def together(visitor):
    """Run something with that many guests."""

    def run(num, do):
        async def all_of_it():
            browsers = [Browser(visitor.address, f"guest {number}") for number in range(num)]
            page = PageMap((await browsers[0].ask("GET", "/config")).json())
            try:
                return await do(*[Guest(browser, page, visitor.page.chat) for browser in browsers])
            finally:
                for browser in browsers:
                    await browser.__aexit__(None, None, None)

        return asyncio.run(all_of_it())

    return run


def test_two_people_are_answered_at_once_and_stop_is_for_oneself(together):
    async def do(she, he):
        hers, his = she.ask(2000), he.ask(200)
        await she.until_answered(2)
        await she.press_stop()
        return (await hers)[0].text, (await his)[0].text

    hers, his = together(2, do)
    assert "counter1999" not in hers
    assert "counter0" in hers
    assert "counter199" in his


def test_stop_of_somebody_who_asks_nothing_ends_nothing(together):
    async def do(she, he):
        his = he.ask(100)
        await he.until_answered(1)
        await she.press_stop()
        return (await his)[0].text

    assert "counter99" in together(2, do)


def test_more_than_may_be_answered_at_once_are_all_answered_in_the_end(together):
    async def do(*guests):
        asked = [guest.ask(30, f"question {number}.") for number, guest in enumerate(guests)]
        return [(await one)[0].text for one in asked]

    for number, said in enumerate(together(AT_ONCE + 4, do)):
        assert "counter29" in said
        assert f"question {number}." in said, "somebody else's conversation"


def test_a_worker_that_dies_is_a_sentence_for_each_who_waited(together):
    async def do(she, he):
        hers = she.ask(2000)
        await she.until_answered(1)
        said = [(await one)[0].text for one in (he.ask(16, "die"), hers)]
        return [*said, (await she.ask(16))[0].text]

    *died, again = together(2, do)
    assert all("Not answered" in said and "Traceback" not in said for said in died)
    assert "counter15" in again
