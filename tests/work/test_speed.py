"""Tokens a second, waiting for rows and the share of a GPU's peak, with a clock that we turn."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codex_space.core.hardware import find_gpu
from codex_space.core.recipe import validate
from codex_space.work import machine, speed
from codex_space.work.attempt import Attempt
from codex_space.work.report import Reporter


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def pass_(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def measured(clock):
    found = speed.Speed(clock)
    found.begin(0)
    return found


def step(measured, clock, wait_s, work_s):
    clock.pass_(wait_s)
    measured.begin_step()
    clock.pass_(work_s)
    measured.end_step()


def test_the_share_of_waiting_and_the_speed_are_of_the_steps_since_the_last_log(measured, clock):
    for _ in range(4):
        step(measured, clock, 0.25, 0.75)
    assert measured.metrics(400) == {"tokens_per_s": 100.0, "data_wait": 0.25}
    for _ in range(2):
        step(measured, clock, 0.0, 0.5)
    assert measured.metrics(600) == {"tokens_per_s": 200.0, "data_wait": 0.0}


def test_evaluations_count_neither_as_work_nor_as_waiting(measured, clock):
    step(measured, clock, 0.5, 0.5)
    measured.pause()
    clock.pass_(60)  # an evaluation and a save
    step(measured, clock, 0, 1.0)
    assert measured.metrics(200) == pytest.approx({"tokens_per_s": 100.0, "data_wait": 0.25})


def test_two_logs_at_one_moment_divide_by_no_zero(measured):
    assert all(math.isfinite(value) for value in {**measured.metrics(5), **measured.metrics(5)}.values())


def test_the_share_of_the_peak_is_given_on_a_known_gpu_only(measured, clock):
    measured.flops_per_token, measured.peak_flops = 6e9, 1e12
    step(measured, clock, 0, 1.0)
    assert measured.metrics(50)["mfu"] == pytest.approx(0.3)
    measured.peak_flops = 0
    assert "mfu" not in measured.metrics(50)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA L4", 121), ("NVIDIA L40S", 362), ("NVIDIA A100-SXM4-80GB", 312), ("Tesla T4", 65), ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 504), ("", None), ("NVIDIA L400", None),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_the_words_of_its_name(name, tflops):
    assert (find_gpu(name) or {}).get("tflops") == tflops


def recipe(kind="sft", **changes):
    values = {"kind": kind, "model": {"model_name_or_path": "a/b"}, "datasets": [{"path": "sample:x"}], **changes}
    return validate(values)


@pytest.mark.parametrize("tied", [True, False])
def test_the_operations_of_a_token_are_those_counted_by_hand(tied):
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    weights = 3 * layer + 32 + 100 * 32  # the head multiplies, tied or not; the embedding does not
    attention = 3 * 32 * 50
    assert speed.flops_per_token(model, recipe(), 50) == 6 * weights + 6 * attention
    assert speed.flops_per_token(model, recipe(lora={"r": 4}), 50) == 4 * weights + 6 * attention
    assert speed.flops_per_token(model, recipe("dpo"), 50) == 8 * weights + 8 * attention


def test_the_machine_is_looked_at_no_more_often_than_every_two_seconds(clock):
    looked = machine.Machine(clock)
    first = looked.metrics()
    assert 0 <= first["cpu_percent"] <= 100
    assert 0 < first["ram_percent"] <= 100
    assert set(looked.metrics()) == {"memory_mib"}
    clock.pass_(machine.EVERY_S)
    assert "ram_percent" in looked.metrics()
    assert torch.cuda.is_available() == ("gpu_temperature_c" in first)


@pytest.mark.parametrize(
    ("changes", "loss", "named"),
    [
        ({}, 2.0, {"perplexity": math.exp(2.0)}),
        ({}, 1e6, {}),
        ({"train": {"loss_type": "dft"}}, 2.0, {}),
        ({"kind": "dpo"}, 0.69, {}),
    ],
)
def test_perplexity_is_given_where_the_loss_is_the_tokens_own(tmp_path, changes, loss, named):
    attempt = Attempt(job=None, recipe=recipe(**changes), events=None, clock=None, stop=None)
    assert Reporter(attempt, evaluates=False)._perplexities({"loss": loss, "grad_norm": 1.0}) == named
