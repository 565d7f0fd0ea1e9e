"""What a model in training writes every few steps: bounded, the same on any machine, and without a trace in the weights."""

import json

import pytest

from tests.work.conftest import chat_rows, make_folder, pretrain_recipe, sft_recipe, text_rows, weights

pytestmark = pytest.mark.slow
DROPOUT = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
RECIPE = sft_recipe(
    lora=DROPOUT, train={"max_steps": 6}, checkpoints={"every_steps": 2, "keep_last": 9},
    samples={"every_steps": 2, "max_new_tokens": 8},
)  # fmt: skip
OTHER_ID = "20261121-001540-sft-bbbb"


def read(job, step):
    return json.loads(job.dir.samples(step).read_text())["samples"]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    job = make_folder(tmp_path_factory.mktemp("samples"), RECIPE, chat_rows())
    assert job.run() == 0
    return job


def test_the_same_prompts_of_validation_rows_are_answered_before_every_few_steps_and_at_the_end(sampled):
    assert sampled.dir.sample_steps() == [0, 2, 4, 6]
    known = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in chat_rows()}
    first, last = read(sampled, 0), read(sampled, 6)
    assert len(first) == 3
    assert [row["prompt"] for row in first] == [row["prompt"] for row in last]
    for row in first:
        assert known[row["prompt"]] == row["expected"]
        assert 0 <= row["num_tokens"] <= 8


def test_a_run_with_samples_has_the_weights_of_one_without(make_job, sampled):
    plain = make_job({key: value for key, value in RECIPE.items() if key != "samples"}, chat_rows())
    assert plain.run() == 0
    for step in (2, 4, 6):
        assert weights(plain.dir.checkpoint(step)) == weights(sampled.dir.checkpoint(step))
    assert plain.curve("loss") == sampled.curve("loss")
    assert not plain.dir.sample_steps()


def test_a_cut_off_run_goes_on_with_the_samples_of_one_that_was_not(make_job, sampled):
    job = make_job(RECIPE, chat_rows(), OTHER_ID)
    job.dir.stop_request.touch()
    assert job.run() == 0
    assert not job.dir.sample_steps(), "a stop lets nothing be asked"
    job.dir.stop_request.unlink()
    assert job.resume() == 0
    for step in (2, 4, 6):
        assert read(job, step) == read(sampled, step)


def test_prompts_of_the_recipe_are_asked_as_they_are(make_job):
    section = {"prompts": ["Say hello.", "x" * 4000], "every_steps": 50, "max_new_tokens": 4}
    job = make_job(sft_recipe(samples=section, train={"max_steps": 2}), chat_rows())
    assert job.run() == 0
    assert job.dir.sample_steps() == [0, 2]
    assert [row["prompt"] for row in read(job, 2)] == section["prompts"]


def test_plain_texts_are_gone_on_with_and_a_long_run_writes_no_more_than_a_hundred(make_job, monkeypatch):
    from codex_space.work import samples

    monkeypatch.setattr(samples, "MOST_STEPS", 3)
    recipe = pretrain_recipe(samples={"every_steps": 1, "max_new_tokens": 4}, train={"max_steps": 10})
    job = make_job(recipe, text_rows())
    assert job.run() == 0
    assert job.dir.sample_steps() == [0, 4, 8, 10]
    row = read(job, 10)[0]
    whole = {text["text"] for text in text_rows()}
    assert any(text.startswith(row["prompt"] + row["expected"]) for text in whole)


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_preferences_are_sampled_from_their_prompts(make_job, kind):
    rows = [{"prompt": f"Add {i}.", "chosen": f"+ {i}", "rejected": f"- {i}"} for i in range(30)]
    train = {"max_steps": 1, "per_device_train_batch_size": 4, "max_length": 64}
    recipe = {
        "kind": kind, "model": {"model_name_or_path": "fresh:tiny"}, "lora": {"r": 2}, "train": train,
        "validation": {"fraction": 0.2}, "samples": {"max_new_tokens": 4},
    }  # fmt: skip
    job = make_job(recipe, rows)
    assert job.run() == 0, job.sentence
    assert all(row["prompt"].startswith("Add ") for row in read(job, 1))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"prompts": [""]}, "at least 1 character"),
        ({"prompts": ["x"] * 9}, "at most 8 items"),
        ({"prompts": ["x" * 4001]}, "at most 4000 characters"),
        ({"every_steps": 0}, "greater than or equal to 1"),
        ({"max_new_tokens": 5000}, "less than or equal to 1024"),
        ({"promts": ["x"]}, "Did you mean 'prompts'?"),
    ],
)
def test_a_wrong_section_is_refused_by_name(make_job, section, said):
    job = make_job(sft_recipe(samples=section), chat_rows())
    assert job.run() == 1
    assert said in job.sentence
    assert "samples" in job.failure["where"]
