"""An SFT by our own loop: TRL's losses to the fourth place, accumulation that adds up, exact resume, and what it refuses."""

import json
import random

import pytest
from safetensors.torch import load_file

from codex_space.core.errors import RecipeError
from codex_space.core.recipe import validate
from tests.work.conftest import chat_rows, make_folder, sft_recipe, wait_until, weights

pytestmark = pytest.mark.slow
FULL = {"max_steps": 8, "learning_rate": 1e-3}


def uneven(num=60):
    """Answers of very different length: a mean of means is not the mean over tokens."""
    rows = chat_rows(num)
    for number, row in enumerate(rows):
        row["messages"][1]["content"] *= 1 + number % 5
    return rows


def trained(folder, rows=None, **changes):
    job = make_folder(folder, sft_recipe(**changes), rows or uneven())
    assert job.run() == 0, job.sentence
    return job


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": None},
        {},
        {"lora": None, "train": {"packing": True}},
        {"lora": None, "train": {"gradient_accumulation_steps": 3, "warmup_steps": 3, "lr_scheduler_type": "cosine"}},
        {"lora": None, "train": {"num_train_epochs": 2, "max_steps": -1, "gradient_accumulation_steps": 4}},
    ],
    ids=["full", "lora", "packed", "accumulated", "two epochs with an uneven end"],
)
def test_its_losses_are_trls(tmp_path, changes):
    changes = {**changes, "train": {**FULL, **changes.get("train", {})}}
    theirs, ours = (trained(tmp_path / engine, **changes, engine=engine) for engine in ("trl", "loop"))
    for name, close in (("loss", 1e-4), ("grad_norm", 1e-3), ("learning_rate", 1e-12)):
        expected, found = theirs.curve(name), ours.curve(name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=close), name
    assert ours.said("checkpoint")[-1]["step"] == theirs.said("checkpoint")[-1]["step"]
    step = ours.dir.checkpoint_steps()[-1]
    told = [{path.name for path in job.dir.checkpoint(step).iterdir()} for job in (theirs, ours)]
    assert told[0] - told[1] <= {"scheduler.pt"}


def test_one_row_eight_times_is_eight_rows_once(tmp_path):
    curves = []
    for rows, times in ((8, 1), (1, 8)):
        train = {
            **FULL,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": times,
            "adam_epsilon": 1e-3,
        }
        job = trained(tmp_path / str(times), lora=None, train=train, engine="loop", validation={"fraction": 0})
        curves.append([loss for _, loss in job.curve("loss")])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert curves[0][-1] < curves[0][0]


@pytest.mark.parametrize("lora", [{"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}, None])
def test_a_killed_run_ends_bit_identical_to_one_that_was_not(make_job, processes, lora):
    recipe = sft_recipe(lora=lora, engine="loop", train={"gradient_accumulation_steps": 2})
    whole = make_job(recipe, chat_rows(100))
    assert whole.run() == 0
    killed = make_job(recipe, chat_rows(100), "20261121-001540-sft-bbbb")
    moment = random.Random(str(lora)).randint(6, 18)
    process = killed.start()
    processes.append(process)
    wait_until(lambda: any(event["step"] >= moment for event in killed.said("log")), f"step {moment}")
    process.kill()
    process.wait()
    assert not killed.said("done")
    assert killed.resume() == 0
    assert killed.curve("loss") == whole.curve("loss")
    assert killed.curve("eval_loss") == whole.curve("eval_loss")
    assert weights(killed.dir.checkpoint(20)) == weights(whole.dir.checkpoint(20))


def test_it_stops_when_it_is_asked_and_its_result_is_one_like_any_other(make_job):
    job = make_job(sft_recipe(engine="loop", train=FULL), chat_rows())
    job.dir.stop_request.touch()
    assert job.run() == 0
    assert job.said("done")[0]["stopped"]
    job.dir.stop_request.unlink()
    assert job.resume() == 0
    folder = job.dir.checkpoint(8)
    assert load_file(folder / "adapter_model.safetensors")
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    assert job.manifest(8)["metrics"]["eval_loss"] > 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"launch": {"num_processes": 2}}, "in one process"),
        ({"model": {"model_name_or_path": "a/b", "load_in_4bit": True}}, "16 and 32 bits alone"),
        ({"train": {"loss_type": "dft"}}, "plain loss"),
        ({"train": {"label_smoothing_factor": 0.1}}, "plain loss"),
        ({"engine": "lop"}, "'trl' or 'loop'"),
    ],
)
def test_what_it_cannot_train_is_refused(changes, says):
    with pytest.raises(RecipeError, match=says):
        validate({**sft_recipe(engine="loop", **{k: v for k, v in changes.items() if k != "engine"}), "datasets": [{"path": "a"}],
                  **{k: v for k, v in changes.items() if k == "engine"}})  # fmt: skip


def test_a_resume_with_another_batch_is_refused(make_job):
    job = make_job(sft_recipe(engine="loop", train={"max_steps": 5}), chat_rows())
    assert job.run() == 0
    recipe = job.dir.recipe.read_text()
    job.dir.recipe.write_text(
        recipe.replace("per_device_train_batch_size: 4", "per_device_train_batch_size: 2").replace(
            "max_steps: 5", "max_steps: 9"
        )
    )
    assert job.resume() == 1
    assert "a step was 4 rows" in job.sentence
