"""Flat TRL files and the older codex.json become recipes, with a word about each key."""

import json

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.flat_config import _PLACES, import_flat
from codex_space.core.recipe import validate
from codex_space.core.train_fields import OWNED

CODEX_JSON = {
    "model_name_or_path": "bigcode/codellama-70b-instruct",
    "train_file": "train.jsonl",
    "validation_file": "valid.jsonl",
    "output_dir": "out",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-4,
    "precision": "fp16",
    "push_to_hub": True,
    "hub_repo_id": "org/name",
    "hub_token": "__token__",
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05},
}


def imported(tmp_path, flat, name="codex.json"):
    path = tmp_path / name
    path.write_text(json.dumps(flat) if isinstance(flat, dict) else flat)
    return import_flat(path)


def test_the_older_codex_json_becomes_a_recipe(tmp_path):
    found = imported(tmp_path, CODEX_JSON)
    recipe = validate(found.values)
    assert recipe.model.model_name_or_path == "bigcode/codellama-70b-instruct"
    assert recipe.datasets[0].path == "train.jsonl"
    assert recipe.hub.repo_id == "org/name"
    assert (recipe.lora.r, recipe.lora.lora_alpha) == (16, 32)
    assert recipe.train["fp16"] is True
    assert recipe.train["gradient_accumulation_steps"] == 2
    assert recipe.validation.dataset.path == "valid.jsonl"


def test_a_token_in_a_flat_file_is_left_out_and_said(tmp_path):
    found = imported(tmp_path, {**CODEX_JSON, "hub_token": "hf_verysecret"})
    assert "hf_verysecret" not in json.dumps(found.values) + " ".join(found.notes)
    assert any(note.startswith("hub_token: left out") for note in found.notes)


def test_renamed_and_unknown_keys_are_said_line_by_line(tmp_path):
    text = "model_name_or_path: a/b\ndataset_name: c/d\nevaluation_strategy: steps\nfrobnicate: 1\nuse_peft: true\n"
    found = imported(tmp_path, text, "trl.yaml")
    notes = "\n".join(found.notes)
    assert "evaluation_strategy: became train.eval_strategy" in notes
    assert "frobnicate: refused, unknown" in notes
    assert "lora" in found.values


DPO = "model_name_or_path: a/b\ndataset_name: c/d\nbeta: 0.2\n"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (DPO, "dpo", "kind: taken as dpo, because of beta; kto and orpo have it too"),
        (DPO + "kind: orpo\n", "orpo", ""),
        ("# trl kto --config my.yaml\n" + DPO, "kto", ""),
        (DPO + "desirable_weight: 1.2\n", "kto", "because of beta, desirable_weight"),
        (DPO + "loss_weights: [1.0]\n", "dpo", "because of beta, loss_weights"),
        ("model_name_or_path: a/b\ndataset_name: c/d\ncenter_rewards_coefficient: 0.01\n", "reward", "taken as reward"),
        ("model_name_or_path: a/b\ndataset_name: c/d\nlora_task_type: SEQ_CLS\n", "reward", "lora_task_type: left out"),
        ("model_name_or_path: a/b\ndataset_name: c/d\n", "sft", "none is named, so no rows are held out"),
    ],
)
def test_the_kind_is_read_from_the_file_its_command_or_its_keys(tmp_path, text, kind, said):
    found = imported(tmp_path, text, "trl.yaml")
    assert validate(found.values).kind == kind
    assert said in "\n".join(found.notes)


@pytest.mark.parametrize("kind", ["grpo", "pretrain", "Sft"])
def test_a_kind_that_is_none_of_these_is_refused(tmp_path, kind):
    with pytest.raises(RecipeError, match="cannot be read"):
        imported(tmp_path, f"kind: {kind}\n{DPO}", "trl.yaml")


@pytest.mark.parametrize(
    "key", [*OWNED, "overwrite_output_dir", "push_to_hub", "no_cuda", "push_to_hub_token", "precision"]
)
def test_no_key_is_dropped_without_a_word(tmp_path, key):
    flat = {"model_name_or_path": "a/b", "dataset_name": "c/d", key: True}
    notes = imported(tmp_path, flat, "x.json").notes if key not in _PLACES else [key]
    assert any(key in note for note in notes)


