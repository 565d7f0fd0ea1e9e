"""Asking models: batches that change nothing, memory that runs out, benchmarks beside the training."""

import json

import pytest
import torch

from codex_space.grade.protocol import Protocol
from codex_space.work import fresh, models
from codex_space.work.generate import Generator, Prompt
from tests.work.conftest import chat_rows, sft_recipe, wait_until, weights

pytestmark = pytest.mark.slow
PLAIN = {"prompt_form": "completion", "extraction": "", "stops": (), "max_new_tokens": 12, "dataset_version": "x"}
ASKED = {"benchmarks": ["first-steps"], "limit": 3, "max_new_tokens": 8}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "base"
    fresh.make_tiny(folder, seed=1)
    return models.load_model(str(folder), dtype=torch.float32).eval(), models.load_tokenizer(str(folder))


def prompts(tokenizer):
    texts = ["def add(a, b):", "x", "import os\nimport sys\nprint(", "class A:\n    def f(self):", "for", "a = [1, 2"]
    return [Prompt((text, 0), tokenizer(text)["input_ids"]) for text in texts]


def generate(tiny, batch_size, **changes):
    generator = Generator(*tiny, Protocol(**{**PLAIN, **changes}), batch_size)
    return {answer.key: answer.text for answer in generator.answers(prompts(tiny[1]))}


def test_a_batch_answers_as_one_by_one_does(tiny):
    alone = generate(tiny, 1)
    assert len(alone) == 6
    assert generate(tiny, 4) == alone
    assert len(set(alone.values())) > 1


def test_memory_that_runs_out_halves_the_batch_and_loses_no_prompt(tiny, monkeypatch):
    sizes = []
    real = Generator._generate

    def generate_small(self, batch, is_stopped):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, batch, is_stopped)

    monkeypatch.setattr(Generator, "_generate", generate_small)
    alone = generate(tiny, 1)
    sizes.clear()
    assert generate(tiny, 6) == alone
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]


def test_one_prompt_that_does_not_fit_is_said(tiny, monkeypatch):
    from codex_space.core.errors import ModelError

    def fail(self, batch, is_stopped):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Generator, "_generate", fail)
    with pytest.raises(ModelError, match="does not fit"):
        generate(tiny, 2)


def test_an_answer_ends_at_its_stop_string_or_its_last_token(tiny):
    found = generate(tiny, 3, stops=("\n",), max_new_tokens=5)
    assert all(text.count("\n") <= 1 for text in found.values())


def test_samples_differ_and_come_again_with_the_seed(tiny):
    first = generate(tiny, 6, temperature=1.0, num_samples=2, seed=1)
    assert generate(tiny, 6, temperature=1.0, num_samples=2, seed=1) == first
    assert generate(tiny, 6, temperature=1.0, num_samples=2, seed=2) != first


