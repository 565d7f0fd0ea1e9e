"""What the Train tab says a run needs, without a browser."""

from dataclasses import replace

import pytest

from codex_space.core.errors import ModelError
from codex_space.core.estimate import estimate
from codex_space.core.hardware import find_hardware
from codex_space.core.presets import read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.core.shapes import read_shape, shipped_configs
from codex_space.ui.views import estimate as view

BASE = "Qwen/Qwen2.5-Coder-7B"


def found(*overrides):
    recipe = parse_recipe(read_recipe_text("sft/qwen2.5-coder-7b-qlora"), ["train.max_steps=200", *overrides])
    return estimate(recipe, read_shape(shipped_configs()[BASE], BASE), find_hardware("l4x1"), None)


def test_what_fits_is_told_with_memory_time_money_and_disk():
    shown = view.render_estimate(found())
    for text in (
        "Fits: peak about",
        "of 22.0 GiB",
        "l4x1 (L4, 22 GiB)",
        "about",
        "$",
        "disk",
        "Weights",
        "Activations",
    ):
        assert text in shown
    assert "Reference model" not in shown  # nothing of a size is left out, nothing without one is shown
    assert 'data-state=succeeded><i style="width:3' in shown


def test_what_does_not_fit_is_told_in_words_and_fills_the_bar():
    shown = view.render_estimate(found("train.per_device_train_batch_size=256"))
    assert "Does not fit: peak about" in shown
    assert "width:100%" in shown


def test_hours_not_known_leave_money_out():
    shown = view.render_estimate(replace(found(), hours=None, usd=None, notes=["<b> is not known"]))
    assert "$" not in shown
    assert "&lt;b&gt; is not known." in shown


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.01, "about a minute"), (0.5, "about 30 minutes"), (3.26, "about 3.3 hours"), (1e4, "about 10,000.0 hours")],
)
def test_a_time_reads_in_its_best_unit(hours, text):
    assert view.render_hours(hours) == text


def test_why_nothing_is_known_is_escaped():
    assert "&lt;script&gt;" in view.render_unknown(ModelError("<script>"))


def test_this_machine_comes_first_and_each_flavour_has_its_price():
    choices = view.hardware_choices()
    assert choices[0] == ("this machine", "this")
    assert ("l4x1 (L4, 22 GiB), $0.80 an hour", "l4x1") in choices
