"""The playground's warm worker as a real process, through the page's own side of the pipe."""

import json
import os
import subprocess
import sys
import threading

import pytest

from codex_space.core.errors import CodexError
from codex_space.jobs.warm import WarmWorker
from tests.work.conftest import chat_rows, make_folder, pretrain_recipe, sft_recipe, text_rows, wait_until

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "codex_space.work.chat"]
ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
QUESTION = [{"role": "user", "content": "Write apple0."}]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """An adapter, whole weights, and a base model that knows no turns."""
    parent = tmp_path_factory.mktemp("chat")
    recipe = sft_recipe(checkpoints={"every_steps": 20})
    adapter = make_folder(parent, recipe, chat_rows(), "20261121-001530-sft-aaaa")
    assert adapter.run() == 0
    whole = make_folder(
        parent, {k: v for k, v in recipe.items() if k != "lora"}, chat_rows(), "20261121-001531-sft-bbbb"
    )
    assert whole.run() == 0
    base = make_folder(parent, pretrain_recipe(), text_rows(), "20261121-001532-pretrain-cccc")
    assert base.run() == 0
    return {name: str(job.dir.checkpoint(20)) for name, job in (("adapter", adapter), ("whole", whole), ("base", base))}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    made = WarmWorker(COMMAND, ENVIRON, tmp_path_factory.mktemp("log") / "chat.log")
    yield made
    made.close()


def _ask(worker, **fields):
    replies = list(worker.ask("generate", **{"max_new_tokens": 12, "temperature": 0, **fields}))
    return "".join(reply.get("text", "") for reply in replies), replies[-1]


@pytest.mark.parametrize("name", ["adapter", "whole", "base"])
def test_any_checkpoint_answers_and_says_how_fast(worker, checkpoints, name):
    list(worker.ask("load", ref=checkpoints[name]))
    text, last = _ask(worker, messages=QUESTION)
    assert last["done"]
    assert 0 < last["tokens"] <= 12
    assert last["tokens_per_s"] > 0
    assert _ask(worker, messages=QUESTION)[0] == text, "temperature 0 always says the same"


def test_an_answer_comes_in_pieces_and_stops_when_asked(worker, checkpoints):
    list(worker.ask("load", ref=checkpoints["base"]))
    asked = {"prompt": "def", "max_new_tokens": 600, "temperature": 0}
    whole = list(worker.ask("generate", **asked))
    assert len(whole) > 3, "the model says too little for this test"
    pieces, last = 0, {}
    for last in worker.ask("generate", **asked):
        pieces += "text" in last
        if pieces == 2:
            worker.stop()
    assert last["done"]
    assert last["tokens"] < whole[-1]["tokens"]


def test_a_reader_who_goes_away_leaves_a_worker_that_answers_the_next(worker, checkpoints):
    list(worker.ask("load", ref=checkpoints["base"]))
    pid = worker.pid
    for _ in worker.ask("generate", prompt="def", max_new_tokens=900, temperature=0.0):
        break
    assert _ask(worker, prompt="def")[1]["done"]
    assert worker.pid == pid


@pytest.mark.parametrize(
    ("op", "fields", "sentence"),
    [
        ("load", {"ref": "/no/such/checkpoint"}, "/no/such/checkpoint"),
        ("generate", {"messages": []}, "nothing to answer"),
        ("generate", {"prompt": "x" * 5000}, "shorter"),
        ("sing", {}, "sing"),
    ],
)
def test_what_it_cannot_do_is_an_error_with_a_sentence_and_it_lives_on(worker, checkpoints, op, fields, sentence):
    list(worker.ask("load", ref=checkpoints["base"]))
    pid = worker.pid
    with pytest.raises(CodexError) as refused:
        list(worker.ask(op, **fields))
    assert sentence in str(refused.value)
    list(worker.ask("load", ref=checkpoints["base"]))
    assert _ask(worker, prompt="def")[1]["done"]
    assert worker.pid == pid


def test_it_asks_for_a_model_first_and_ends_with_its_input():
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRON)
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b'not json\n{"id": 7, "op": "generate", "prompt": "x"}\n')
        process.stdin.flush()
        reply = json.loads(process.stdout.readline())
        assert reply["id"] == 7
        assert set(reply["error"]) == {"what", "where", "cure"}
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_outlives_the_thread_that_started_it(checkpoints, tmp_path):
    """A page starts it from a thread of a pool; those end when they have nothing to do."""
    worker = WarmWorker(COMMAND, ENVIRON, tmp_path / "chat.log")
    try:
        thread = threading.Thread(target=lambda: list(worker.ask("load", ref=checkpoints["base"])))
        thread.start()
        thread.join()
        pid = worker.pid
        assert pid
        assert _ask(worker, prompt="def")[1]["done"]
        assert worker.pid == pid
        worker.close()
        wait_until(lambda: worker.pid is None, "its end")
    finally:
        worker.close()
