"""The Train tab's fields as a window on the recipe text: what is read, what one change writes, what is refused."""

from dataclasses import replace

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.presets import list_presets, read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.core.yaml_text import parse_yaml
from codex_space.services.checks import Check
from codex_space.ui.views import form, settings, train

PRESETS = [preset.name for preset in list_presets()]
TINY = read_recipe_text("sft/tiny-cpu")
HOSTILE = "<img src=x onerror=alert(1)>"


def changed(text, **values):
    return form.write_form(text, replace(form.read_form(text), **values))


@pytest.mark.parametrize("name", PRESETS)
def test_reading_a_shipped_recipe_and_writing_it_back_changes_nothing(name):
    text = read_recipe_text(name)
    assert parse_recipe(form.write_form(text, form.read_form(text))) == parse_recipe(text)


def test_the_fields_show_what_the_recipe_says():
    shown = form.read_form(TINY)
    assert (shown.base, shown.datasets, shown.method, shown.lora_r) == (
        "fresh:tiny",
        ["sample:python-first-chat"],
        "lora",
        8,
    )
    assert (shown.length_unit, shown.length, shown.learning_rate, shown.batch, shown.max_length) == (
        "steps",
        20,
        "0.001",
        4,
        512,
    )


def test_the_trainers_default_shows_where_the_recipe_is_silent():
    shown = form.read_form("kind: sft\nmodel: {model_name_or_path: x/y}\ndatasets: [{path: a/b}]\n")
    assert (shown.length_unit, shown.length, shown.batch) == ("epochs", 3.0, 8)


def test_one_changed_field_changes_one_key():
    before, after = parse_yaml(TINY), parse_yaml(changed(TINY, learning_rate="5e-5"))
    assert after["train"].pop("learning_rate") == 5e-5
    assert before["train"].pop("learning_rate") == 1e-3
    assert after == before


def test_the_length_is_either_steps_or_epochs():
    epochs = parse_recipe(changed(TINY, length_unit="epochs", length=2.0)).train
    assert (epochs["num_train_epochs"], "max_steps" in epochs) == (2, False)
    steps = parse_recipe(changed(TINY, length=300.0)).train
    assert (steps["max_steps"], "num_train_epochs" in steps) == (300, False)


def test_full_lora_and_qlora_write_the_sections_they_need():
    full = parse_recipe(changed(TINY, method="full"))
    assert (full.lora, full.model.load_in_4bit) == (None, False)
    assert parse_recipe(changed(TINY, method="qlora")).model.load_in_4bit
    again = parse_recipe(changed(changed(TINY, method="full"), method="lora"))
    assert (again.lora.r, again.lora.lora_alpha) == (16, 32)


def test_an_emptied_field_takes_its_key_out():
    assert "learning_rate" not in parse_recipe(changed(TINY, learning_rate="")).train
    pushed = changed(TINY, repo_id="ada/tiny", keep_rows=True)
    assert parse_recipe(pushed).hub.keep_rows
    assert parse_recipe(changed(pushed, repo_id=" ")).hub is None


def test_several_datasets_keep_their_own_keys_and_get_shares():
    text = TINY.replace("  - path: sample:python-first-chat", "  - path: a/b\n    split: validation")
    two = parse_recipe(changed(text, datasets=["a/b", "c/d"], weights="0.7, 0.3"))
    assert [(one.path, one.split, one.weight) for one in two.datasets] == [
        ("a/b", "validation", 0.7),
        ("c/d", "train", 0.3),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", "nan"),
        ("batch", 1.5),
        ("name", HOSTILE),
        ("repo_id", "no-owner"),
        ("lora_r", 0),
        ("lora_r", -4),
        ("holdout_percent", 90),
    ],
)
def test_a_wrong_value_stays_in_the_text_and_the_recipe_names_it(field, value):
    text = changed(TINY, **{field: value})
    with pytest.raises(RecipeError):
        parse_recipe(text)


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [", "kind: sft\nkind: sft", "x" * 200_001, "just words"])
def test_a_text_that_is_no_mapping_is_refused_with_a_sentence(text):
    with pytest.raises(RecipeError):
        form.read_form(text)


@pytest.mark.parametrize(
    "text",
    [
        "kind: sft",
        "kind: 7",
        "kind: sft\nmodel: 5\ndatasets: 3\ntrain: [1]\nlora: yes\nhub: x",
        "kind: sft\ndatasets: [5, null]",
        "kind: pretrain\narchitecture: {a: 1}",
    ],
)
def test_a_mapping_that_is_no_recipe_yet_can_still_be_shown(text):
    assert form.read_form(text).datasets == []


def test_settings_cover_the_sections_and_every_field_of_the_trainer():
    paths = [one["path"] for one in settings.settings_of("sft")]
    assert {"seed", "lora.r", "model.dtype", "checkpoints.keep_best", "train.weight_decay"} <= set(paths)
    assert len(paths) == len(set(paths))
    assert all(one["help"] for one in settings.settings_of("sft"))
    assert settings.settings_of("nonsense") == []


def test_settings_the_program_owns_are_not_offered():
    assert "train.push_to_hub" not in [one["path"] for one in settings.settings_of("sft")]


def test_what_differs_from_the_recipe_is_named_and_can_be_put_back():
    text = settings.put_setting(TINY, "train.weight_decay", "0.1")
    text = settings.put_setting(text, "lora.r", "32")
    assert settings.changed_settings(text, TINY) == [
        {"path": "lora.r", "now": 32, "was": 8},
        {"path": "train.weight_decay", "now": 0.1, "was": None},
    ]
    for path in ("lora.r", "train.weight_decay"):
        text = settings.reset_setting(text, TINY, path)
    assert settings.changed_settings(text, TINY) == []


def test_a_setting_that_is_no_yaml_is_refused():
    with pytest.raises(RecipeError, match=r"train\.optim"):
        settings.put_setting(TINY, "train.optim", "[a")


def test_readiness_says_ready_or_names_what_stands_in_the_way():
    good, bad, open_ = Check(True, "Data", "fine"), Check(False, "Hub", HOSTILE, "Fix it."), Check(None, "Disk", "?")
    assert "Ready</h3>" in train.render_readiness([good, open_])
    shown = train.render_readiness([good, bad])
    assert "Not ready: hub" in shown
    assert "<img" not in shown
    assert (train.is_ready([good, open_]), train.is_ready([good, bad])) == (True, False)


def test_the_effective_batch_is_said_in_rows_and_tokens():
    assert "<b>4 rows</b>, at most 2,048 tokens" in train.render_batch(form.read_form(TINY))
    assert train.render_batch(form.read_form(read_recipe_text("tokenizer/tiny-cpu"))) == ""


def test_every_shipped_recipe_is_offered_once_tuning_first():
    choices = train.preset_choices(list_presets())
    assert sorted(name for _, name in choices) == sorted(
        name for name in PRESETS if not name.startswith(("evaluate/", "export/"))
    )
    assert [name.partition("/")[0] for _, name in choices] == sorted(
        (name.partition("/")[0] for _, name in choices), key=list(train.GROUPS).index
    )
