"""The command line shown for a recipe stands for that very recipe."""

import shlex

import pytest

from codex_space.core.presets import list_presets, read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.services.commands import command_line


def parsed_again(command):
    if "<<'RECIPE'" in command:
        return parse_recipe(command.split("\n", 1)[1].removesuffix("RECIPE"))
    words = shlex.split(command)
    assert words[:2] == ["codex-space", "train"]
    return parse_recipe(read_recipe_text(words[2]), words[3:])


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_a_shipped_recipe_is_its_name_alone(preset):
    command = command_line(preset.text)
    assert parsed_again(command) == parse_recipe(preset.text)
    assert command == f"codex-space train {preset.name}"


def test_changed_fields_become_overrides_that_give_the_same_recipe():
    preset = read_recipe_text("sft/tiny-cpu")
    changed = parse_recipe(
        preset, ["name=my run", "train.learning_rate=3e-4", "lora.r=32", "datasets.0.path=it's here.jsonl"]
    )
    from codex_space.core.recipe import render_recipe

    assert parsed_again(command_line(render_recipe(changed))) == changed


def test_a_recipe_unlike_any_shipped_one_is_given_whole():
    text = "kind: sft\nmodel: {model_name_or_path: a/b}\ndatasets: [{path: x/y}]\ntrain: {packing: true}\n"
    assert parsed_again(command_line(text)) == parse_recipe(text)


def test_a_sweep_is_given_whole():
    text = "kind: sft\nmodel: {model_name_or_path: a/b}\ndatasets: [{path: x/y}]\nsweep: {lora.r: [4, 8]}\n"
    assert command_line(text) == f"codex-space train - <<'RECIPE'\n{text}RECIPE"
