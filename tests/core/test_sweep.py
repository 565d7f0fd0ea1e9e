"""Grids of recipes: every point once, in order, each a recipe that stands by itself; what is no grid is one sentence."""

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.recipe import parse_recipe
from codex_space.core.sweep import MAX_RUNS, expand

BASE = "kind: sft\nname: try\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: 'sample:python-first-chat'}]\n"


def test_a_recipe_without_a_sweep_is_itself():
    (text,) = expand(BASE, ["train.max_steps=3"])
    assert parse_recipe(text) == parse_recipe(BASE, ["train.max_steps=3"])


def test_every_point_of_the_grid_is_a_recipe_named_after_its_values():
    texts = expand(BASE + "lora: {r: 4}\nsweep: {train.learning_rate: [1e-4, 0.001], lora.r: [8, 16]}\n")
    recipes = [parse_recipe(text) for text in texts]
    assert [recipe.lora.r for recipe in recipes] == [8, 16, 8, 16]
    assert [float(recipe.train["learning_rate"]) for recipe in recipes] == [1e-4, 1e-4, 1e-3, 1e-3]
    assert recipes[1].name == "try learning_rate 1e-4 r 16"
    assert len({recipe.name for recipe in recipes}) == 4
    assert all("sweep" not in text for text in texts)


def test_an_override_may_bring_the_sweep_and_values_of_any_kind():
    texts = expand(BASE, ["sweep={lora: [null, {r: 4}], train.packing: [true]}"])
    assert [parse_recipe(text).lora is None for text in texts] == [True, False]
    assert all(parse_recipe(text).train["packing"] is True for text in texts)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("[]", "no mapping"),
        ("{}", "no mapping"),
        ("{lora.r: 8}", "no mapping"),
        ("{lora.r: []}", "no mapping"),
        ("{lora.q: [1, 2]}", "unknown key"),
        ("{kind.x: [1]}", "does not lead to a key"),
        ("{lora.r: [0]}", "lora.r"),
        (f"{{seed: {list(range(MAX_RUNS + 1))}}}", "65 runs"),
    ],
)
def test_what_is_no_grid_is_refused(sweep, said):
    with pytest.raises(RecipeError) as caught:
        expand(BASE + f"sweep: {sweep}\n")
    assert said in str(caught.value)