@pytest.mark.parametrize(
    ("given", "train", "said"),
    [
        ("fp16", {"fp16": True}, "became train.fp16: true"),
        ("bf16-mixed", {"bf16": True}, "became train.bf16: true"),
        ("fp32", {"bf16": False}, "became train.bf16: false"),
        (32, {"bf16": False}, "became train.bf16: false"),
        ("int8", {}, "refused, 'int8' is not known"),
    ],
)
def test_precision_means_what_it_says(tmp_path, given, train, said):
    flat = {"model_name_or_path": "a/b", "dataset_name": "c/d", "precision": given}
    found = imported(tmp_path, flat, "x.json")
    assert validate(found.values).train == train
    assert said in "\n".join(found.notes)


@pytest.mark.parametrize(
    ("changes", "lora"),
    [
        ({"use_peft": True}, {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05}),
        (
            {"use_peft": True, "lora_r": 4, "lora_target_modules": ["all-linear"]},
            {"r": 4, "target_modules": "all-linear"},
        ),
        ({"use_peft": True, "lora_target_modules": [r"(.*\.)?q_proj"]}, {"target_modules": ["q_proj"]}),
        ({"use_peft": True, "lora_target_modules": [r".*_proj"]}, {"target_modules": ".*_proj"}),
        ({"use_peft": False, "lora_r": 4}, None),
    ],
)
def test_lora_keys_mean_what_trl_makes_of_them(tmp_path, changes, lora):
    flat = {"model_name_or_path": "a/b", "dataset_name": "c/d", **changes}
    section = validate(imported(tmp_path, flat, "x.json").values).lora
    assert (section is None) == (lora is None)
    for name, value in (lora or {}).items():
        assert getattr(section, name) == value


def test_a_mixture_and_a_test_split_become_datasets_of_their_own(tmp_path):
    mixed = [{"path": "c/d", "split": "train", "fraction": 0.5}, {"path": "json", "data_files": "x.jsonl"}]
    found = imported(tmp_path, {"model_name_or_path": "a/b", "datasets": mixed, "test_split_size": 0.1}, "x.json")
    recipe = validate(found.values)
    assert [section.path for section in recipe.datasets] == ["c/d", "x.jsonl"]
    assert recipe.validation.fraction == 0.1
    assert any("fraction of c/d left out" in note for note in found.notes)
    split = {"model_name_or_path": "a/b", "dataset_name": "c/d", "dataset_config": "e", "dataset_test_split": "test"}
    held = validate(imported(tmp_path, split, "x.json").values).validation.dataset
    assert (held.path, held.name, held.split) == ("c/d", "e", "test")


def test_what_says_that_a_machine_has_no_gpu_is_left_out(tmp_path):
    flat = {"model_name_or_path": "a/b", "dataset_name": "c/d", "use_cpu": True, "bf16": False, "dtype": "float32"}
    found = imported(tmp_path, {**flat, "env": {"OMP_NUM_THREADS": "2", "X": "1"}}, "x.json")
    recipe = validate(found.values)
    assert (recipe.train, recipe.model.dtype, recipe.launch.num_threads) == ({}, "auto", 2)
    notes = "\n".join(found.notes)
    assert "the machine decides, and with it dtype, bf16" in notes
    assert "env: X left out" in notes
    on_a_gpu = imported(tmp_path, {**flat, "use_cpu": False}, "x.json").values
    assert (on_a_gpu["train"], on_a_gpu["model"]["dtype"]) == ({"bf16": False}, "float32")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("{", "x.json", "not JSON"),
        ("[1]", "x.json", "one JSON object"),
        ("a: [", "x.yaml", "not YAML"),
        ("model_name_or_path: a/b\n", "x.yaml", "no dataset is named"),
        ("dataset_name: a/b\n", "x.yaml", "missing"),
    ],
)
def test_a_flat_file_that_says_too_little_is_refused(tmp_path, text, name, said):
    with pytest.raises(RecipeError, match=said):
        imported(tmp_path, text, name)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        import_flat(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("given", "to", "said"),
    [
        ("tensorboard", ["tensorboard"], "became track.to"),
        (["wandb", "comet_ml"], ["wandb"], "comet_ml left out"),
        ("none", None, ""),
        (["none"], None, ""),
        (None, None, ""),
    ],
)
def test_where_curves_were_to_go_becomes_the_track_section(tmp_path, given, to, said):
    found = imported(tmp_path, {**CODEX_JSON, "report_to": given})
    section = validate(found.values).track
    assert (section and section.to) == to
    assert said in " ".join(found.notes)
