"""Bits of a text's bytes and answers beside the ones wanted: counted once each, whatever the window, batch or order."""

import json

import pytest
import torch

from codex_space.work.measure import windows
from tests.work.conftest import chat_rows

pytestmark = pytest.mark.slow
TEXTS = ["x = 1\n", "def f(a):\n    return a\n" * 60, "ü" * 40, "y"]


def recipe(benchmark, **changes):
    return {
        "kind": "evaluate",
        "model": {"model_name_or_path": "fresh:tiny"},
        "benchmark": benchmark,
        "max_new_tokens": 8,
        **changes,
    }


def written(job, benchmark):
    folder = job.dir.evaluation(0, benchmark)
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("size", [2, 3, 8, 100])
@pytest.mark.parametrize("num", [1, 2, 3, 7, 8, 9, 41])
def test_windows_count_every_token_but_the_first_once_and_after_half_a_window(num, size):
    ids = list(range(num))
    counted = []
    for part in windows(5, ids, size):
        assert part.text == 5
        assert len(part.ids) <= size
        assert 0 < part.num_new < len(part.ids)
        counted += part.ids[-part.num_new :]
        assert len(part.ids) - part.num_new >= min(size // 2, part.ids[-part.num_new])
    assert counted == ids[1:]


def test_the_surprise_of_a_text_is_the_models_own_loss_on_it(make_job):
    job = make_job(recipe("perplexity"), [{"text": text} for text in TEXTS])
    assert job.run() == 0, job.sentence
    rows = {row["task_id"]: row for row in written(job, "perplexity")}
    from codex_space.work import models

    model = models.load_model(str(job.dir.base), dtype=torch.float32).eval()
    tokenizer = models.load_tokenizer(str(job.dir.base))
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    assert set(rows) == {f"text-{number}" for number in range(1, len(TEXTS) + 1)}
    for number, text in enumerate(TEXTS, start=1):
        row, ids = rows[f"text-{number}"], tokenizer(text)["input_ids"]
        assert (row["num_tokens"], row["num_bytes"]) == (len(ids), len(text.encode()))
        if len(ids) < 1024:  # one window
            given = torch.tensor([[first, *ids]])
            with torch.inference_mode():
                assert row["nats"] == pytest.approx(model(given, labels=given).loss.item() * len(ids), rel=1e-4)
    line = job.said("samples")[0]["protocol"]
    assert "xz -9 of the same" in line
    assert "windows of 1,024 tokens" in line


def test_answers_stand_beside_what_was_wanted(make_job):
    job = make_job(recipe("answers", limit=3), chat_rows(6))
    assert job.run() == 0, job.sentence
    rows = written(job, "answers")
    assert {row["reference"].partition("(")[0][:4] for row in rows} == {"def "}
    assert all(row["asked"].startswith("Write ") and row["num_tokens"] <= 8 for row in rows)
    assert job.said("samples")[0]["num_samples"] == 3


@pytest.mark.parametrize(
    ("benchmark", "rows", "said"),
    [
        ("perplexity", [{"text": ""}], "is empty"),
        ("perplexity", [{"prompt": "a", "chosen": "b", "rejected": "c"}], "kind evaluate"),
        ("answers", [{"text": "no prompt"}], "prompt"),
        ("answers", [{"messages": [*chat_rows(1)[0]["messages"], {"role": "user", "content": "x"}]}], "prompt"),
    ],
)
def test_rows_that_cannot_be_measured_are_one_sentence(make_job, benchmark, rows, said):
    job = make_job(recipe(benchmark), rows)
    assert job.run() == 1
    assert said in job.sentence
    assert not job.said("samples")


def test_a_stop_leaves_what_was_measured_and_says_so(make_job):
    job = make_job(recipe("perplexity"), [{"text": "x = 1\n" * 300}] * 30)
    job.dir.stop_request.touch()
    assert job.run() == 0
    assert job.said("done")[0]["stopped"]
