"""Who waits for whom in the playground, with a real process whose model is a counter."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from codex_space.core.errors import ModelError
from codex_space.core.settings import read_settings
from codex_space.jobs.warm import WarmWorker
from codex_space.services.chat import Chat
from codex_space.services.context import open_context

WORKER = Path(__file__).parent.parent / "fakes" / "chat_worker.py"
ENDLESS = 2000


@pytest.fixture
def chat(tmp_path):
    ctx = open_context(read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace")}), time.time, own=False)
    made = Chat(ctx)
    made._worker = WarmWorker(
        [sys.executable, str(WORKER)], {"PATH": os.environ["PATH"]}, ctx.workspace.root / "chat.log"
    )
    yield made
    made.close()
    ctx.close()


def loads(chat):
    return (chat._ctx.workspace.root / "chat.log").read_text().split("load ")[1:]


def ask(chat, ref, asker, most=ENDLESS, text="hello"):
    return chat.stream(ref, [{"role": "user", "content": text}], asker=asker, max_new_tokens=most)


def words(answer):
    return "".join(delta.text for delta in answer).split()


def until_in_line(chat, num):
    deadline = time.monotonic() + 10
    while len(chat._line) < num:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.005)


def in_thread(action):
    found = []
    thread = threading.Thread(target=lambda: found.append(action()), daemon=True)
    thread.start()
    return thread, found


def test_nobody_waits_for_the_end_of_anothers_answer(chat):
    long = ask(chat, "one", "she")
    assert next(long).text == "one0 "
    assert words(ask(chat, "one", "he", most=3)) == ["one0", "one1", "one2"]
    assert next(long).text == "one1 "
    long.close()
    assert loads(chat) == ["one\n"]


def test_it_is_ready_before_the_first_question_and_once(chat):
    chat.prepare()
    pid = chat._worker.pid
    assert pid
    chat.prepare()
    assert words(ask(chat, "one", "she", most=1)) == ["one0"]
    assert chat._worker.pid == pid


def test_a_worker_that_cannot_start_is_told_to_who_asks_not_to_who_looks(chat, tmp_path):
    chat._worker = WarmWorker(["/no/such/program"], {}, tmp_path / "chat.log")
    chat.prepare()
    with pytest.raises(ModelError, match="could not be started"):
        words(ask(chat, "one", "she"))


def test_a_stop_ends_ones_own_answer_only(chat):
    hers, his = ask(chat, "one", "she"), ask(chat, "one", "he", most=300)
    next(hers), next(his)
    chat.stop("she")
    assert len(words(hers)) < ENDLESS - 1
    assert len(words(his)) == 299
    chat.stop("nobody")


def test_who_wants_another_model_waits_and_is_not_overtaken(chat):
    first = ask(chat, "one", "she")
    next(first)
    other, others_words = in_thread(lambda: words(ask(chat, "two", "he", most=2)))
    until_in_line(chat, 1)
    late, late_words = in_thread(lambda: words(ask(chat, "one", "they", most=2)))
    until_in_line(chat, 2)
    assert next(first).text == "one1 "
    first.close()
    for thread in (other, late):
        thread.join(20)
    assert (others_words, late_words) == ([["two0", "two1"]], [["one0", "one1"]])
    assert loads(chat) == ["one\n", "two\n", "one\n"]


def test_a_stop_while_others_have_their_turn_ends_it_before_its_first_word(chat):
    first = ask(chat, "one", "she")
    next(first)
    other, others_words = in_thread(lambda: words(ask(chat, "two", "he")))
    until_in_line(chat, 1)
    chat.stop("he")
    first.close()
    other.join(20)
    assert others_words == [[]]


def test_a_process_that_dies_takes_all_its_answers_along_and_the_next_question_loads_anew(chat):
    hers = ask(chat, "one", "she")
    next(hers)
    for answer in (ask(chat, "one", "he", text="die"), hers):
        with pytest.raises(ModelError, match="with code 3"):
            words(answer)
    chat.prepare()  # a new process has no model yet
    assert words(ask(chat, "one", "she", most=1)) == ["one0"]
    assert loads(chat) == ["one\n", "one\n"]


def test_unloading_tells_who_was_being_answered(chat):
    hers = ask(chat, "one", "she")
    next(hers)
    chat.release()
    with pytest.raises(ModelError, match="unloaded"):
        words(hers)
    assert words(ask(chat, "one", "she", most=1)) == ["one0"]
