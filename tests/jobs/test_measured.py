"""Measured rows become figures with intervals; what is no measurement changes nothing, and no sandbox is needed."""

import csv
import json
import math

import pytest

from codex_space.grade.library import RESULTS, SAMPLES, SCORES, VERDICTS
from codex_space.jobs import grader as grader_module
from codex_space.store import evaluations
from tests.jobs.test_grader import NOW, Room

BASE = "kind: evaluate\nmodel: {model_name_or_path: ada/base}\ndatasets: [{path: 'sample:python-first-chat'}]\n"
PERPLEXITY = BASE + "benchmark: perplexity\n"
ANSWERS = BASE + "benchmark: answers\nmetrics: [exact-match, token-f1]\n"


@pytest.fixture
def room(workspace, monkeypatch):
    def refuse(*_):
        raise AssertionError("figures of texts need no sandbox")

    made = Room(workspace)
    monkeypatch.setattr(grader_module, "Sandbox", refuse)
    yield made
    made.grader.close()
    made.db.close()


def begin(room, recipe, lines, benchmark, num):
    run_id = room.add(recipe, benchmark=benchmark, num_samples=num)
    folder = room.job(run_id).evaluation(0, benchmark)
    folder.mkdir(parents=True)
    (folder / SAMPLES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_id, folder


def text(number, nats=8.0, num_bytes=8, num_tokens=4, **changes):
    return {"task_id": f"text-{number}", "nats": nats, "num_bytes": num_bytes, "num_tokens": num_tokens, **changes}


def row_of(room, run_id, benchmark):
    return evaluations.read_evaluation(room.db, run_id, 0, benchmark)


def test_bits_per_byte_and_perplexity_are_of_the_whole_and_lie_in_their_intervals(room):
    lines = [text(n, nats=4.0 + n, num_bytes=8 + n) for n in range(8)]
    run_id, folder = begin(room, PERPLEXITY, lines, "perplexity", 8)
    room.grader.step(NOW)
    row = row_of(room, run_id, "perplexity")
    assert (row.state, row.num_graded) == ("done", 8)
    bits, perplexity = row.scores
    nats = sum(line["nats"] for line in lines)
    assert bits["value"] == pytest.approx(nats / math.log(2) / sum(line["num_bytes"] for line in lines), abs=1e-6)
    assert perplexity["value"] == pytest.approx(math.exp(nats / 32), rel=1e-6)
    assert all(score["low"] < score["value"] < score["high"] for score in row.scores)
    assert perplexity["high"] > 1, "no share"
    assert json.loads((folder / SCORES).read_text())["scores"] == row.scores
    assert len((folder / VERDICTS).read_text().splitlines()) == 8
    table = list(csv.DictReader((folder / RESULTS).open()))
    assert [line["task_id"] for line in table] == [json.loads(line)["task_id"] for line in (folder / VERDICTS).open()]


def test_answers_are_scored_by_the_recipes_metrics(room):
    lines = [{"task_id": f"row-{n}", "text": "a b", "reference": "a b" if n else "a c"} for n in range(4)]
    run_id, _ = begin(room, ANSWERS, lines, "answers", 4)
    room.grader.step(NOW)
    scores = {score["name"]: score["value"] for score in row_of(room, run_id, "answers").scores}
    assert scores == {"exact-match": 0.75, "token-f1": 0.875}


@pytest.mark.parametrize(
    "line",
    [
        text(1, nats=float("nan")),
        text(1, nats=float("inf")),
        text(1, nats=-1.0),
        text(1, nats="8"),
        text(1, nats=True),
        text(1, num_bytes=-3),
        text(1, num_bytes=1.5),
        text(1, num_tokens=1 << 60),
        text(0, nats=1.0),  # the name is taken
        text(1, task_id=["text-1"]),
        text(1, task_id="x" * 1000),
        {"task_id": "text-1"},
    ],
)
def test_a_line_that_is_no_measurement_is_not_counted(room, line):
    run_id, _ = begin(room, PERPLEXITY, [text(0), line], "perplexity", 2)
    room.grader.step(NOW)
    row = row_of(room, run_id, "perplexity")
    assert (row.state, row.num_graded) == ("waiting", 1)
    room.end(run_id, "failed")
    room.grader.step(NOW)
    assert "after 1 of 2" in row_of(room, run_id, "perplexity").reason


def test_texts_without_a_token_have_no_figure(room):
    run_id, _ = begin(room, PERPLEXITY, [text(0, nats=0.0, num_tokens=0)], "perplexity", 1)
    room.grader.step(NOW)
    row = row_of(room, run_id, "perplexity")
    assert row.state == "failed"
    assert "no token" in row.reason
