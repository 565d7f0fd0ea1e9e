"""Pretraining: it learns, its units compare, and what cannot work is refused."""

import json
import math
from pathlib import Path

import pytest

from tests.work.conftest import chat_rows, pretrain_recipe, sft_recipe, text_rows

pytestmark = pytest.mark.slow
TOKENIZER = {"kind": "tokenizer", "vocab_size": 300}
PARENT_ID, BASE_ID = "20261121-001520-tokenizer-pppp", "20261121-001521-pretrain-pppp"


def test_a_model_from_random_weights_learns(make_job):
    job = make_job(pretrain_recipe(), text_rows())
    assert job.run() == 0
    losses = dict(job.curve("loss"))
    assert losses[1] == pytest.approx(math.log(263), abs=0.3), "random weights know nothing"
    assert losses[20] < losses[1] - 1
    manifest = job.manifest(20)
    assert manifest["kind"] == "pretrain"
    told = json.loads((job.dir.root / "metrics.json").read_text())
    evaluated = dict(job.curve("eval_loss"))
    assert told["final"]["step"] == 20
    assert told["best"]["eval_loss"] == min(evaluated.values())
    assert {"eval_bits_per_byte", "eval_perplexity"} <= set(told["best"])
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(manifest["files"])
    for path in job.dir.checkpoint(20).iterdir():
        assert str(job.dir.root).encode() not in path.read_bytes(), path.name


def test_bits_a_byte_is_the_loss_in_units_that_compare_across_tokenizers(make_job):
    job = make_job(pretrain_recipe(train={"max_steps": 5}), text_rows())
    assert job.run() == 0
    bits, loss = dict(job.curve("eval_bits_per_byte"))[5], dict(job.curve("eval_loss"))[5]
    # one byte is one token here, but for the end token after each text
    assert bits == pytest.approx(loss / math.log(2), rel=0.03)


def test_a_tokenizer_run_feeds_a_pretraining_run(make_job):
    parent = make_job(TOKENIZER, [{"text": Path(__file__).read_text()}], PARENT_ID)
    assert parent.run() == 0
    ref = f"run:{PARENT_ID}"
    child = make_job(pretrain_recipe(tokenizer=ref, train={"max_steps": 5}), text_rows())
    assert child.run(references={ref: str(parent.dir.checkpoint(0))}) == 0
    size = parent.manifest(0)["metrics"]["vocab_size"]
    assert size > 263
    assert child.curve("loss")[0][1] == pytest.approx(math.log(size), abs=0.4)


def test_a_tokenizer_can_be_learnt_from_the_runs_own_rows(make_job):
    job = make_job(pretrain_recipe(tokenizer="fresh:bpe", train={"max_steps": 5}), text_rows())
    assert job.run() == 0
    assert job.curve("loss")[0][1] > math.log(264)


def test_an_architecture_can_stand_in_the_recipe(make_job):
    own = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    job = make_job(pretrain_recipe(architecture=own, train={"max_steps": 5}), text_rows())
    assert job.run() == 0


def test_a_check_trains_nothing(make_job):
    job = make_job(pretrain_recipe(), text_rows())
    assert job.run("--check") == 0
    assert job.said("ready")[0]["max_steps"] == 20
    assert not job.dir.checkpoint_steps()


@pytest.mark.parametrize(
    ("changes", "rows", "sentence"),
    [
        ({"architecture": "huge"}, text_rows(), "huge"),
        ({"architecture": {"hiden_size": 64}}, text_rows(), "hidden_size"),
        ({"architecture": {"hidden_size": 65, "num_attention_heads": 4}}, text_rows(), "architecture"),
        ({"tokenizer": "/no/such/tokenizer"}, text_rows(), "/no/such/tokenizer"),
        ({"tokenizer": "run:20261121-001530-tokenizer-zzzz"}, text_rows(), "Train it first"),
        ({"block_size": 4096}, text_rows(), "block_size"),
        ({}, [{"text": "x = 1"}], "block_size"),
        ({}, [{"text": ["a", "list"]}], "'text'"),
        ({"train": {"optim": "no_such_optimizer"}}, text_rows(), "no_such_optimizer"),
        ({"train": {"packing_strategy": "bestfit"}}, text_rows(), "Did you mean 'best_fit'"),
        ({"train": {"neftune_noise_alpha": 5}}, text_rows(), "neftune_noise_alpha"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_sentence(make_job, changes, rows, sentence):
    job = make_job(pretrain_recipe(**changes), rows)
    assert job.run() == 1
    assert sentence in job.sentence
    assert not job.said("ready")
    assert not job.dir.checkpoint_steps()


@pytest.mark.parametrize("architecture", ["tiny", "tiny-starcoder2"])
def test_a_pretrained_model_is_tuned_with_lora_like_any_other(make_job, architecture):
    base = make_job(pretrain_recipe(architecture=architecture, train={"max_steps": 5}), text_rows(), BASE_ID)
    assert base.run() == 0, base.sentence
    ref = f"run:{BASE_ID}"
    tuned = make_job(sft_recipe(model={"model_name_or_path": ref}, train={"max_steps": 5}), chat_rows())
    assert tuned.run(references={ref: str(base.dir.checkpoint(5))}) == 0, tuned.sentence
    losses = [loss for _, loss in tuned.curve("loss")]
    assert losses[-1] < losses[0]
