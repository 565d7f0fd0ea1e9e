"""Preference kinds (DPO, KTO, ORPO, reward) with the real TRL on small models: they learn, refuse, save and resume."""

import json
import math

import pytest

from tests.work.conftest import make_folder, pairs, weights

pytestmark = pytest.mark.slow
KINDS = ("dpo", "kto", "orpo", "reward")


def recipe(kind, **changes):
    """Twelve steps on a fresh model, with adapters; `train` is merged."""
    train = {
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "learning_rate": 3e-3,
        "max_length": 128,
        "logging_steps": 1,
    }
    return {
        "kind": kind,
        "model": {"model_name_or_path": "fresh:tiny"},
        "lora": {"r": 4, "lora_alpha": 8},
        "validation": {"fraction": 0.1},
        "checkpoints": {"every_steps": 6},
        "train": {**train, **changes.pop("train", {})},
        **changes,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_tells_its_story_and_names_no_path_of_this_machine(make_job, kind):
    job = make_job(recipe(kind), pairs())
    assert job.run() == 0, job.sentence
    ready = job.said("ready")[0]
    assert 0 < ready["trained_tokens"] <= ready["total_tokens"]
    assert [event["step"] for event in job.said("checkpoint")] == [6, 12]
    assert [step for step, _ in job.curve("eval_loss")] == [6, 12]
    assert {"loss", "tokens_per_s", "grad_norm"} <= set(job.said("log")[0]["metrics"])
    assert job.said("log")[0]["metrics"]["tokens_per_s"] > 0
    folder = job.dir.checkpoint(12)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "fresh:tiny"
    assert config["task_type"] == ("SEQ_CLS" if kind == "reward" else "CAUSAL_LM")
    for path in folder.iterdir():
        assert str(job.dir.root).encode() not in path.read_bytes(), path.name


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_can_be_trained_and_the_result_loads_with_transformers(make_job, kind):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    whole = recipe(kind, train={"max_steps": 2})
    del whole["lora"]
    job = make_job(whole, pairs(20))
    assert job.run() == 0, job.sentence
    folder = job.dir.checkpoint(2)
    loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    model = loader.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)("return 1", return_tensors="pt")
    assert bool(model(**inputs).logits.isfinite().all())
    if kind == "reward":
        assert model(**inputs).logits.shape == (1, 1)


