"""A person's browser without its window: signs in, sends the page's own events and reads what the server answers."""

import asyncio
import http.cookies
import json
import secrets
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Event:
    """One of the page's events.

    Attributes:
        inputs: Ids of the components whose values it takes.
        outputs: Ids of those it changes.
    """

    number: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Answer:
    """What came of an event.

    Attributes:
        data: The values of the outputs; of an event that answers in parts, the last ones.
        error: What the page would show instead.
        first_s: Until the second part of an answer in parts (the first says that it is waited for), else until the end.
        seconds: Until the server said that it is over.
    """

    data: list[Any] = field(default_factory=list)
    error: str = ""
    num_parts: int = 0
    first_s: float = 0.0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """All of it, to look for a word in."""
        return json.dumps(self.data, ensure_ascii=False)


class PageMap:
    """What `/config` tells a browser: components by element id, events by what triggers them."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Read it once for all browsers."""
        self._props = {each["id"]: each.get("props", {}) for each in config["components"]}
        self._by_elem = {props["elem_id"]: at for at, props in self._props.items() if props.get("elem_id")}
        self._dependencies = [each for each in config["dependencies"] if each["backend_fn"]]

    def of(self, elem_id: str, trigger: str) -> list[Event]:
        """Return the events that one trigger of a component starts."""
        target = [self._by_elem[elem_id], trigger]
        return [_event(each) for each in self._dependencies if target in [list(one) for one in each["targets"]]]

    def named(self, api_name: str) -> Event:
        """Return the event that programs call by that name."""
        return next(_event(each) for each in self._dependencies if each["api_name"] == api_name)

    def filling(self, component: int) -> Event:
        """Return the event that sets this one component and nothing else."""
        return next(_event(each) for each in self._dependencies if each["outputs"] == [component])

    def at(self, elem_id: str) -> int:
        """Return a component's id."""
        return self._by_elem[elem_id]

    def values(self, event: Event, **given: object) -> list[Any]:
        """Return an event's input as a page that was just opened has it, but for what is given by element id."""
        known = {self._by_elem[name.replace("_", "-")]: value for name, value in given.items()}
        return [known.get(each, self._props.get(each, {}).get("value")) for each in event.inputs]


class Browser:
    """One person at the page, with a cookie, a session and connections of their own."""

    def __init__(self, address: str, name: str) -> None:
        """Open nothing yet."""
        self.name = name
        self._session, self._cookie = secrets.token_hex(6), ""
        self._client = httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S, trust_env=False, verify=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def sign_in(self) -> None:
        """Go to the provider and back, as whoever sits there now.

        Raises:
            RuntimeError: The page takes this person for another, or for nobody.
        """
        start = await self.ask("GET", "/login/huggingface")
        there = await self._client.get(start.headers["location"])
        await self.ask("GET", there.headers["location"])
        me = (await self.ask("GET", "/api/me")).json()
        if (me["name"], me["acts"]) != (self.name, True):
            raise RuntimeError(f"{self.name} signed in and the page says {me}")

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's own
        """Send one request with the cookie, which is for https only and so kept by hand."""
        answer = await self._client.request(method, path, headers=self._headers(), **options)
        jar = http.cookies.SimpleCookie(answer.headers.get("set-cookie", ""))
        if "session" in jar:
            self._cookie = jar["session"].value
        return answer

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Send a file as a drop on the page does; return what names it in an event."""
        answer = await self.ask("POST", "/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return {
            "path": answer.json()[0],
            "orig_name": name,
            "size": len(content),
            "meta": {"_type": "gradio.FileData"},
        }

    async def send(self, event: Event, values: list[Any], *, times: int = 1) -> list[Answer]:
        """Start an event, `times` at once for somebody who presses twice, and read all answers to their ends."""
        began = time.monotonic()
        numbers = await asyncio.gather(*[self.join(event, values) for _ in range(times)])
        answers = {number: Answer() for number in numbers}
        request = {"params": {"session_hash": self._session}, "headers": self._headers()}
        async with self._client.stream("GET", "/gradio_api/queue/data", **request) as lines:
            async for line in lines.aiter_lines():
                if line.startswith("data:"):
                    said = json.loads(line[5:])
                    if said["msg"] == "close_stream":
                        break
                    _take(answers, said, time.monotonic() - began)
        for answer in answers.values():
            if not answer.seconds:
                answer.error = answer.error or "the stream ended without an answer"
        return list(answers.values())

    async def join(self, event: Event, values: list[Any]) -> str:
        """Start an event and return its id; what comes of it, the stream of this session says."""
        body = {"fn_index": event.number, "data": values, "session_hash": self._session}
        answer = await self.ask("POST", "/gradio_api/queue/join", json={**body, "trigger_id": None, "event_data": None})
        answer.raise_for_status()
        return answer.json()["event_id"]

    def _headers(self) -> dict[str, str]:
        return {"cookie": f"session={self._cookie}"} if self._cookie else {}


def _take(answers: dict[str, Answer], said: dict[str, Any], after_s: float) -> None:
    """Write down one message of the stream."""
    answer = answers.get(said.get("event_id") or "")
    if answer is None:
        if said["msg"] == "unexpected_error":
            for each in answers.values():
                each.error = str(said.get("message"))
        return
    output = said.get("output") or {}
    if said["msg"] == "process_generating":
        answer.num_parts += 1
        if answer.num_parts == 2:
            answer.first_s = after_s
    elif said["msg"] == "process_completed":
        answer.seconds, answer.first_s = after_s, answer.first_s or after_s
        answer.data = output.get("data") or []
        if not said["success"]:
            answer.error = str(output.get("error") or said.get("title") or "it failed")


def _event(dependency: dict[str, Any]) -> Event:
    return Event(dependency["id"], tuple(dependency["inputs"]), tuple(dependency["outputs"]))
