"""Supervised fine-tuning with the real TRL on small models made on the spot."""

import json
import math
from importlib import metadata

import pytest
import torch

from tests.work.conftest import RUN_ID, chat_rows, sft_recipe, weights

pytestmark = pytest.mark.slow


def test_a_run_tells_its_whole_story_in_events(make_job):
    job = make_job(sft_recipe(train={"max_steps": 10}), chat_rows())
    assert job.run() == 0
    kinds = [event["e"] for event in job.events]
    assert kinds[0] == "attempt"
    assert kinds[-1] == "done"
    ready = job.said("ready")[0]
    assert ready["max_steps"] == 10
    assert 0 < ready["trained_tokens"] < ready["total_tokens"]
    assert [event["step"] for event in job.said("checkpoint")] == [5, 10]
    first = job.said("log")[0]
    assert {
        "loss", "perplexity", "learning_rate", "grad_norm", "tokens_per_s", "data_wait", "memory_mib", "cpu_percent", "ram_percent",
    } <= set(first["metrics"])  # fmt: skip
    assert first["metrics"]["perplexity"] == pytest.approx(math.exp(first["metrics"]["loss"]))
    assert 0 <= first["metrics"]["data_wait"] <= 1
    assert [step for step, _ in job.curve("eval_perplexity")] == [5, 10]
    assert first["step"] == 1
    assert [step for step, _ in job.curve("eval_loss")] == [5, 10]
    assert "stopped" not in job.said("done")[0]
    assert not (job.dir.root / "README.md").exists()


def test_a_run_says_what_it_was_made_with(make_job):
    job = make_job(sft_recipe(train={"max_steps": 1}, deterministic=True), chat_rows())
    assert job.run() == 0
    env = json.loads(job.dir.env.read_text())
    prepared = json.loads((job.dir.rows / "prepared.json").read_text())
    assert env["packages"]["trl"] == metadata.version("trl")
    assert env["data"] == {name: prepared[name] for name in ("train_sha256", "validation_sha256")}
    assert len(env["commit"].removesuffix("-dirty")) == 40
    assert env["gpus"] == [] or env["gpus"][0]["driver"]
    assert env["num_threads"] == 1


def test_a_deterministic_run_asks_torch_for_it_and_the_next_one_does_not(make_job):
    for number, wanted in enumerate((True, False)):
        job = make_job(
            sft_recipe(train={"max_steps": 1}, deterministic=wanted), chat_rows(), f"20261121-00153{number}-sft-aaaa"
        )
        assert job.run() == 0, job.failure
        assert torch.are_deterministic_algorithms_enabled() == wanted


