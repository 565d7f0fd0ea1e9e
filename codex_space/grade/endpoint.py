"""Ask an OpenAI-compatible server the problems of a benchmark, over HTTP.

Covered: answers are bounded in size and time, redirects are not followed, and the key goes to that address only: not to a
file, a log or an error, even where the server repeats it. What is worth another try (429, 5xx, no connection, no JSON)
gets one, after what the server or a growing pause asks for. With `public_only` nothing but TLS to a public address is
spoken, and that address is looked up once (`core.addresses`). Not covered: headers without end hold a request until the
evaluation is stopped.
"""

import functools
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from codex_space.core.addresses import find_public
from codex_space.core.errors import EvaluationError
from codex_space.core.settings import Secret
from codex_space.grade import extract, library
from codex_space.grade.protocol import Asked, Protocol, ask
from codex_space.grade.samples import Sample

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 4 << 20
MAX_STOPS = 4
"""OpenAI's own limit; the other stop strings are applied to what comes back."""
TRIES, MAX_PAUSE_S, CONNECT_TIMEOUT_S = 6, 60.0, 15.0
STOP_LOOK_S = 0.5
_TOLD_CHARS = 200
_SECONDS = re.compile(r"[0-9]{1,9}")  # other digits than these `float` does not read


@dataclass(frozen=True)
class Endpoint:
    """A server and a model on it.

    Attributes:
        url: What comes before `/completions` and `/chat/completions`: `http://127.0.0.1:8000/v1`.
        chat: Ask by chat messages; completions otherwise.
        timeout_s: Until a whole answer must be there.
        concurrency: Requests at a time.
        public_only: Ask over TLS and at a public address, or not at all.
    """

    url: str
    model: str
    key: Secret | None = None
    chat: bool = False
    timeout_s: float = 120.0
    concurrency: int = 4
    public_only: bool = False

    def __post_init__(self) -> None:
        """Refuse an address that is none.

        Raises:
            EvaluationError: It is no http address, holds a password, or would send the key in clear where that is not allowed;
                or a header cannot hold the key.
        """
        parts = _split(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise EvaluationError("the endpoint is no http address", cure="Such as http://127.0.0.1:8000/v1.")
        if self.public_only and parts.scheme != "https":
            raise EvaluationError(
                "a Space asks servers over https only", where=parts.hostname, cure="Write https://..."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise EvaluationError(
                "the endpoint's address holds more than a host and a path",
                cure="A key goes into an environment variable.",
            )
        if self.key is not None and not _is_plain(self.key.reveal()):
            what = "the key holds a character that no key has"  # which one is not said: it would be a part of the key
            raise EvaluationError(what, where=parts.hostname, cure="Copy it anew, without spaces or line ends.")

    def locate(self) -> "Target":
        """Return where requests go.

        Raises:
            EvaluationError: That is no place this program may reach.
        """
        parts = _split(self.url.rstrip("/"))
        path = f"{parts.path}/{'chat/completions' if self.chat else 'completions'}"
        if not self.public_only:
            return Target(urlunsplit((parts.scheme, parts.netloc, path, "", "")), parts.netloc)
        host = parts.hostname or ""
        found = find_public(host, parts.port or 443)
        address = f"[{found}]" if ":" in found else found
        return Target(f"https://{address}:{parts.port or 443}{path}", parts.netloc, host)


@dataclass(frozen=True)
class Target:
    """An address that was looked up, and the names that are told to it: in the request, and in TLS, whose certificate must be of it."""

    url: str
    host: str
    tls_name: str = ""


def protocol_of(
    endpoint: Endpoint, entry: library.Entry, loaded: library.Loaded, max_new_tokens: int, drawn: Mapping[str, Any]
) -> Protocol:
    """Return how that server is asked that benchmark; `drawn` holds the fields of `Protocol` for sampling."""
    form = entry.forms[0]
    if endpoint.chat:
        form = "request" if all("request" in each for each in loaded.questions.values()) else "chat-no-prefill"
    return Protocol(
        prompt_form=form,
        extraction="code blocks" if endpoint.chat else "up to the first stop string",
        stops=() if endpoint.chat else entry.stops,
        max_new_tokens=max_new_tokens,
        dataset_version=loaded.version,
        template_hash="the server's" if endpoint.chat else "",
        **drawn,
    )


def answers(
    endpoint: Endpoint,
    protocol: Protocol,
    loaded: library.Loaded,
    path: Path,
    *,
    wait: Callable[[float], object] | None = None,
    is_stop_asked: Callable[[], bool] = lambda: False,
) -> Iterator[Sample]:
    """Yield samples as answers come, and write each to the file first; an error, or a stop, ends what else is asked.

    Raises:
        EvaluationError: The server refuses, or does not answer, or may not be asked.
    """
    ended = threading.Event()
    questions = loaded.questions
    asked = {task_id: ask(protocol.prompt_form, question) for task_id, question in questions.items()}
    todo = [(task_id, number) for task_id in questions for number in range(protocol.num_samples)]
    target, pool = endpoint.locate(), ThreadPoolExecutor(endpoint.concurrency)
    with _client(endpoint, target) as client, path.open("w", encoding="utf-8") as file:
        post = functools.partial(_post, client, endpoint, target)
        waiting = {
            pool.submit(_answer, post, endpoint, asked[each[0]], protocol, each[1], wait or ended.wait, ended): each
            for each in todo
        }
        try:
            for done in _as_completed(waiting, is_stop_asked):
                task_id, number = waiting[done]
                text = done.result()
                found = extract.from_answer(text, questions[task_id], protocol)
                row = {"task_id": task_id, "sample": number, "asked": asked[task_id].text, "text": text}
                row |= {"program": found.program, "rule": found.rule, "flaw": found.flaw}
                file.write(json.dumps(row) + "\n")
                file.flush()
                yield Sample(f"{task_id}#{number}", task_id, (found.program,))
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)  # an answer may be two minutes away, and nobody waits for it


def _as_completed(waiting: Mapping["Future[str]", Any], is_stop_asked: Callable[[], bool]) -> Iterator["Future[str]"]:
    left = set(waiting)
    while left and not is_stop_asked():
        done, left = wait_for(left, timeout=STOP_LOOK_S, return_when=FIRST_COMPLETED)
        yield from done


def _client(endpoint: Endpoint, target: Target) -> "httpx2.Client":
    import httpx2  # noqa: PLC0415  # slow import

    return httpx2.Client(
        headers={"Host": target.host, "Accept-Encoding": "identity"}  # so that what arrives is as large as it says
        | ({"Authorization": f"Bearer {endpoint.key.reveal()}"} if endpoint.key else {}),
        timeout=httpx2.Timeout(endpoint.timeout_s, connect=min(CONNECT_TIMEOUT_S, endpoint.timeout_s)),
        follow_redirects=False,
        trust_env=False,  # no key out of a .netrc, no proxy in between
    )


class _BusyError(Exception):
    """Worth another try, after `pause_s` where the server said so."""

    def __init__(self, what: str, pause_s: float = 0.0) -> None:
        super().__init__(what)
        self.pause_s = pause_s


def _answer(  # noqa: PLR0913  # one request
    post: Callable[[dict[str, Any]], bytes],
    endpoint: Endpoint,
    asked: Asked,
    protocol: Protocol,
    number: int,
    wait: Callable[[float], object],
    ended: threading.Event,
) -> str:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": protocol.max_new_tokens,
        "temperature": protocol.temperature,
        "top_p": protocol.top_p,
        "seed": protocol.seed + number,
    }
    if protocol.stops:
        body["stop"] = list(protocol.stops[:MAX_STOPS])
    body |= {"messages": [{"role": "user", "content": asked.text}]} if endpoint.chat else {"prompt": asked.text}
    for attempt in range(TRIES):
        try:
            return _told(endpoint, _text_of(endpoint, post(body)))
        except _BusyError as error:
            if attempt + 1 == TRIES or ended.is_set():
                what = f"no answer in {TRIES} tries; the last: {_told(endpoint, str(error))}"
                raise EvaluationError(
                    what, where=endpoint.url, cure="Try again when the server is less busy."
                ) from None
            wait(min(MAX_PAUSE_S, error.pause_s or 0.5 * 2**attempt * (1 + random.random())))  # noqa: S311  # spreads the tries
    raise AssertionError


