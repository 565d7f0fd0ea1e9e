"""A model on a server, asked by a run of this workspace: its key stays in memory, its results stand among the others."""

import threading
import time

import pytest

from codex_space.core.errors import CodexError, EvaluationError
from codex_space.core.settings import Secret, read_settings
from codex_space.services import checks, evaluations, runs
from codex_space.services.context import open_context
from codex_space.store.runs import FINAL
from tests.fakes.openai_server import send, serving
from tests.grade import rows

KEY = "a-key-that-nobody-sees"


@pytest.fixture
def server():
    with serving() as served:
        yield served


@pytest.fixture
def owned(tmp_path):
    opened = []

    def open_one(**environ):
        settings = read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "PATH": "/usr/bin:/bin", **environ})
        opened.append(open_context(settings, time.time, own=True))
        return opened[-1]

    yield open_one
    for ctx in opened:
        ctx.close()


def recipe(url, tmp_path, *, has_key=True, **more):
    problems = rows.write_lines(tmp_path / "problems.jsonl", rows.HUMANEVAL)
    return evaluations.recipe_text(
        "some/model", "humaneval", problems=str(problems), endpoint={"url": url, "has_key": has_key, **more}
    )


def wait_for(condition, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s")


def ended(ctx, run):
    return wait_for(lambda: (found := runs.show(ctx, run.id)).state in FINAL and found)


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_its_results_stand_among_the_others_and_its_key_stands_nowhere(owned, server, tmp_path):
    ctx = owned()
    run = runs.submit_once(ctx, recipe(server.url, tmp_path), Secret(KEY))
    assert runs.submit_once(ctx, recipe(server.url, tmp_path), Secret(KEY)).id == run.id, "a double click is one press"
    found = ended(ctx, run)
    assert found.state == "succeeded", found.reason
    assert {authorization for _, authorization, _ in server.asked} == {f"Bearer {KEY}"}
    (row,) = wait_for(lambda: [one for one in evaluations.list_evaluations(ctx) if one["state"] == "done"])
    assert row["model"] == f"some/model \u00b7 {server.url.split('/')[2]}"
    assert row["scores"][0]["value"] == 1.0
    problems = evaluations.read(ctx, row["key"])["problems"]
    assert [one["passed"] for one in problems] == [True, True]
    assert "return 2 * x" in evaluations.read_problem(ctx, row["key"], "HumanEval/0")["samples"][0]["program"]
    assert KEY.encode() not in everything(ctx.workspace.root)
    log = ctx.workspace.job(run.id).log.read_text()
    assert "Traceback" not in log
    assert "torch" not in log


@pytest.mark.slow
def test_it_stops_while_the_server_is_silent(owned, server, tmp_path):
    waiting, done = threading.Event(), threading.Event()

    def silent(_handler):
        waiting.set()
        done.wait(60)

    server.always = silent
    ctx = owned()
    run = runs.submit(ctx, recipe(server.url, tmp_path, has_key=False))
    assert waiting.wait(60)
    runs.stop(ctx, run.id)
    asked_at = time.monotonic()
    found = ended(ctx, run)
    done.set()
    assert found.state == "stopped"
    assert time.monotonic() - asked_at < 20, "nobody waits for an answer two minutes away"


@pytest.mark.slow
def test_a_key_goes_with_the_process_that_held_it(owned, server, tmp_path):
    """What a restarted page finds in its queue it cannot ask any more, and it says why."""
    ctx = owned()
    ctx.owner.supervisor.hold_key = lambda *_: None
    run = runs.submit(ctx, recipe(server.url, tmp_path), key=Secret(KEY))
    found = ended(ctx, run)
    assert (found.state, server.asked) == ("failed", [])
    assert "its key is gone" in found.reason


@pytest.mark.slow
def test_a_server_that_refuses_is_the_runs_reason(owned, server, tmp_path):
    server.always = send(401, f"no such key {KEY}")
    ctx = owned()
    found = ended(ctx, runs.submit(ctx, recipe(server.url, tmp_path), key=Secret(KEY)))
    assert found.state == "failed"
    assert "401 no such key ****" in found.reason
    assert KEY.encode() not in everything(ctx.workspace.root)


def test_a_key_is_not_left_for_another_process(ctx, tmp_path):
    with pytest.raises(EvaluationError, match="never written down"):
        runs.submit(ctx, recipe("http://127.0.0.1:1/v1", tmp_path), key=Secret(KEY))


@pytest.mark.parametrize(("has_key", "key"), [(True, None), (False, Secret(KEY))])
def test_a_key_goes_with_a_recipe_that_says_so(ctx, tmp_path, has_key, key):
    with pytest.raises(EvaluationError, match="has_key"):
        runs.submit(ctx, recipe("http://127.0.0.1:1/v1", tmp_path, has_key=has_key), key=key)


def test_a_key_that_no_request_could_carry_is_refused_at_the_press(owned, tmp_path):
    ctx = owned()
    with pytest.raises(EvaluationError, match="the key holds a character"):
        runs.submit(ctx, recipe("http://127.0.0.1:1/v1", tmp_path), key=Secret("sk-\x00"))
    assert runs.list_runs(ctx) == []


@pytest.mark.parametrize(
    "url", ["http://example.com/v1", "https://127.0.0.1/v1", "https://169.254.169.254/latest", "https://localhost/v1"]
)
def test_a_space_reaches_into_no_network_of_its_own(tmp_path, url):
    environ = {"CODEX_SPACE_HOME": str(tmp_path / "ws"), "SPACE_ID": "ada/space", "SYSTEM": "spaces"}
    ctx = open_context(read_settings(environ), time.time, own=False)
    text = recipe(url, tmp_path, has_key=False)
    with pytest.raises(EvaluationError, match=r"https only|private network"):
        runs.submit(ctx, text)
    assert [line.ok for line in checks.readiness(ctx, text) if line.label == "Server"] == [False]
    ctx.close()


@pytest.mark.slow
def test_and_neither_does_its_worker_whatever_the_page_let_through(owned, server, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "require_endpoint", lambda *_: None)
    ctx = owned(SPACE_ID="ada/space", SYSTEM="spaces")
    found = ended(ctx, runs.submit(ctx, recipe(server.url, tmp_path, has_key=False)))
    assert (found.state, server.asked) == ("failed", [])
    assert "https only" in found.reason


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://host/v1"}, {"url": "http://me@host/v1"}, {"url": "http://host/v1?key=x"}, {"url": "http://host/ v1"},
        {"url": "http://host/v1", "key": "sk-in-a-recipe"}, {"url": "http://host/v1", "concurrency": 10_000}, {"url": ""}, {},
    ],
)  # fmt: skip
def test_an_endpoint_that_is_none_is_refused(given):
    with pytest.raises(CodexError):
        evaluations.recipe_text("m", "humaneval", endpoint={"has_key": False, **given})


@pytest.mark.parametrize("given", [{"benchmark": "perplexity", "datasets": ["sample:x"]}, {"prompt_form": "chat"}])
def test_a_server_is_asked_problems_in_its_own_form(given):
    with pytest.raises(CodexError, match="endpoint"):
        evaluations.recipe_text("m", **{"benchmark": "humaneval", "endpoint": {"url": "http://h/v1"}, **given})
