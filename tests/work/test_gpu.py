"""What only a GPU can show of a run: repeated bits, its driver's figures, the share of its peak."""

import json

import pytest
import torch

from tests.work.conftest import chat_rows, sft_recipe, weights

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")]
EXACT = sft_recipe(deterministic=True, train={"max_steps": 6}, lora={"r": 4, "lora_dropout": 0.1})


def test_a_deterministic_run_gives_the_same_bits_twice_and_samples_leave_no_trace(make_job, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    jobs = []
    for number, extra in enumerate(({}, {}, {"samples": {"every_steps": 2, "max_new_tokens": 8}})):
        jobs.append(make_job({**EXACT, **extra}, chat_rows(), f"20261121-00153{number}-sft-aaaa"))
        process = jobs[-1].start()
        assert process.wait(240) == 0, jobs[-1].dir.log.read_text()[-3000:]
    first, second, sampled = (weights(job.dir.checkpoint(5)) for job in jobs)
    assert first == second
    assert first == sampled
    assert jobs[2].dir.sample_steps() == [0, 2, 4, 6]


def test_the_gpu_is_watched_and_named(make_job):
    job = make_job(sft_recipe(train={"max_steps": 4}), chat_rows())
    assert job.run() == 0, job.sentence
    first = job.said("log")[0]["metrics"]
    assert 0 <= first["gpu_percent"] <= 100
    assert 10 < first["gpu_temperature_c"] < 110
    assert first["gpu_power_w"] > 5
    assert first["gpu_memory_mib"] > first["memory_mib"] > 0
    for event in job.said("log"):
        assert 0 < event["metrics"].get("mfu", 0.5) < 1
    gpu = json.loads(job.dir.env.read_text())["gpus"][0]
    assert gpu["name"] == torch.cuda.get_device_name(0)
    assert gpu["driver"]
