"""What the Hub said is asked once a minute, a refusal every five seconds, and nobody waits longer than they want."""

import threading

import pytest

from codex_space.core.errors import HubAuthError, HubBusyError
from codex_space.core.settings import read_settings
from codex_space.services.account import own_account
from codex_space.services.answers import ERROR_KEPT_S, KEPT_S, Answers
from codex_space.services.checks import readiness
from codex_space.services.context import open_context

PUSHED = (
    "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
    "hub: {repo_id: ada/model}\n"
)


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ctx(hub, tmp_path, clock):
    env = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    opened = open_context(read_settings(env), clock, own=False)
    yield opened
    opened.close()


def asked(hub):
    return len(hub.asked("whoami", "GET"))


def test_the_checklist_asks_who_the_token_belongs_to_once_a_minute(ctx, hub, clock):
    for _ in range(50):
        assert any("pushes to ada/model" in line.detail for line in readiness(ctx, PUSHED))
        clock.now += 1
    assert asked(hub) == 1
    clock.now += KEPT_S - 49
    readiness(ctx, PUSHED)
    assert asked(hub) == 2


@pytest.mark.parametrize(("status", "error"), [(503, HubBusyError), (401, HubAuthError)])
def test_a_refusal_is_asked_for_again_after_seconds(ctx, hub, clock, status, error):
    hub.fail("whoami", status=status, times=1)
    for _ in range(3):
        with pytest.raises(error):
            own_account(ctx)
    assert asked(hub) == 1
    clock.now += ERROR_KEPT_S
    assert own_account(ctx).name == "ada"
    assert asked(hub) == 2


def test_a_clock_that_is_set_back_keeps_nothing_for_ever(ctx, hub, clock):
    own_account(ctx)
    clock.now -= 3600
    own_account(ctx)
    assert asked(hub) == 2


def test_without_a_token_it_is_a_refusal_and_the_hub_is_not_asked(hub, tmp_path, clock):
    env = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
    opened = open_context(read_settings(env), clock, own=False)
    with pytest.raises(HubAuthError, match="no Hub token"):
        own_account(opened)
    opened.close()
    assert asked(hub) == 0


def test_ten_who_ask_at_once_ask_one_question(clock):
    answers, calls, go = Answers(), [], threading.Event()

    def ask():
        calls.append(1)
        go.wait(5)
        return "answer"

    got = []
    threads = [threading.Thread(target=lambda: got.append(answers.get("x", ask, clock))) for _ in range(10)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(5)
    assert (got, len(calls)) == (["answer"] * 10, 1)


def test_nobody_waits_longer_than_they_want_and_the_answer_comes_later(clock):
    answers, go = Answers(), threading.Event()

    def ask():
        go.wait(5)
        return "late"

    for _ in range(100):  # only the first of them waits at all
        with pytest.raises(HubBusyError, match="takes long"):
            answers.get("x", ask, clock, wait_s=0.02)
    go.set()
    assert answers.get("x", ask, clock) == "late"


def test_a_bug_reaches_who_asked_and_is_not_kept(clock):
    answers, calls = Answers(), []

    def ask():
        calls.append(1)
        raise TimeoutError("a bug of ours")

    for _ in range(2):
        with pytest.raises(TimeoutError, match="ours"):
            answers.get("x", ask, clock)
    assert len(calls) == 2


def test_what_was_changed_is_asked_for_anew(clock):
    answers, said = Answers(), iter("ab")
    assert answers.get("x", lambda: next(said), clock) == "a"
    answers.forget("x")
    assert answers.get("x", lambda: next(said), clock) == "b"
