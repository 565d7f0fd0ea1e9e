"""The routes the Evaluate tab polls: what the service says goes out unchanged, what strangers ask comes back as a 404."""

import json
from urllib.parse import quote, urlencode

import pytest
from starlette.applications import Starlette

from codex_space.core.errors import RunError
from codex_space.services.live import Live
from codex_space.ui import live_routes

HOSTILE = "<script>alert(1)</script>&\"'"
KEY = "20261121-000000-eval-aaaa/336/humaneval+"
UNKNOWN = [
    "",
    "nothing",
    "../../../etc/passwd",
    "/etc/passwd/1/x",
    "a/b",
    "a/1/b/c",
    f"{KEY}/..",
    "a\0b",
    "'; DROP TABLE runs; --",
    HOSTILE,
    "😀/1/x",
    "a" * 5000,
]


@pytest.fixture
def page(ctx, serve_app):
    return serve_app(Starlette(routes=live_routes.build_routes(ctx, Live(ctx))))


def brief(key, **values):
    return {"key": key, "model": HOSTILE, "benchmark": "humaneval+", "state": "waiting", "scores": [], **values}


class Service:
    """What the real service promises, on three evaluations; it notes what it was asked."""

    def __init__(self):
        self.asked = []
        self.entries = [brief(KEY), brief("b/0/humaneval+"), brief("c/0/first-steps")]

    def list_evaluations(self, ctx, limit=100):
        return self.entries[:limit]

    def read(self, ctx, key):
        self.asked.append(key)
        for one in self.entries:
            if one["key"] == key:
                return {**one, "problems": [{"task_id": "HumanEval/0", "passed": None}]}
        raise RunError("there is no such evaluation", where=key, cure="Choose one in the list.")

    def read_problem(self, ctx, key, task_id):
        self.read(ctx, key)
        if task_id != "HumanEval/0":
            raise RunError("there is no such problem", where=task_id)
        return {"task_id": task_id, "prompt": HOSTILE, "canonical": "", "samples": []}

    def compare(self, ctx, key, other_key):
        self.read(ctx, key), self.read(ctx, other_key)
        return {"sentence": "no difference can be claimed", "gained": [], "lost": ["HumanEval/0"], "num_same": 163}


@pytest.fixture
def service(monkeypatch):
    made = Service()
    monkeypatch.setattr(live_routes, "evaluations", made)
    return made


def read(page, path, **names):
    answer = page.ask(f"{path}?{urlencode(names)}")
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.body)


def test_the_list_comes_as_the_service_orders_it_with_when_to_ask_again(page, service):
    found = read(page, "/api/evaluations", after=7)
    assert found == {"seq": 0, "evaluations": service.entries, "poll_after_ms": live_routes.EVALUATIONS_POLL_MS}


def test_one_evaluation_is_asked_for_by_its_whole_key(page, service):
    assert read(page, "/api/evaluations/one", key=KEY)["problems"][0]["task_id"] == "HumanEval/0"
    assert service.asked == [KEY]  # slashes and the plus arrive as they are


def test_one_problem_and_a_comparison_arrive_whole(page, service):
    assert read(page, "/api/evaluations/problem", key=KEY, task="HumanEval/0")["prompt"] == HOSTILE
    assert read(page, "/api/evaluations/compare", key=KEY, other="b/0/humaneval+")["lost"] == ["HumanEval/0"]


@pytest.mark.parametrize("key", UNKNOWN)
@pytest.mark.parametrize("path", ["one", "problem", "compare"])
def test_an_unknown_key_is_a_404_in_words(page, service, path, key):
    answer = page.ask(f"/api/evaluations/{path}?key={quote(key)}&task=HumanEval/0&other={quote(KEY)}")
    assert answer.status == 404
    assert json.loads(answer.body)["what"] == "there is no such evaluation"
    assert all(len(asked) <= live_routes.MAX_NAME_CHARS for asked in service.asked)


def test_a_missing_name_counts_as_an_unknown_one(page, service):
    assert page.ask("/api/evaluations/one").status == 404
    assert page.ask(f"/api/evaluations/problem?{urlencode({'key': KEY})}").status == 404
    assert page.ask(f"/api/evaluations/compare?{urlencode({'key': KEY})}").status == 404


@pytest.mark.parametrize("key", UNKNOWN)
def test_the_service_itself_refuses_what_it_does_not_know(page, key):
    for path in ("one", "problem", "compare"):
        answer = page.ask(f"/api/evaluations/{path}?key={quote(key)}&task=x&other={quote(key)}")
        assert answer.status == 404
        assert "root:" not in answer.text


def test_a_new_workspace_has_no_evaluations(page):
    assert read(page, "/api/evaluations")["evaluations"] == []
