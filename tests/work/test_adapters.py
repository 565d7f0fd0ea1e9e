"""What an adapter trains: its kinds, new tokens, adapters of other places as a base; on every kind of run."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.work.conftest import RUN_ID, chat_rows, pairs, sft_recipe
from tests.work.test_preferences import KINDS, recipe

pytestmark = pytest.mark.slow
OTHER_ID = "20261121-001540-dpo-bbbb"


def trained(job, step):
    return load_file(job.dir.checkpoint(step) / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("lora", "marks"),
    [
        ({"r": 4}, ("lora_A", "q_proj")),
        ({"r": 4, "use_rslora": True}, ("lora_A",)),
        ({"r": 4, "use_dora": True}, ("lora_magnitude_vector",)),
        ({"r": 4, "target_modules": ["v_proj"]}, ("v_proj",)),
        ({"r": 4, "target_modules": r".*\.1\.self_attn\.[qk]_proj"}, ("layers.1.self_attn.q_proj",)),
    ],
)
@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_each_sort_of_adapter_is_trained(make_job, kind, lora, marks):
    job = make_job(recipe(kind, lora=lora, train={"max_steps": 2}, checkpoints={"every_steps": 1}), pairs(20))
    assert job.run() == 0, job.sentence
    first, second = trained(job, 1), trained(job, 2)
    for mark in marks:
        named = [name for name in second if mark in name]
        assert named
        assert any(not first[name].equal(second[name]) for name in named), mark
    if lora.get("target_modules") == ["v_proj"]:
        assert all("v_proj" in name for name in second if "lora_" in name)
    assert any("score" in name for name in second) == (kind == "reward")


@pytest.mark.parametrize("kind", ["sft", *KINDS])
def test_a_base_in_4_bits_trains_on_every_kind(make_job, kind):
    model = {"model_name_or_path": "fresh:tiny", "load_in_4bit": True}
    lora = {"r": 4, "use_dora": kind == "dpo"}
    job = make_job(
        recipe(kind, model=model, lora=lora, train={"max_steps": 3}), chat_rows() if kind == "sft" else pairs(20)
    )
    assert job.run() == 0, job.sentence
    tensors = trained(job, 3)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in tensors.items() if "lora_B" in name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["nothing_like_it", ["q_prj"]])
def test_adapters_that_attach_to_nothing_are_refused_on_every_kind(make_job, kind, target):
    job = make_job(recipe(kind, lora={"target_modules": target}), pairs(20))
    assert job.run() == 1
    assert "no layer of this model is named" in job.sentence
    assert not job.said("ready")


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
@pytest.mark.parametrize("whole", [False, True])
def test_new_tokens_train_their_embeddings_and_the_result_loads(make_job, kind, whole):
    from transformers import AutoTokenizer

    from codex_space.work.models import load_adapter, load_model

    model = {"model_name_or_path": "fresh:tiny", "added_tokens": ["<|extra|>", "<|more|>"]}
    values = recipe(kind, model=model, train={"max_steps": 2}, checkpoints={"every_steps": 1})
    if whole:
        del values["lora"]
    rows = [
        {"prompt": f"<|extra|> {row['prompt']}", **{k: v for k, v in row.items() if k != "prompt"}} for row in pairs(20)
    ]
    if kind == "sft":
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    job = make_job(values, rows)
    assert job.run() == 0, job.sentence
    folder = job.dir.checkpoint(2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    number = tokenizer.convert_tokens_to_ids("<|extra|>")
    assert tokenizer("<|extra|>")["input_ids"] == [number]
    import torch

    loaded = (load_model if whole else load_adapter)(str(folder), dtype=torch.float32, scores=kind == "reward")
    assert loaded.get_input_embeddings().weight.shape[0] == len(tokenizer)
    row, other = loaded.get_input_embeddings().weight[number], loaded.get_input_embeddings().weight[number + 1]
    assert not row.equal(other), "both began as the mean of all rows, and one of them was seen in training"
    if not whole:
        deltas = [name for name in trained(job, 2) if "trainable_tokens_delta" in name]
        assert len(deltas) == 1, "the head is tied to it"
        assert not trained(job, 1)[deltas[0]].equal(trained(job, 2)[deltas[0]])


def test_new_tokens_of_a_head_that_is_not_tied_are_trained_in_both_places(make_job, tmp_path):
    from codex_space.core.architectures import Architecture, read_architecture
    from codex_space.work import fresh, models, tokenizer

    tokenizer.make_bytes(tmp_path / "untied")
    shape = Architecture("untied", {**read_architecture("tiny").fields, "tie_word_embeddings": False})
    fresh.build_fresh(shape, models.load_tokenizer(str(tmp_path / "untied")), 1).save_pretrained(tmp_path / "untied")
    model = {"model_name_or_path": str(tmp_path / "untied"), "added_tokens": ["<|extra|>"]}
    rows = [{**row, "prompt": f"<|extra|>{row['prompt']}", "chosen": f"{row['chosen']}<|extra|>"} for row in pairs(20)]
    job = make_job(recipe("dpo", model=model, train={"max_steps": 2}, checkpoints={"every_steps": 1}), rows)
    assert job.run() == 0, job.sentence
    deltas = [name for name in trained(job, 2) if "trainable_tokens_delta" in name]
    assert sorted(name.split(".")[-3] for name in deltas) == ["embed_tokens", "lm_head"]
    assert all(not trained(job, 1)[name].equal(trained(job, 2)[name]) for name in deltas)


def test_an_adapter_on_the_hub_is_a_base(make_job, hub, tmp_path, monkeypatch):
    import huggingface_hub.constants
    from huggingface_hub import HfApi

    whole = sft_recipe(train={"max_steps": 1})
    del whole["lora"]
    base = make_job(whole, chat_rows(), "20261121-001501-sft-aaaa")
    first = make_job(sft_recipe(train={"max_steps": 3}), chat_rows())
    assert (base.run(), first.run()) == (0, 0)
    adapter = tmp_path / "adapter"
    shutil.copytree(first.dir.checkpoint(3), adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "ada/base"}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    api = HfApi(endpoint=hub.endpoint, token="hf_write")
    for name, folder in (("ada/base", base.dir.checkpoint(1)), ("ada/adapter", adapter)):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=folder)
    for number, lora in enumerate(({"r": 2}, {"continue_adapter": True})):
        values = recipe("dpo", model={"model_name_or_path": "ada/adapter"}, lora=lora, train={"max_steps": 2})
        job = make_job(values, pairs(20), f"20261121-00155{number}-dpo-bbbb").launch(offline=False)
        environ = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        environ.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "codex_space.work", str(job.dir.root)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        named = json.loads((job.dir.checkpoint(2) / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert named == ("ada/base" if "continue_adapter" in lora else "ada/adapter")


def test_an_adapter_from_a_folder_is_a_base_and_the_reference(make_job, tmp_path):
    first = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert first.run() == 0, first.sentence
    folder = tmp_path / "somewhere" / "adapter"
    shutil.copytree(first.dir.checkpoint(5), folder)
    shutil.copytree(first.dir.base, folder.parent / "base")
    job = make_job(recipe("dpo", model={"model_name_or_path": str(folder)}), pairs(), OTHER_ID)
    assert job.run() == 0, job.sentence
    # the reference is the tuned model, so nothing is preferred yet at the first step
    assert job.curve("rewards/margins")[0][1] == pytest.approx(0, abs=1e-4)
    assert json.loads((job.dir.checkpoint(12) / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder
    )
    assert (job.dir.base / "model.safetensors").is_file()


def test_dpo_starts_from_a_tuned_run_and_compares_with_it(make_job):
    first = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert first.run() == 0, first.sentence
    ref = f"run:{RUN_ID}"
    job = make_job(recipe("dpo", model={"model_name_or_path": ref}), pairs(), OTHER_ID)
    assert job.run(references={ref: str(first.dir.checkpoint(5))}) == 0, job.sentence
    assert job.curve("rewards/margins")[0][1] == pytest.approx(0, abs=1e-4)
    assert job.curve("rewards/margins")[-1][1] > 0.01
    config = json.loads((job.dir.checkpoint(12) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"{ref}@step-5"


@pytest.mark.parametrize("kind", ["sft", "dpo", "kto", "orpo"])
def test_an_adapter_is_trained_on_and_stays_one_of_its_own_base(make_job, kind):
    first = make_job(sft_recipe(train={"max_steps": 5}), chat_rows())
    assert first.run() == 0, first.sentence
    ref = f"run:{RUN_ID}"
    values = recipe(kind, model={"model_name_or_path": ref}, lora={"continue_adapter": True})
    job = make_job(values, chat_rows() if kind == "sft" else pairs(), OTHER_ID)
    assert job.run(references={ref: str(first.dir.checkpoint(5))}) == 0, job.sentence
    if kind == "dpo":
        assert job.curve("rewards/margins")[0][1] == pytest.approx(0, abs=1e-4)
        assert job.curve("rewards/margins")[-1][1] > 0.01
    folder = job.dir.checkpoint(12)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "fresh:tiny"
    assert not (folder / "ref").exists()
    assert set(trained(job, 12)) == set(trained(first, 5)), "one adapter, of the parent's shape"
    whole = (folder / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(first.dir.root)  # nothing of the parent is needed any more
    shutil.rmtree(folder)
    assert job.resume() == 0, job.sentence
    assert (folder / "adapter_model.safetensors").read_bytes() == whole
    from codex_space.work.chat import Talker

    Talker(str(folder))


def test_a_base_that_is_no_adapter_cannot_be_continued(make_job):
    job = make_job(recipe("dpo", lora={"continue_adapter": True}), pairs())
    assert job.run() == 1
    assert "the base model is no adapter" in job.sentence
    job = make_job(recipe("dpo", lora={"continue_adapter": True, "r": 4}), pairs(), OTHER_ID)
    assert job.run() == 1
    assert "leave lora.r out" in job.sentence


def test_an_adapter_of_another_model_is_refused(make_job, tmp_path):
    first = make_job(sft_recipe(train={"max_steps": 1}), chat_rows())
    assert first.run() == 0, first.sentence
    folder = tmp_path / "elsewhere" / "adapter"
    shutil.copytree(first.dir.checkpoint(1), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))
    shutil.copytree(first.dir.base, folder.parent / "base")
    job = make_job(recipe("dpo", model={"model_name_or_path": str(folder)}), pairs(), OTHER_ID)
    assert job.run() == 1
    assert "does not fit" in job.sentence