def test_what_has_no_deterministic_version_is_named(make_job, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("scatter_add_cuda does not have a deterministic implementation, but you set ...")

    monkeypatch.setattr("trl.SFTTrainer.training_step", refuse)
    job = make_job(sft_recipe(train={"max_steps": 1}, deterministic=True), chat_rows())
    assert job.run() == 1
    assert "scatter_add_cuda" in job.failure["what"]
    assert job.failure["cure"] == "Set deterministic: false."


def test_only_answers_and_their_end_are_trained(make_job):
    rows = chat_rows()
    job = make_job(sft_recipe(validation={"fraction": 0}), rows)
    assert job.run("--check") == 0
    answers = sum(len(row["messages"][1]["content"].encode()) + 1 for row in rows)  # bytes, and the end token
    assert job.said("ready")[0]["trained_tokens"] == answers


def test_a_prompt_is_not_trained_its_completion_and_end_are(make_job):
    rows = [{"prompt": f"Say {i}", "completion": f"It is {i}"} for i in range(20)]
    for template, extra in (("auto", "### User\n\n\n### Assistant\n"), ("none", "")):
        job = make_job(
            sft_recipe(validation={"fraction": 0}, chat_template=template),
            rows,
            f"20261121-00153{len(extra) % 7}-sft-aaaa",
        )
        assert job.run("--check") == 0
        ready = job.said("ready")[0]
        assert ready["trained_tokens"] == sum(len(row["completion"]) + 1 for row in rows)
        assert ready["total_tokens"] == sum(
            len(row["prompt"]) + len(extra) + len(row["completion"]) + 1 for row in rows
        )


def test_a_check_trains_and_leaves_nothing(make_job):
    job = make_job(sft_recipe(), chat_rows())
    assert job.run("--check") == 0
    assert [event["e"] for event in job.events][-1] == "ready"
    assert not list(job.dir.root.glob("checkpoint-*"))


def test_a_checkpoint_names_no_path_of_this_machine_and_no_training_marks(make_job):
    job = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert job.run() == 0
    folder = job.dir.checkpoint(5)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "fresh:tiny"
    for path in folder.iterdir():
        assert str(job.dir.root).encode() not in path.read_bytes(), path.name
    assert "generation" not in (folder / "chat_template.jinja").read_text().replace("add_generation_prompt", "")
    manifest = job.manifest(5)
    assert manifest["run_id"] == RUN_ID
    assert manifest["metrics"]["eval_loss"] > 0
    assert set(manifest["resume_files"]) == {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "codex_manifest.json"}


def test_full_fine_tuning_saves_whole_weights(make_job):
    recipe = sft_recipe(train={"max_steps": 5})
    del recipe["lora"]
    job = make_job(recipe, chat_rows())
    assert job.run() == 0
    assert (job.dir.checkpoint(5) / "model.safetensors").is_file()
    assert job.manifest(5)["base_model"] == "fresh:tiny"


def test_a_base_in_4_bits_trains_on_cpu_with_settings_we_chose(make_job):
    from codex_space.core.sections import ModelSection
    from codex_space.work.models import choose_dtype, quantization

    section = ModelSection(model_name_or_path="fresh:tiny", load_in_4bit=True)
    settings = quantization(section).to_dict()
    assert settings["bnb_4bit_quant_type"] == "nf4"
    assert settings["bnb_4bit_use_double_quant"]
    assert settings["bnb_4bit_compute_dtype"] == "bfloat16"
    assert str(choose_dtype(section, adapters=True)) == "torch.bfloat16"
    model = {"model_name_or_path": "fresh:tiny", "load_in_4bit": True}
    job = make_job(sft_recipe(model=model), chat_rows())
    assert job.run() == 0, job.failure
    losses = [value for _, value in job.curve("loss")]
    assert losses[-1] < losses[0] - 0.05


def test_packing_trains_the_same_tokens(make_job):
    rows = chat_rows()
    counts = []
    for number, packing in enumerate((False, True)):
        recipe = sft_recipe(validation={"fraction": 0}, train={"max_steps": 3, "packing": packing})
        job = make_job(recipe, rows, f"20261121-00153{number}-sft-aaaa")
        assert job.run() == 0, job.failure
        counts.append(job.said("ready")[0]["trained_tokens"])
    assert counts[0] == counts[1]


def test_eight_small_batches_equal_one_of_eight(make_job):
    curves = []
    for number, (size, steps) in enumerate(((8, 1), (1, 8))):
        train = {"max_steps": 5, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        job = make_job(sft_recipe(train=train), chat_rows(), f"20261121-00153{number}-sft-aaaa")
        assert job.run() == 0, job.failure
        curves.append([value for _, value in job.curve("loss")])
    assert curves[0] == pytest.approx(curves[1], abs=2e-4)


def test_an_adapter_can_be_tuned_further(make_job):
    first = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert first.run() == 0
    ref = f"run:{RUN_ID}"
    job = make_job(sft_recipe(model={"model_name_or_path": ref}), chat_rows(), "20261121-001540-sft-bbbb")
    assert job.run(references={ref: str(first.dir.checkpoint(5))}) == 0, job.failure
    # it starts where the first one ended
    assert job.curve("loss")[0][1] == pytest.approx(first.curve("loss")[-1][1], abs=0.3)
    config = json.loads((job.dir.checkpoint(20) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{ref}@step-5"


def test_rotation_keeps_the_newest_and_the_best_and_the_spool_loses_nothing(make_job):
    recipe = sft_recipe(checkpoints={"every_steps": 4, "keep_last": 2, "keep_best": 1}, hub={"repo_id": "ada/model"})
    job = make_job(recipe, chat_rows())
    assert job.run() == 0
    saved = [event["step"] for event in job.said("checkpoint")]
    scores = dict(job.curve("eval_loss"))
    assert saved == [4, 8, 12, 16, 20]
    assert set(job.dir.checkpoint_steps()) == {16, 20, min(scores, key=scores.get)}
    assert sorted(path.name for path in job.dir.spool.iterdir()) == sorted(f"step-{step}" for step in saved)
    assert weights(job.dir.spooled(20)) == weights(job.dir.checkpoint(20))
    assert (job.dir.spooled(20) / "optimizer.pt").stat().st_ino == (
        job.dir.checkpoint(20) / "optimizer.pt"
    ).stat().st_ino


def test_save_now_saves_once_and_trains_on(make_job):
    job = make_job(sft_recipe(checkpoints={"every_steps": 20}), chat_rows())
    job.dir.save_request.touch()
    assert job.run() == 0
    assert [event["step"] for event in job.said("checkpoint")] == [1, 20]
    assert not job.dir.save_request.exists()


def test_a_stop_saves_and_ends_well(make_job):
    job = make_job(sft_recipe(), chat_rows())
    job.dir.stop_request.touch()
    assert job.run() == 0
    assert [event["step"] for event in job.said("checkpoint")] == [1]
    done = job.said("done")[0]
    assert done["stopped"]
    assert done["step"] == 1


def test_no_step_is_taken_past_the_end_of_a_finished_run(make_job):
    job = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert job.run() == 0
    assert job.run(attempt=2, resume_from_step=5) == 0
    assert [event["step"] for event in job.said("done")] == [5, 5]
    assert math.isfinite(job.curve("loss")[-1][1])


@pytest.mark.parametrize("rows", [chat_rows(), [{"prompt": f"Say {i}", "completion": f"It is {i}"} for i in range(40)]])
def test_packed_rows_do_not_see_each_other(make_job, rows):
    """One step over all rows: its loss is that of the rows one by one, and not that of rows that run on into each other."""
    first = {}
    options = {"alone": {}, "bfd": {"packing": True}, "bfd_split": {"packing": True}, "wrapped": {"packing": True}}
    for number, (name, train) in enumerate(options.items()):
        train = {**train, "packing_strategy": name} if train else {}
        train |= {"max_steps": 1, "per_device_train_batch_size": 40}
        job = make_job(sft_recipe(validation={"fraction": 0}, train=train), rows, f"20261121-00153{number}-sft-aaaa")
        assert job.run() == 0, job.sentence
        first[name] = job.curve("loss")[0][1]
        told = [event["text"] for event in job.said("warning")]
        assert any("gradient_accumulation_steps 40" in text for text in told) == name.startswith("bfd")
    assert first["bfd"] == pytest.approx(first["alone"], abs=1e-4)
    assert first["bfd_split"] == pytest.approx(first["alone"], abs=1e-4)
    assert first["wrapped"] != pytest.approx(first["alone"], abs=1e-4)


@pytest.mark.parametrize("train", [{"neftune_noise_alpha": 5.0}, {"loss_type": "dft"}])
def test_noise_on_the_embeddings_and_the_dft_loss_reach_the_trainer(make_job, train):
    losses = []
    for number, extra in enumerate(({}, train)):
        job = make_job(sft_recipe(train={"max_steps": 2, **extra}), chat_rows(), f"20261121-00153{number}-sft-aaaa")
        assert job.run() == 0, job.sentence
        losses.append(job.curve("loss")[0][1])
    assert losses[0] != pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "option"),
    [
        (chat_rows(), "assistant_only_loss"),
        ([{"prompt": f"Say {i}", "completion": f"It is {i}"} for i in range(20)], "completion_only_loss"),
    ],
)
def test_whole_conversations_are_trained_where_that_is_asked(make_job, rows, option):
    job = make_job(sft_recipe(validation={"fraction": 0}, train={option: False}), rows)
    assert job.run("--check") == 0, job.sentence
    ready = job.said("ready")[0]
    assert ready["trained_tokens"] == ready["total_tokens"]
