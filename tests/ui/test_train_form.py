"""What goes from the Train tab's fields into the text: only what a person typed, and only where it has a place."""

import json
from dataclasses import fields, replace

import gradio as gr
import pytest

from codex_space.core.presets import list_presets, read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.ui.tabs.train_form import FormFields, form_values, layout_form, read_edits
from codex_space.ui.views.form import read_form, write_form

TINY, DPO = read_recipe_text("sft/tiny-cpu"), read_recipe_text("dpo/tiny-cpu")


def values_of(text, **typed):
    form = read_form(text)
    return [typed.get(known.name, getattr(form, known.name)) for known in fields(FormFields)]


def through_the_browser(component, value):
    return component.preprocess(json.loads(json.dumps(component.postprocess(value))))


@pytest.mark.parametrize("name", [preset.name for preset in list_presets() if not preset.name.startswith("evaluate/")])
def test_a_form_nobody_touched_changes_nothing(ctx, name):
    text = read_recipe_text(name)
    with gr.Blocks():
        components = layout_form(ctx, text).components
    back = [through_the_browser(*pair) for pair in zip(components, values_of(text), strict=True)]
    assert read_edits(text, text, back) == {}


def test_what_was_typed_is_told_from_what_the_text_changed_meanwhile():
    newer = TINY.replace("max_length: 512", "max_length: 256")
    assert newer != TINY
    assert read_edits(newer, TINY, values_of(TINY, batch=3, name=" mine ")) == {"batch": 3, "name": "mine"}


def test_what_the_text_has_no_place_for_any_more_is_dropped():
    typed = values_of(DPO, beta=0.7, batch=3)
    assert read_edits(DPO, DPO, typed) == {"beta": 0.7, "batch": 3}
    assert read_edits(TINY, DPO, typed) == {"batch": 3}


def test_a_field_the_text_did_not_change_is_left_to_who_types_in_it(ctx):
    before, after = read_form(TINY), read_form(TINY.replace("max_length: 512", "max_length: 256"))
    names = [known.name for known in fields(FormFields)]
    told = dict(zip(names, form_values(ctx, after, before), strict=True))
    assert told["max_length"]["value"] == 256
    assert [name for name in names if "value" in told[name]] == ["max_length"]


def test_the_types_to_export_are_one_field_and_two_keys():
    wanted = write_form(TINY, replace(read_form(TINY), export_types=["Q8_0", "F16"]))
    recipe = parse_recipe(wanted)
    assert recipe.export_after.gguf == ["Q8_0", "F16"]
    assert read_form(wanted).export_types == ["Q8_0", "F16"]
    assert read_form(TINY + "after: [export]\n").export_types == ["Q8_0", "Q4_K_M"], "what it means without a list"
    assert parse_recipe(write_form(wanted, replace(read_form(wanted), export_types=[]))) == parse_recipe(TINY)


def test_another_change_leaves_an_export_with_settings_of_its_own_as_it_is():
    text = TINY + "after: [export]\nexport: {gguf: [IQ2_XS], imatrix: true, system: Be brief.}\n"
    changed = write_form(text, replace(read_form(text), batch=3))
    assert parse_recipe(changed).export_after == parse_recipe(text).export_after
    fewer = write_form(text, replace(read_form(text), export_types=["Q8_0"]))
    assert parse_recipe(fewer).export_after.system == "Be brief."


def test_what_is_no_list_of_types_does_not_break_the_form():
    for odd in ("after: export\nexport: 3\n", "after: [export]\nexport: {gguf: Q8_0}\n", "after: {export: 1}\n"):
        assert read_form(TINY + odd).export_types in ([], ["Q8_0", "Q4_K_M"])


def test_the_method_of_a_tokenizer_is_a_field_and_the_usual_one_is_not_written():
    text = "kind: tokenizer\nvocab_size: 2048\ndatasets:\n- path: a.jsonl\n"
    form = read_form(text)
    assert form.tokenizer_method == "byte_bpe"
    assert write_form(text, form) == write_form(text, read_form(text))
    changed = write_form(text, replace(form, tokenizer_method="sentencepiece_unigram"))
    assert parse_recipe(changed).method == "sentencepiece_unigram"
    assert read_form(changed).tokenizer_method == "sentencepiece_unigram"
    assert "method" not in write_form(text, replace(form, vocab_size=1024))
    assert read_form("kind: sft").tokenizer_method is None