def test_a_prompt_longer_than_the_model_keeps_its_end(tiny, monkeypatch):
    model, tokenizer = tiny
    ids = tokenizer("x = 1\n" * 2000)["input_ids"]
    protocol = Protocol(**{**PLAIN, "max_new_tokens": 10_000})
    seen = []
    real = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: seen.append(given["input_ids"].shape[1]) or real(**given))
    (answer,) = Generator(model, tokenizer, protocol, 1).answers([Prompt(("long", 0), ids)])
    assert answer.num_tokens >= 1
    assert seen == [model.config.max_position_embeddings // 2], "an answer takes half of the positions at most"


def test_a_models_own_penalties_do_not_bend_what_greedy_means(tiny, monkeypatch):
    plain = generate(tiny, 6)
    monkeypatch.setattr(tiny[0].generation_config, "repetition_penalty", 3.0)
    monkeypatch.setattr(tiny[0].generation_config, "no_repeat_ngram_size", 1)
    assert generate(tiny, 6) == plain


def test_a_stop_ends_a_batch_at_its_next_token(tiny):
    asked = iter([False, True, True, True])
    generator = Generator(*tiny, Protocol(**{**PLAIN, "max_new_tokens": 400}), 6)
    assert list(generator.answers(prompts(tiny[1]), lambda: next(asked, True))) == []


def test_benchmarks_in_training_are_asked_at_the_base_and_at_each_checkpoint_and_change_no_weight(make_job):
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
    steps = {"checkpoints": {"every_steps": 5, "keep_last": 9}, "train": {"max_steps": 10}}
    plain = make_job(sft_recipe(lora=lora, **steps), chat_rows())
    assert plain.run() == 0
    asked = make_job(sft_recipe(lora=lora, **steps, evaluate=ASKED), chat_rows(), "20261121-001540-sft-bbbb")
    assert asked.run() == 0, asked.sentence
    assert [event["step"] for event in asked.said("samples")] == [0, 5, 10]
    assert asked.said("samples")[0]["num_samples"] == 3
    for step in (0, 5, 10):
        folder = asked.dir.evaluation(step, "first-steps")
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        assert len({row["task_id"] for row in rows}) == 3
        assert all(row["asked"] and isinstance(row["program"], str) and row["rule"] for row in rows)
        assert json.loads((folder / "protocol.json").read_text())["template_hash"]
    assert asked.curve("loss") == plain.curve("loss")
    assert weights(asked.dir.checkpoint(10)) == weights(plain.dir.checkpoint(10))


def test_a_run_cut_off_while_it_answered_is_asked_again_where_it_goes_on(make_job):
    job = make_job(sft_recipe(train={"max_steps": 10}, checkpoints={"every_steps": 5}, evaluate=ASKED), chat_rows())
    job.dir.stop_request.touch()
    assert job.run() == 0
    (stopped_at,) = job.dir.checkpoint_steps()
    job.dir.stop_request.unlink()
    assert job.resume() == 0, job.sentence
    assert [event["step"] for event in job.said("samples")][-2:] == [5, 10]
    asked = job.dir.evaluation(5, "first-steps") / "asked.json"
    asked.unlink()  # as a kill would have left it
    assert job.run(attempt=3, resume_from_step=5) == 0, job.sentence
    assert [event["step"] for event in job.said("samples")][-2:] == [5, 10]
    assert stopped_at == 1


def test_an_evaluation_that_cannot_be_made_in_the_middle_does_not_end_the_training(make_job, monkeypatch):
    from codex_space.core.errors import ModelError
    from codex_space.work import benchmark

    real = benchmark.Examination.run

    def fail_later(self, model, tokenizer, step, said):
        if step:
            raise ModelError("no room for one prompt")
        return real(self, model, tokenizer, step, said)

    monkeypatch.setattr(benchmark.Examination, "run", fail_later)
    job = make_job(sft_recipe(train={"max_steps": 4}, checkpoints={"every_steps": 2}, evaluate=ASKED), chat_rows())
    assert job.run() == 0, job.sentence
    assert job.said("done")[0]["step"] == 4
    assert "no room for one prompt" in job.said("warning")[-1]["text"]


def test_a_pace_of_its_own(make_job):
    recipe = sft_recipe(train={"max_steps": 6}, checkpoints={"every_steps": 6}, evaluate={**ASKED, "every_steps": 2})
    job = make_job(recipe, chat_rows())
    assert job.run() == 0, job.sentence
    assert [event["step"] for event in job.said("samples")] == [0, 2, 4, 6]


def test_an_adapter_is_asked_and_a_stop_leaves_what_was_written(make_job, processes):
    trained = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert trained.run() == 0
    ref = f"run:{trained.dir.root.name}"
    recipe = {"kind": "evaluate", "model": {"model_name_or_path": ref}, "batch_size": 1, "max_new_tokens": 64}
    job = make_job(recipe, run_id="20261121-001540-evaluate-bbbb")
    process = job.start(references={ref: str(trained.dir.checkpoint(5))})
    processes.append(process)
    wait_until(lambda: job.said("log"), "the first answer")
    job.dir.stop_request.touch()
    assert process.wait(60) == 0
    assert job.said("done")[0]["stopped"]
    assert 0 < job.said("done")[0]["step"] < 60


@pytest.mark.parametrize("form", ["completion", "completion-stripped"])
def test_a_model_is_asked_in_the_form_that_the_recipe_names(make_job, form):
    recipe = {"kind": "evaluate", "model": {"model_name_or_path": "fresh:tiny"}, "limit": 2, "max_new_tokens": 4}
    job = make_job({**recipe, "prompt_form": form})
    assert job.run() == 0, job.sentence
    assert f"prompt: {form};" in job.said("samples")[0]["protocol"]
    folder = job.dir.evaluation(0, "first-steps")
    asked = [json.loads(line)["asked"] for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all(text.endswith("\n") and (form == "completion" or text == text.strip() + "\n") for text in asked)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt_form": "request"}, "template"),
        ({"benchmark": "humanevil"}, "no benchmark"),
        ({"problems": "/nowhere/x.jsonl"}, "cannot be read"),
        ({"benchmark": "humaneval+"}, "evalplus/humanevalplus: HF_HUB_OFFLINE is set"),
        ({"model": {"model_name_or_path": "/nowhere/model"}}, "no such model folder"),
        ({"mode": "chat"}, "template"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(make_job, changes, said):
    recipe = {"kind": "evaluate", "model": {"model_name_or_path": "fresh:tiny"}, "limit": 2, **changes}
    job = make_job(recipe)
    assert job.run() == 1
    assert said in job.sentence
