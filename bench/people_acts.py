"""What one signed-in person does at the page, act after act, and what the server said to each: kept in one ledger."""

import asyncio
import hashlib
import json
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from bench.page_client import Answer, Browser, PageMap

THINK_S = (1.0, 5.0)
TWICE = 0.3
"""Share of presses that are double clicks."""
CHAT_TOKENS = 64
SHARED = "class-exercise"
SHARED_ROWS = 40
RECIPE = """kind: sft
name: {name}
model: {{model_name_or_path: fresh:tiny}}
lora: {{r: 4}}
datasets: [{{path: {path}}}]
validation: {{fraction: 0}}
train: {{max_steps: 5, per_device_train_batch_size: 2, learning_rate: 1.0e-3, max_length: 128, logging_steps: 1}}
"""
ENDED_ALREADY = "it has ended already"


@dataclass
class Deed:
    """One thing a person did.

    Attributes:
        kind: upload, start, stop or chat; "edit" is the recipe changed before Train is pressed.
        what: The dataset's name, the run's id, or the question.
        presses: How often the server said yes to it: two for a double click.
        first_s: Until its effect was told: for a chat the first words, else the end.
        burst: Whether it was everybody's first act, all at the same moment.
    """

    kind: str
    who: str
    what: str
    how: str = ""
    presses: int = 1
    first_s: float = 0.0
    seconds: float = 0.0
    error: str = ""
    burst: bool = False
    num_rows: int = 0
    sha256: str = ""


@dataclass
class Ledger:
    """Everybody's deeds, in the order in which they ended."""

    deeds: list[Deed] = field(default_factory=list)

    def of(self, kind: str) -> list[Deed]:
        """Return those of one kind that the server said yes to."""
        return [deed for deed in self.deeds if deed.kind == kind and not deed.error]