@pytest.mark.parametrize(
    ("kind", "train"),
    [("dpo", {"precompute_ref_log_probs": True}), ("kto", {}), ("orpo", {})],
)
def test_a_run_that_was_cut_off_ends_as_if_it_never_was(tmp_path, kind, train):
    ends = []
    for name in ("whole", "cut"):
        job = make_folder(tmp_path / name, recipe(kind, train=train), pairs())
        assert job.run() == 0, job.sentence
        if name == "cut":
            import shutil

            shutil.rmtree(job.dir.checkpoint(12))
            assert job.resume() == 0, job.sentence
        ends.append((weights(job.dir.checkpoint(12)), job.curve("loss")))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("kind", "changes", "rows", "sentence"),
    [
        ("sft", {}, pairs(), "Set kind: dpo or orpo or reward or kto"),
        ("dpo", {}, [{"prompt": "p", "completion": "c"}], "kind dpo learns from prompt, chosen and rejected"),
        (
            "dpo",
            {},
            [{"prompt": "p", "chosen": "c", "rejected": "c"}],
            "line 1: the chosen and the rejected answer are the same",
        ),
        ("dpo", {"train": {"loss_type": "sigmod"}}, pairs(), "Did you mean 'sigmoid'"),
        ("dpo", {"train": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}}, pairs(), "loss_weights"),
        ("dpo", {"train": {"loss_type": "exo_pair"}}, pairs(), "Label smoothing"),
        ("dpo", {"train": {"max_length": 8}}, pairs(), "has a token to train on"),
        ("reward", {"train": {"max_length": 8}}, pairs(), "has a token to train on"),
        ("orpo", {"train": {"max_length": 8}}, pairs(), "has a token to train on"),
        ("dpo", {"lora": {"target_modules": ["lm_head"]}}, pairs(), "lm_head"),
        ("dpo", {"lora": {"target_modules": ["q_prj"]}}, pairs(), "Did you mean 'q_proj'"),
        ("kto", {"train": {"per_device_train_batch_size": 1}}, pairs(), "must be 2 or more"),
        (
            "kto",
            {},
            [{"prompt": f"p{i}", "completion": "c", "label": True} for i in range(9)],
            "Add bad answers (label: false)",
        ),
        (
            "kto",
            {},
            [{"prompt": "p", "completion": "c", "label": 1}],
            "'label' holds a number where true or false is due",
        ),
        ("reward", {"evaluate": {"benchmarks": ["first-steps"]}}, pairs(), "scores answers and writes none"),
        (
            "dpo",
            {"chat_template": "none"},
            [{"prompt": [{"role": "user", "content": "a"}] * 2, "chosen": "c", "rejected": "r"}],
            "chat_template: auto",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_sentence(make_job, kind, changes, rows, sentence):
    job = make_job(recipe(kind, **changes), rows)
    assert job.run() == 1
    assert sentence in job.sentence
    assert not job.said("ready")


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_answers_that_all_lose_their_end_are_refused(make_job, kind):
    rows = [{"prompt": f"p{i}", "chosen": "x" * 400, "rejected": "no"} for i in range(20)]
    job = make_job(recipe(kind), rows)
    assert job.run() == 1
    assert "never stop" in job.sentence


def test_pairs_too_long_are_told(make_job):
    rows = [
        *pairs(),
        {"prompt": "p" * 200, "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a" * 200, "rejected": "b"},
    ]
    job = make_job(recipe("dpo", validation={"fraction": 0}), rows)
    assert job.run("--check") == 0
    told = [event["text"] for event in job.said("warning")]
    assert told == [
        "1 of 122 answers are cut at max_length 128: the model does not see how they end",
        "1 rows are not trained on: they do not fit into max_length 128",
    ]


def test_only_answers_and_their_end_are_counted_as_trained(make_job):
    rows = pairs(20)
    job = make_job(recipe("dpo", validation={"fraction": 0}), rows)
    assert job.run("--check") == 0
    answers = sum(len(row["chosen"]) + len(row["rejected"]) + 2 for row in rows)  # bytes, and each end token
    assert job.said("ready")[0]["trained_tokens"] == answers


def test_a_reward_model_is_not_asked_to_write(make_job):
    from codex_space.core.errors import ModelError
    from codex_space.work.chat import Talker

    job = make_job(recipe("reward", train={"max_steps": 2}), pairs(20))
    assert job.run() == 0, job.sentence
    with pytest.raises(ModelError, match="scores answers and writes none"):
        Talker(str(job.dir.checkpoint(2)))
    ref = "run:20261121-001530-reward-k3f9"
    tuned = make_job(recipe("dpo", model={"model_name_or_path": ref}), pairs(20), "20261121-001540-dpo-bbbb")
    assert tuned.run(references={ref: str(job.dir.checkpoint(2))}) == 1
    assert "scores answers and writes none" in tuned.sentence
    assert math.isfinite(job.curve("loss")[-1][1])


def test_every_dpo_loss_trains_and_several_add_up_by_their_weights(make_job):
    from codex_space.core.recipe import DPO_LOSSES

    first = []
    for number, train in enumerate(
        (
            {"loss_type": list(DPO_LOSSES), "label_smoothing": 0.01},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.25]},
            {"loss_type": "sigmoid"},
            {"loss_type": "sft"},
        )
    ):
        values = recipe("dpo", train={"max_steps": 1, **train}, validation={"fraction": 0})
        job = make_job(values, pairs(20), f"20261121-0016{number:02}-dpo-aaaa")
        assert job.run() == 0, job.sentence
        first.append(job.curve("loss")[0][1])
    every, both, sigmoid, sft = first
    assert math.isfinite(every)
    assert both == pytest.approx(sigmoid + 0.25 * sft, rel=1e-4)
    assert sigmoid == pytest.approx(math.log(2), abs=1e-4), "at the start the model is its own reference"


@pytest.mark.parametrize("kind", ["dpo", "kto", "orpo"])
def test_a_run_is_asked_its_benchmark_while_it_trains(make_job, kind):
    asked = {"benchmarks": ["first-steps"], "limit": 2, "max_new_tokens": 4}
    job = make_job(recipe(kind, evaluate=asked, train={"max_steps": 2}, checkpoints={"every_steps": 2}), pairs(20))
    assert job.run() == 0, job.sentence
    samples = job.dir.evaluation(2, "first-steps") / "samples.jsonl"
    assert len(samples.read_text().splitlines()) == 2
