"""Several processes train as one: the same losses, one that writes, all that stop, and the reason of the one that failed."""

import os
import subprocess
import sys

import pytest

from codex_space.core import durable
from codex_space.core.errors import RecipeError, TrainingError
from codex_space.core.recipe import parse_recipe
from codex_space.jobs.launch import launch, marker, worker_command, worker_environ
from codex_space.jobs.process import find_leftovers, read_identity
from codex_space.work import checkpoint, processes
from tests.work.conftest import chat_rows, make_folder, sft_recipe, wait_until

TWO = {"num_processes": 2}
SHARED = """
kind: sft
model: {model_name_or_path: fresh:tiny}
datasets: [{path: sample:x}]
launch: {num_processes: 2, config: CONFIG}
"""


def recipe(accumulation, **launched):
    train = {
        "max_steps": 8,
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
    }
    return sft_recipe(
        lora=None, train=train, checkpoints={"every_steps": 4, "keep_last": 20}, launch={"num_threads": 1, **launched}
    )


def rows():
    """Answers of very different length: a mean of each process's mean loss is then not the mean over tokens.

    Enough for one epoch: at the end of each, accelerate fills up an uneven last step with rows of its beginning.
    """
    made = chat_rows(80)
    for number, row in enumerate(made):
        row["messages"][1]["content"] *= 1 + number % 7
    return made


def begin(job, **facts):
    """Start it as the owner does: under the shim."""
    job.launch(num_processes=2, **facts)
    environ = worker_environ(os.environ, num_threads=1, offline=True)
    return launch(job.dir, worker_command(job.dir), environ)


@pytest.mark.slow
def test_two_processes_lose_as_one_with_twice_the_accumulation_stop_together_and_resume(tmp_path):
    alone = make_folder(tmp_path / "alone", recipe(4), rows())
    assert alone.run() == 0, alone.sentence
    both = make_folder(tmp_path / "both", recipe(2, **TWO), rows())
    assert begin(both)
    wait_until(lambda: both.said("log") or both.dir.exit.is_file(), "the first step")
    identity = read_identity(both.dir.worker)
    both.dir.stop_request.touch()
    wait_until(both.dir.exit.is_file, "the end of all processes")
    assert durable.read_json(both.dir.exit) == {"code": 0}, both.dir.log.read_text()[-3000:]
    assert both.said("done")[-1]["stopped"]
    stopped_at = both.said("done")[-1]["step"]
    assert 0 < stopped_at < 8
    wait_until(lambda: not find_leftovers(identity, marker(both.dir)), "the shim to clean up", 20)
    assert both.dir.checkpoint_steps()[-1] == stopped_at
    assert {f"rng_state_{rank}.pth" for rank in (0, 1)} < set(both.manifest(stopped_at)["resume_files"])
    assert begin(both, attempt=2, resume_from_step=stopped_at)
    wait_until(both.dir.exit.is_file, "the rest")
    assert both.said("done")[-1]["step"] == 8, both.dir.log.read_text()[-3000:]
    assert len(both.said("attempt")) == 2
    for name in ("loss", "grad_norm"):  # eval_loss is the trainer's mean over batches, and they are cut otherwise
        expected, found = alone.curve(name), both.curve(name)
        assert [step for step, _ in found if step in dict(expected)] == [step for step, _ in expected]
        for step, value in expected:
            assert dict(found)[step] == pytest.approx(value, abs=1e-5 if name != "grad_norm" else 1e-4), (name, step)


@pytest.mark.slow
def test_the_reason_of_the_process_that_failed_is_the_runs(make_job):
    job = make_job(recipe(2, **TWO), rows()).launch()
    command = worker_command(job.launch(num_processes=2).dir)
    command[command.index("codex_space.work")] = "tests.work.failing_process"
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, env=environ, capture_output=True, timeout=120, check=False)
    assert ended.returncode
    assert [event["what"] for event in job.said("failed")] == ["row 7 is broken"]


def test_more_processes_than_the_machine_has_are_refused(make_job):
    job = make_job(recipe(2, num_processes=64), rows())
    assert job.run() == 1
    assert job.failure["where"] == "launch.num_processes"
    assert "64 processes want 64" in job.failure["what"]


def test_a_kind_that_is_one_process_says_so():
    with pytest.raises(RecipeError, match="a tokenizer run is one process"):
        parse_recipe("kind: tokenizer\ndatasets: [{path: a}]\nlaunch: {num_processes: 2}\n")
    with pytest.raises(RecipeError, match="pretraining shares a model with fsdp2"):
        parse_recipe(
            "kind: pretrain\narchitecture: tiny\ntokenizer: 'fresh:bytes'\ndatasets: [{path: a}]\n"
            "launch: {num_processes: 2, config: zero3}\n"
        )


def test_one_process_starts_without_torchrun_and_only_the_first_failure_is_told(make_job, monkeypatch):
    job = make_job(recipe(2), rows()).launch()
    assert worker_command(job.dir) == [sys.executable, "-m", "codex_space.work", str(job.dir.root)]
    assert all(processes.is_first_to_fail(job.dir) for _ in range(2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [processes.is_first_to_fail(job.dir) for _ in range(2)] == [True, False]


@pytest.mark.slow
def test_a_model_that_was_to_be_shared_and_is_not_is_an_error(tmp_path):
    """On CPUs accelerate makes copies of it and says nothing."""
    both = make_folder(tmp_path / "both", recipe(2, **TWO, config="fsdp2"), rows())
    assert begin(both, config="fsdp2")
    wait_until(both.dir.exit.is_file, "the end of all processes")
    assert both.failure["what"] == "fsdp2 was asked for and every process holds the whole model"
    assert both.failure["where"] == "launch.config"
    assert both.curve("loss") == []
    assert both.dir.checkpoint_steps() == []


MARKS = [("fsdp1", "_is_flat_param", True), ("fsdp2", "placements", ()), ("zero3", "ds_id", 3)]


@pytest.mark.parametrize(("config", "name", "value"), MARKS)
def test_a_model_in_parts_is_taken_for_one(config, name, value):
    import torch

    model = torch.nn.Linear(2, 2)
    in_4_bits = ["model.load_in_4bit=true", "lora={}"] if config == "fsdp1" else []
    shared = parse_recipe(SHARED.replace("CONFIG", config), in_4_bits)
    with pytest.raises(TrainingError, match="every process holds the whole model"):
        processes.require_shared(shared, model)
    setattr(model.weight, name, value)
    processes.require_shared(shared, model)
    processes.require_shared(parse_recipe(SHARED.replace("CONFIG", "ddp")), torch.nn.Linear(2, 2))


def test_the_state_of_a_shared_model_is_for_a_resume_and_its_weights_for_everybody():
    for name in (
        "pytorch_model_fsdp.bin",
        "optimizer.bin",
        "optimizer_0/__0_0.distcp",
        "pytorch_model_fsdp_0/.metadata",
    ):
        assert checkpoint.is_for_resume(name), name
    for name in ("model.safetensors", "adapter_model.safetensors", "optimizer.md", "config.json"):
        assert not checkpoint.is_for_resume(name), name
