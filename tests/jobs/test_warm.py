"""The warm worker's side of the pipe: answers to each who asked, stops, outlives a crash, leaves nothing behind."""

import os
import sys
import threading
import time

import psutil
import pytest

from codex_space.core.errors import CodexError, ModelError
from codex_space.jobs.shim import NICER
from codex_space.jobs.warm import WarmWorker

# A real process that speaks the protocol; the model is a counter.
SCRIPT = """
import json, os, sys, threading, time
stops = {}
def say(**reply): sys.stdout.write(json.dumps(reply) + "\\n"); sys.stdout.flush()
def count(n, to):
    for i in range(to):
        if stops[n].is_set(): break
        say(id=n, text=f"{i} "); time.sleep(0.01)
    say(id=n, done=True, tokens=to, tokens_per_s=1.0)
for line in sys.stdin:
    ask = json.loads(line)
    if ask["op"] == "stop": stops[ask["id"]].set(); continue
    stops[ask["id"]] = threading.Event()
    if ask["op"] == "count": threading.Thread(target=count, args=(ask["id"], ask["to"])).start()
    elif ask["op"] == "fail": say(id=ask["id"], error={"what": "no such model", "where": "x", "cure": "Train one."})
    elif ask["op"] == "crash": os.abort()
    elif ask["op"] == "leave": os._exit(3)
    elif ask["op"] == "garble": print("{cut off", flush=True); say(id=ask["id"], done=True)
    elif ask["op"] == "noise": print("not json", file=sys.stderr); say(id=-1, text="stale"); say(id=ask["id"], done=True)
"""


@pytest.fixture
def warm(tmp_path):
    script = tmp_path / "fake_chat.py"
    script.write_text(SCRIPT)
    worker = WarmWorker([sys.executable, "-u", str(script)], {"PATH": os.environ["PATH"]}, tmp_path / "chat.log")
    yield worker
    worker.close()


def words(warm, to):
    return [reply["text"] for reply in warm.ask("count", to=to) if "text" in reply]


def test_answers_come_piece_by_piece_and_the_process_stays(warm):
    assert words(warm, 3) == ["0 ", "1 ", "2 "]
    pid = warm.pid
    assert words(warm, 2) == ["0 ", "1 "]
    assert warm.pid == pid


def test_its_own_refusal_is_our_error_and_it_lives_on(warm):
    with pytest.raises(CodexError, match="no such model") as caught:
        list(warm.ask("fail"))
    assert caught.value.cure == "Train one."
    assert words(warm, 1) == ["0 "]


@pytest.mark.parametrize(("op", "said"), [("crash", "by signal 6"), ("leave", "with code 3")])
def test_a_crash_is_a_sentence_and_the_next_question_starts_a_new_process(warm, op, said):
    words(warm, 1)
    pid = warm.pid
    with pytest.raises(ModelError, match=said):
        list(warm.ask(op))
    assert words(warm, 1) == ["0 "]
    assert warm.pid != pid


def test_stop_from_another_thread_ends_the_answer(warm):
    threading.Timer(0.2, warm.stop).start()
    assert 0 < len(words(warm, 100_000)) < 1000


def test_a_reader_who_leaves_in_the_middle_stops_the_model_and_harms_nobody(warm):
    answer = warm.ask("count", to=100_000)
    next(answer)
    answer.close()
    assert words(warm, 2) == ["0 ", "1 "]


def test_it_gives_way_to_the_page(warm):
    warm.start()
    assert os.getpriority(os.PRIO_PROCESS, warm.pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICER


def test_a_stop_is_for_one_asker(warm):
    hers, his = warm.ask("count", "she", to=100_000), warm.ask("count", "he", to=50)
    next(hers), next(his)
    warm.stop("she")
    assert len(list(hers)) < 1000
    assert len(list(his)) == 50


def test_a_line_that_is_no_reply_harms_nobody(warm):
    assert list(warm.ask("garble")) == [{"id": 1, "done": True}]


def test_who_waits_while_it_is_closed_is_told(warm):
    answer = warm.ask("count", to=100_000)
    next(answer)
    warm.close()
    with pytest.raises(ModelError, match="unloaded"):
        list(answer)
    assert words(warm, 1) == ["0 "]


def test_askers_are_answered_beside_each_other(warm):
    long = warm.ask("count", to=100_000)
    next(long)
    assert words(warm, 3) == ["0 ", "1 ", "2 "]
    long.close()


def test_many_askers_get_their_own_answers(warm):
    results = []
    threads = [threading.Thread(target=lambda: results.append(words(warm, 20))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [[f"{i} " for i in range(20)]] * 3


def test_stale_replies_are_passed_over(warm):
    assert list(warm.ask("noise")) == [{"id": 1, "done": True}]


def test_close_leaves_no_process(warm):
    words(warm, 1)
    pid = warm.pid
    warm.close()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid)


def test_a_command_that_is_not_there_is_a_sentence(tmp_path):
    worker = WarmWorker(["/no/such/program"], {}, tmp_path / "chat.log")
    with pytest.raises(ModelError, match="could not be started"):
        list(worker.ask("count", to=1))


def test_a_reader_who_leaves_at_the_last_reply_blocks_nobody(warm):
    for reply in warm.ask("count", to=1):
        if reply.get("done"):
            break
    assert words(warm, 1) == ["0 "]
