"""The card says what the model is, the same each time, and nothing about this machine."""

import pytest
import yaml

from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.paths import MANIFEST
from codex_space.core.recipe import parse_recipe
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.hub.cards import render_card
from codex_space.hub.manifest import Manifest, parse_manifest
from tests.fakes.checkpoints import RECIPE, write_checkpoint


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    folder = write_checkpoint(tmp_path / "checkpoint-30", 30)
    return parse_manifest((folder / MANIFEST).read_text(), "here")


def card(text: str, manifest: Manifest) -> tuple[dict, str]:
    recipe = parse_recipe(text)
    assert isinstance(recipe, TrainingRecipe)
    page = render_card(recipe, manifest, repo_id="ada/model", recipe_text=share_recipe(text))
    _, front, body = page.split("---\n", 2)
    return yaml.safe_load(front), body


def test_an_adapter_names_its_base_model_and_how_to_load_it(manifest: Manifest) -> None:
    front, body = card(RECIPE, manifest)
    assert front["base_model"] == "ada/base"
    assert front["library_name"] == "peft"
    assert front["pipeline_tag"] == "text-generation"
    assert front["tags"] == ["codex-space", "sft", "lora"]
    assert 'AutoPeftModelForCausalLM.from_pretrained("ada/model", revision="step-30")' in body
    assert "eval_loss | 0.0322581" in body


def test_a_full_model_is_loaded_with_transformers(manifest: Manifest) -> None:
    files = {"model.safetensors": manifest.files["tokenizer.json"]}
    full = Manifest("r", 3, "sft", "", {}, (), files)
    front, body = card(RECIPE, full)
    assert front["library_name"] == "transformers"
    assert "from transformers import AutoModelForCausalLM, AutoTokenizer" in body
    assert "| Metric" not in body


def test_a_reward_model_is_said_to_score_and_loads_as_such(manifest: Manifest) -> None:
    text = RECIPE.replace("kind: sft", "kind: reward").replace("python-first-chat", "python-preferences")
    front, body = card(text, manifest)
    assert front["pipeline_tag"] == "text-classification"
    assert front["tags"] == ["codex-space", "reward", "lora"]
    assert "it is not for chatting" in body
    assert (
        'AutoPeftModelForSequenceClassification.from_pretrained("ada/model", revision="step-30", num_labels=1)' in body
    )


def test_only_hub_datasets_are_named_as_such(manifest: Manifest) -> None:
    text = RECIPE.replace("[{path: sample:python-first-chat}]", "[{path: bob/code}, {path: dataset:mine}]")
    front, _ = card(text, manifest)
    assert front["datasets"] == ["bob/code"]


def test_equal_input_gives_equal_text(manifest: Manifest) -> None:
    assert card(RECIPE, manifest) == card(RECIPE, manifest)


@pytest.mark.parametrize("path", ["/home/ada/secret-project/rows.jsonl", "~/rows.jsonl", "../x/rows.jsonl"])
def test_no_path_of_this_machine_is_told(manifest: Manifest, path: str) -> None:
    text = RECIPE.replace("sample:python-first-chat", path).replace("ada/base", "/srv/models/base")
    front, body = card(text, manifest)
    assert "base_model" not in front
    assert path not in body
    assert "/srv/models" not in body
    assert "rows.jsonl" in body


def test_a_windows_path_is_cut_too() -> None:
    text = "kind: sft\ndatasets: [{path: 'C:\\Users\\ada\\rows.jsonl'}]\n"
    assert share_recipe(text) == "kind: sft\ndatasets: [{path: 'rows.jsonl'}]\n"


def test_a_recipe_without_local_paths_stays_as_written() -> None:
    text = "# my comment\n" + RECIPE
    assert share_recipe(text) == text


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("org/name", True), ("org/name-1.5B", True), ("run:x/y", False), ("fresh:tiny", False), ("sample:a", False),
        ("/abs/path", False), ("./a/b", False), ("data/rows.jsonl", False), ("a/b/c", False), ("name", False),
        ("dataset:a", False), ("builtin:python-stdlib", False), ("C:\\a\\b", False),
    ],
)  # fmt: skip
def test_a_hub_id_is_told_from_other_references(reference: str, expected: bool) -> None:
    assert looks_like_repo_id(reference) is expected
