"""Ask an OpenAI-compatible server a benchmark, grade its answers in the sandbox while the rest is asked, and keep both as files.

Covered: answers are bounded in size and time, redirects are not followed, and the key comes from an environment variable
and goes to that address only: not to a file, a log or an error, even where the server repeats it. What is worth another
try (429, 5xx, no connection, no JSON) gets one, after what the server or a growing pause asks for.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codex_space.core.errors import EvaluationError
from codex_space.core.paths import Workspace
from codex_space.core.settings import Secret, read_settings
from codex_space.grade import extract, library, reference
from codex_space.grade.library import PROTOCOL, SAMPLES, SCORES, VERDICTS
from codex_space.grade.protocol import Asked, Protocol, ask
from codex_space.grade.samples import Sample
from codex_space.grade.sandbox import Sandbox, Verdict
from codex_space.grade.score import Report, jobs_of, run_canaries
from codex_space.grade.statistics import pass_rate

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 4 << 20
MAX_STOPS = 4
"""OpenAI's own limit; the other stop strings are applied to what comes back."""
TRIES, MAX_PAUSE_S, CONNECT_TIMEOUT_S = 6, 60.0, 15.0
_TOLD_CHARS = 200


@dataclass(frozen=True)
class Endpoint:
    """A server and a model on it.

    Attributes:
        url: What comes before `/completions` and `/chat/completions`: `http://127.0.0.1:8000/v1`.
        chat: Ask by chat messages; completions otherwise.
        timeout_s: Until a whole answer must be there.
        concurrency: Requests at a time.
    """

    url: str
    model: str
    key: Secret | None = None
    chat: bool = False
    timeout_s: float = 120.0
    concurrency: int = 4

    def __post_init__(self) -> None:
        """Refuse an address that is none.

        Raises:
            EvaluationError: It is no http address, or holds a password.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise EvaluationError("the endpoint is no http address", cure="Such as http://127.0.0.1:8000/v1.")
        if parts.username or parts.password or parts.query:
            raise EvaluationError(
                "the endpoint's address holds more than a host and a path",
                cure="A key goes into an environment variable.",
            )


def evaluate(  # noqa: PLR0913  # the options of one evaluation, by keyword
    workspace: Workspace,
    endpoint: Endpoint,
    benchmark: str,
    *,
    now: float,
    problems: Path | None = None,
    limit: int | None = None,
    num_samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 512,
    wait: Callable[[float], object] | None = None,
    said: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Ask, grade and return {benchmark, model, protocol, scores, problems, folder}; `said` hears (graded, total).

    Raises:
        EvaluationError: The server refuses, or does not answer.
        GradeError: The problems cannot be read, or this machine cannot grade.
    """
    entry = library.find(benchmark)
    path = problems or library.fetch(entry, workspace.benchmarks, lambda each: _download(workspace, each))
    loaded = library.load(benchmark, path, limit)
    form = entry.forms[0]
    if endpoint.chat:
        form = "request" if all("request" in each for each in loaded.questions.values()) else "chat-no-prefill"
    protocol = Protocol(
        prompt_form=form,
        extraction="code blocks" if endpoint.chat else "up to the first stop string",
        stops=() if endpoint.chat else entry.stops,
        max_new_tokens=max_new_tokens,
        dataset_version=loaded.version,
        template_hash="the server's" if endpoint.chat else "",
        num_samples=num_samples,
        temperature=temperature,
    )
    folder = workspace.root / "endpoints" / f"{_file_name(endpoint.model)}-{benchmark}-{int(now)}"
    folder.mkdir(parents=True)
    (folder / PROTOCOL).write_text(json.dumps(protocol.as_dict(), indent=1), encoding="utf-8")
    with Sandbox() as sandbox:
        known = reference.references(loaded.problems, sandbox, workspace.benchmarks)
        run_canaries(loaded.problems, known, sandbox)
        verdicts: dict[str, Verdict] = {}
        answers = _answers(endpoint, protocol, loaded, folder / SAMPLES, wait)
        task_ids: dict[str, str] = {}
        with (folder / VERDICTS).open("w", encoding="utf-8") as file:
            for verdict in sandbox.grade(jobs_of(loaded.problems, _noted(answers, task_ids), known)):
                verdicts[verdict.job_id] = verdict
                file.write(json.dumps(_row(verdict, task_ids[verdict.job_id])) + "\n")
                said(len(verdicts), len(loaded.problems) * num_samples)
    report = Report(loaded.benchmark, task_ids, verdicts)
    scores = {}
    for name, suite in loaded.benchmark.scores.items():
        found = pass_rate(report.passed(suite))
        interval = [found.interval.low, found.interval.high] if found.interval else None
        scores[name] = {"pass@1": round(found.value, 4), "interval": interval}
    last = list(loaded.benchmark.scores.values())[-1]
    told = {
        "benchmark": benchmark,
        "model": endpoint.model,
        "protocol": protocol.line(),
        "scores": scores,
        "problems": report.passed(last),
        "folder": str(folder),
    }
    (folder / SCORES).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return told