def _post(client: "httpx2.Client", endpoint: Endpoint, target: Target, body: dict[str, Any]) -> bytes:
    import httpx2  # noqa: PLC0415  # slow import

    named = {"sni_hostname": target.tls_name} if target.tls_name else {}
    until, content = time.monotonic() + endpoint.timeout_s, bytearray()
    try:
        with client.stream("POST", target.url, json=body, extensions=named) as response:
            for piece in response.iter_raw():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise EvaluationError(f"an answer is larger than {MAX_ANSWER_BYTES >> 20} MiB", where=endpoint.url)
                if time.monotonic() > until:
                    raise _BusyError(f"the answer was not whole after {endpoint.timeout_s:g} s")
            status, pause = response.status_code, response.headers.get("retry-after", "")
    except httpx2.TimeoutException:
        raise _BusyError(f"no answer in {endpoint.timeout_s:g} s") from None
    except httpx2.HTTPError as error:
        raise _BusyError(f"{type(error).__name__}: {error}") from None
    if status == 429 or status >= 500:
        raise _BusyError(f"{status} {_message(endpoint, content)}", float(pause) if _SECONDS.fullmatch(pause) else 0.0)
    if 300 <= status < 400:
        raise EvaluationError(
            f"the server answers {status}, another address",
            where=endpoint.url,
            cure="Give that one; redirects are not followed.",
        )
    if status >= 400:
        cure = "Check the key." if status in {401, 403} else "Check address, model and mode."
        what = f"the server answers {status} {_message(endpoint, content)}"
        raise EvaluationError(what, where=endpoint.url, cure=cure)
    return bytes(content)


def _text_of(endpoint: Endpoint, content: bytes) -> str:
    try:
        choice = json.loads(content)["choices"][0]
        text = choice["message"]["content"] if endpoint.chat else choice["text"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise _BusyError(f"no completion is in what it sent ({_message(endpoint, content)})") from None
    if text is None:
        return ""  # a model that only thought, or was cut off before it wrote
    if not isinstance(text, str):
        raise _BusyError("the completion it sent is no text")
    return text


def _split(url: str) -> SplitResult:
    if not _is_plain(url):
        cure = "Write a name in other letters as browsers send it: xn--..."
        raise EvaluationError("the endpoint's address holds what a request cannot", cure=cure)
    try:
        parts = urlsplit(url)
        _ = parts.port  # read here: that it is no number is found out on reading
        (parts.hostname or "").encode("idna")  # an empty or endless part of a name
    except ValueError:
        raise EvaluationError("the endpoint's address cannot be read", cure="Such as https://HOST/v1.") from None
    return parts


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _message(endpoint: Endpoint, content: bytes | bytearray) -> str:
    text = _told(endpoint, content.decode("utf-8", "replace"))  # before it is cut, which would leave a part of the key
    return re.sub(r"\s+", " ", text[: 4 * _TOLD_CHARS]).strip()[:_TOLD_CHARS]


def _told(endpoint: Endpoint, text: str) -> str:
    return text.replace(endpoint.key.reveal(), "****") if endpoint.key else text