def rows_of(name: str, num_rows: int) -> bytes:
    """Return a file of prompts and completions that nobody else has."""
    rows = [{"prompt": f"# {name} {n}\ndef f(x):", "completion": f"    return x + {n}\n"} for n in range(num_rows)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Person:
    """Acts until told that the time is up, then stops what is left of their own runs."""

    def __init__(self, browser: Browser, page: PageMap, ledger: Ledger, model: str, number: int) -> None:
        """Do nothing yet; `model` is what to chat with."""
        self._browser, self._page, self._ledger, self._model = browser, page, ledger, model
        self._number, self._name = number, browser.name
        self._chance = random.Random(number)
        self._count, self._runs, self._datasets = 0, [], []
        self._burst = True

    async def live(self, begin: asyncio.Event, until: Callable[[], bool]) -> None:
        """Act with pauses to think between; the first act is at the same moment as everybody's."""
        page_key = self._page.filling(self._page.of("train-go", "click")[0].inputs[0])
        await self._browser.send(page_key, [])  # what a page does when it opens
        for event in self._page.of("playground-tab", "select"):
            await self._browser.send(event, self._page.values(event))
        acts = [self._upload_shared, self._upload, self._start, self._chat]
        await begin.wait()
        await self._do(acts[self._number % len(acts)])
        self._burst = False
        while not until():
            await asyncio.sleep(self._chance.uniform(*THINK_S))
            choices = [self._upload, self._start, self._start, self._chat, self._stop, self._stop]
            await self._do(self._chance.choice(choices))
        while self._runs:
            await self._do(self._stop)

    async def _do(self, act: Callable[[], Awaitable[None]]) -> None:
        """A person whose browser is cut off goes on; the deed is in the ledger as not done."""
        try:
            await act()
        except (httpx.HTTPError, OSError) as error:
            self._write(Deed(act.__name__.strip("_"), self._name, "", error=repr(error)))

    def _twice(self) -> int:
        return 2 if self._chance.random() < TWICE else 1

    def _next_name(self) -> str:
        self._count += 1
        return f"{self._name}-{self._count}"

    async def _upload_shared(self) -> None:
        await self._add(SHARED, rows_of(SHARED, SHARED_ROWS), SHARED_ROWS)

    async def _upload(self) -> None:
        name, num_rows = self._next_name(), self._chance.randint(20, 60)
        await self._add(name, rows_of(name, num_rows), num_rows)

    async def _add(self, name: str, content: bytes, num_rows: int) -> None:
        began = time.monotonic()
        event = self._page.of("data-upload", "upload")[0]
        given = await self._browser.upload(f"{name}.jsonl", content)
        answers = await self._browser.send(event, self._page.values(event, data_upload=given, data_list=""))
        deed = self._deed("upload", name, answers, began, num_rows=num_rows, sha256=hashlib.sha256(content).hexdigest())
        if not deed.error and f"{name} is ready" not in answers[0].text:
            deed.error = _plain(str(answers[0].data[:1]))
        if not deed.error and name not in self._datasets:
            self._datasets.append(name)
        self._write(deed)

    async def _start(self) -> None:
        path = f"dataset:{self._chance.choice(self._datasets)}" if self._datasets else "sample:python-first-chat"
        name = self._next_name()
        text = RECIPE.format(name=name, path=path)
        if self._chance.random() < 0.3:
            await self._start_by_name(name, text)
            return
        for event in self._page.of("train-yaml", "change"):
            began = time.monotonic()
            answers = await self._browser.send(event, self._page.values(event, train_yaml=text))
            self._write(self._deed("edit", name, answers, began))
        event, times = self._page.of("train-go", "click")[0], self._twice()
        values = self._page.values(event, train_yaml=text)
        began = time.monotonic()
        answers = await self._browser.send(event, values, times=times)
        found = {match for answer in answers for match in re.findall(r"#runs/([\w-]+)", answer.text)}
        self._started(self._deed("start", name, answers, began, how="button" + " twice" * (times - 1)), found)

    async def _start_by_name(self, name: str, text: str) -> None:
        began = time.monotonic()
        answers = await self._browser.send(self._page.named("train"), [text])
        found = {answer.data[0]["run"] for answer in answers if answer.data}
        self._started(self._deed("start", name, answers, began, how="by name"), found)

    def _started(self, deed: Deed, found: set[str]) -> None:
        name = deed.what
        if not deed.error and len(found) != 1:
            deed.error = f"{name}: {len(found)} runs for one start"
        if not deed.error:
            deed.what, deed.how = found.pop(), f"{deed.how} of {name}"
            self._runs.append(deed.what)
        self._write(deed)

    async def _stop(self) -> None:
        if not self._runs:
            await self._start()
            return
        run_id = self._runs.pop(self._chance.randrange(len(self._runs)))
        how = self._chance.choice(["runs-stop", "runs-cancel", "by name"])
        event = self._page.named("stop_run") if how == "by name" else self._page.of(how, "click")[0]
        values = [run_id] if how == "by name" else self._page.values(event, runs_list=run_id)
        began = time.monotonic()
        answers = await self._browser.send(event, values, times=self._twice())
        # the second of two presses, or one after the run's own end, is told that it came too late: that is no fault
        late = [answer for answer in answers if ENDED_ALREADY in answer.error]
        told = [answer for answer in answers if answer not in late]
        deed = self._deed("stop", run_id, told or late, began, how=how)
        if late and not told:
            deed.kind, deed.error, deed.presses = "stop too late", "", 0
        self._write(deed)

    async def wake_model(self) -> float:
        """Ask the first question there is, for which the model is loaded; return the seconds to its first words."""
        deeds = len(self._ledger.deeds)
        await self._chat()
        (deed,) = self._ledger.deeds[deeds:]
        return deed.first_s

    async def _chat(self) -> None:
        question = f"{self._next_name()}: write a function that adds two numbers"
        for event in self._page.of("chat-clear", "click"):  # else the conversation outgrows the small model
            await self._browser.send(event, [])
        event = self._page.of("chat-send", "click")[0]
        values = self._page.values(event, chat_source=self._model, chat_input=question, chat_max_tokens=CHAT_TOKENS)
        began = time.monotonic()
        answers = await self._browser.send(event, values)
        deed = self._deed("chat", question, answers, began)
        if not deed.error and (question not in answers[0].text or "Not answered" in answers[0].text):
            deed.error = _plain(answers[0].text)
        self._write(deed)

    def _deed(  # noqa: PLR0913  # what is known of it, by keyword
        self,
        kind: str,
        what: str,
        answers: list[Answer],
        began: float,
        *,
        how: str = "",
        num_rows: int = 0,
        sha256: str = "",
    ) -> Deed:
        """Judge the answers to one act: its time is that of the slowest, counted from the press."""
        seconds = time.monotonic() - began
        first_s = max((answer.first_s - answer.seconds for answer in answers), default=0.0) + seconds
        errors = [_plain(answer.error) for answer in answers if answer.error]
        return Deed(
            kind, self._name, what, how, len(answers), first_s, seconds, "; ".join(errors), self._burst, num_rows, sha256
        )  # fmt: skip

    def _write(self, deed: Deed) -> None:
        self._ledger.deeds.append(deed)


def _plain(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)[:300]
