"""Flat TRL files and the older codex.json become recipes, with a word about each key."""

import json

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.flat_config import import_flat
from codex_space.core.recipe import validate

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
