"""The dial, what it costs, a blend's shares and packed text, without a browser."""

import json
from dataclasses import replace

import pytest

from codex_space.core.dial import MAX_DEPTH, MIN_DEPTH, turn
from codex_space.core.errors import DataError, ModelError
from codex_space.core.recipe import parse_recipe
from codex_space.services import pretraining
from codex_space.services.pretraining import Choice
from codex_space.ui.views import pretrain as view

LIBRARY = ("builtin:python-stdlib",)


@pytest.mark.parametrize("style", ["llama", "starcoder2"])
def test_the_dial_makes_recipes_that_hold_and_grow_with_it(ctx, style):
    before = 0
    for depth in range(MIN_DEPTH, MAX_DEPTH + 1, 2):
        dial = turn(depth, 32768, style=style)
        assert dial.shape.num_parameters > before
        before = dial.shape.num_parameters
        assert dial.shape.num_heads % (dial.shape.key_size // (dial.shape.query_size // dial.shape.num_heads)) == 0
        assert dial.tokens >= 20 * dial.shape.num_parameters
        text = pretraining.plan(ctx, Choice(depth, style, 20, "fresh:bpe", LIBRARY)).text
        assert parse_recipe(text).kind == "pretrain"


def test_the_budget_names_every_machine_with_its_hours_and_dollars(ctx):
    plan = pretraining.plan(ctx, Choice(20, "llama", 20, "fresh:bpe", LIBRARY))
    told = view.render_budget(pretraining.budget(ctx, plan.text))
    assert "l4x1" in told
    assert "a100-large" in told
    assert "$" in told
    assert "hours" in told
    assert ", measured" not in told
    measured = replace(
        pretraining.budget(ctx, plan.text)[0], hours=2.0, fits=True, is_measured=True, notes=["<b> a second"]
    )
    assert "about 2.0 hours, measured" in view.render_budget([measured])
    assert "&lt;b&gt; a second." in view.render_measured(measured)
    told = view.render_dial(plan.dial)
    assert "20 layers, 1,280 wide, 10 heads" in told


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("0.7", "1 shares for 2 sources"),
        ("0.7, 0.7", "add up to 1.4"),
        ("a, b", "no numbers"),
        ("70, 20", "add up to 90"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, said):
    with pytest.raises(DataError, match=said):
        pretraining.blend(("a", "b"), shares)


def test_shares_may_be_percent_and_none_takes_all():
    assert pretraining.blend(("a", "b"), "70, 30%") == [{"path": "a", "share": 0.7}, {"path": "b", "share": 0.3}]
    assert pretraining.blend(("a",), " ") == [{"path": "a"}]
    with pytest.raises(DataError, match="no text is chosen"):
        pretraining.blend((), "")


def test_packed_text_is_shown_with_where_each_text_ends(ctx, tmp_path):
    from codex_space.work.vocabularies import learn

    learn(["def f(x):\n    return x\n"] * 3, 280).save_pretrained(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"x = {n}\n<b>"}) + "\n" for n in range(30)))
    choice = Choice(4, "llama", 20, str(tmp_path), (str(rows),))
    told = view.render_look(pretraining.look(ctx, choice, 40))
    assert "x = 0" in told
    assert "\N{BLACK SQUARE FOR STOP}" in told
    assert "<b>" not in told
    with pytest.raises(DataError, match="there is no such row"):
        pretraining.look(ctx, choice, 40, 1000)
    with pytest.raises(DataError, match="learnt when the run starts"):
        pretraining.look(ctx, Choice(4, "llama", 20, "fresh:bpe", (str(rows),)), 40)


def test_a_tokenizer_that_is_not_here_is_named(ctx):
    with pytest.raises(ModelError, match="not on this machine"):
        pretraining.plan(ctx, Choice(4, "llama", 20, "someone/tokenizer", LIBRARY))