def _noted(samples: Iterator[Sample], task_ids: dict[str, str]) -> Iterator[Sample]:
    for sample in samples:
        task_ids[sample.sample_id] = sample.task_id
        yield sample


def _row(verdict: Verdict, task_id: str) -> dict[str, Any]:
    last = list(verdict.outcomes.values())[-1]
    passed = {name: outcome.status == "pass" for name, outcome in verdict.outcomes.items()}
    return {"task_id": task_id, "sample": verdict.job_id, "passed": passed, "status": last.status, "why": last.why}


def _answers(
    endpoint: Endpoint, protocol: Protocol, loaded: library.Loaded, path: Path, wait: Callable[[float], object] | None
) -> Iterator[Sample]:
    """Yield samples as answers come, and write each to the file first; an error ends what else is asked."""
    ended = threading.Event()
    questions = loaded.questions
    asked = {task_id: ask(protocol.prompt_form, question) for task_id, question in questions.items()}
    todo = [(task_id, number) for task_id in questions for number in range(protocol.num_samples)]
    with (
        _client(endpoint) as client,
        ThreadPoolExecutor(endpoint.concurrency) as pool,
        path.open("w", encoding="utf-8") as file,
    ):
        waiting = {
            pool.submit(_answer, client, endpoint, asked[each[0]], protocol, each[1], wait or ended.wait, ended): each
            for each in todo
        }
        try:
            for done in as_completed(waiting):
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
            for each in waiting:
                each.cancel()


def _client(endpoint: Endpoint) -> "httpx2.Client":
    import httpx2  # noqa: PLC0415  # slow import

    return httpx2.Client(
        headers={"Accept-Encoding": "identity"}  # so that what arrives is as large as it says
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
    client: "httpx2.Client",
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
            return _text_of(_post(client, endpoint, body), chat=endpoint.chat)
        except _BusyError as error:
            if attempt + 1 == TRIES or ended.is_set():
                what = f"no answer in {TRIES} tries; the last: {error}"
                raise EvaluationError(
                    what, where=endpoint.url, cure="Try again when the server is less busy."
                ) from None
            wait(min(MAX_PAUSE_S, error.pause_s or 0.5 * 2**attempt * (1 + random.random())))  # noqa: S311  # spreads the tries
    raise AssertionError


def _post(client: "httpx2.Client", endpoint: Endpoint, body: dict[str, Any]) -> bytes:
    import httpx2  # noqa: PLC0415  # slow import

    url = f"{endpoint.url.rstrip('/')}/{'chat/completions' if endpoint.chat else 'completions'}"
    until, content = time.monotonic() + endpoint.timeout_s, bytearray()
    try:
        with client.stream("POST", url, json=body) as response:
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
        raise _BusyError(_told(endpoint, f"{type(error).__name__}: {error}")) from None
    if status == 429 or status >= 500:
        raise _BusyError(_told(endpoint, f"{status} {_message(content)}"), float(pause) if pause.isdigit() else 0.0)
    if 300 <= status < 400:
        raise EvaluationError(
            f"the server answers {status}, another address",
            where=endpoint.url,
            cure="Give that one; redirects are not followed.",
        )
    if status >= 400:
        cure = "Check the key." if status in {401, 403} else "Check address, model and mode."
        raise EvaluationError(
            _told(endpoint, f"the server answers {status} {_message(content)}"), where=endpoint.url, cure=cure
        )
    return bytes(content)


def _text_of(content: bytes, *, chat: bool) -> str:
    try:
        choice = json.loads(content)["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise _BusyError(f"no completion is in what it sent ({_message(content)})") from None
    if text is None:
        return ""  # a model that only thought, or was cut off before it wrote
    if not isinstance(text, str):
        raise _BusyError("the completion it sent is no text")
    return text


def _message(content: bytes | bytearray) -> str:
    return re.sub(r"\s+", " ", content[: 4 * _TOLD_CHARS].decode("utf-8", "replace")).strip()[:_TOLD_CHARS]


def _told(endpoint: Endpoint, text: str) -> str:
    return text.replace(endpoint.key.reveal(), "****") if endpoint.key else text


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:60].strip(".-") or "model"


def _download(workspace: Workspace, entry: library.Entry) -> list[library.Row]:
    from codex_space.data.read import iter_rows  # noqa: PLC0415  # with what they import, only where needed
    from codex_space.hub.client import Hub  # noqa: PLC0415
    from codex_space.hub.dataset_files import fetch_dataset_files  # noqa: PLC0415

    token = read_settings(workspace=workspace.root).hf_token
    hub = Hub(token.reveal() if token else None)
    into = workspace.benchmarks / "downloads" / entry.name
    files = fetch_dataset_files(hub, entry.repo_id, entry.config, entry.split, None, into)
    return [row for path in files for _, row in iter_rows(path)]
