"""What the Evaluate tab says around the press: benchmarks, how many problems, one run a double click, hostile names."""

import dataclasses

import pytest

from codex_space.core.errors import RecipeError
from codex_space.services import runs
from codex_space.ui.views import evaluate

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
RECIPE = "kind: sft\nname: one\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
KNOWN = [
    {"name": "first-steps", "title": "First steps", "about": "60 problems of our own", "num_problems": 60},
    {"name": "mbpp", "title": "MBPP", "about": HOSTILE, "num_problems": None},
    {"name": "big", "title": HOSTILE, "about": "", "num_problems": 12_345},
]


@pytest.fixture
def run(ctx):
    return dataclasses.replace(runs.submit(ctx, RECIPE), kind="evaluate")


def test_benchmarks_are_offered_with_their_size_where_it_is_known():
    assert evaluate.choices_of(KNOWN) == [
        ("First steps · 60 problems", "first-steps"),
        ("MBPP", "mbpp"),
        (f"{HOSTILE} · 12,345 problems", "big"),  # a menu's label: Gradio shows it as text
    ]
    assert evaluate.choices_of([]) == []


def test_a_benchmark_is_told_in_one_sentence_that_is_never_markup():
    assert "60 problems of our own" in evaluate.render_about(KNOWN, "first-steps")
    assert "<img" not in evaluate.render_about(KNOWN, "mbpp")


@pytest.mark.parametrize("name", ["big", "", None, "nothing", HOSTILE])
def test_a_benchmark_with_nothing_to_tell_leaves_no_empty_line(name):
    assert evaluate.render_about(KNOWN, name) == ""


@pytest.mark.parametrize(
    ("text", "limit"),
    [("all", None), (" ALL ", None), ("", None), ("   ", None), ("1", 1), (" 20\n", 20), ("007", 7), ("164", 164)],
)
def test_all_or_a_number_of_problems(text, limit):
    assert evaluate.read_limit(text) == limit


@pytest.mark.parametrize(
    "text",
    ["0", "000", "-1", "+5", "1.5", "1e3", "twenty", "all 20", "١٢", "²", "0x10", "1_000", "9" * 5000, HOSTILE, "a\0b"],
)
def test_anything_else_is_refused_in_words_that_stay_short(text):
    with pytest.raises(RecipeError) as caught:
        evaluate.read_limit(text)
    assert caught.value.cure
    assert len(str(caught.value)) < 200


def test_after_the_press_the_run_is_named_and_linked(run):
    shown = evaluate.render_started(run)
    assert f"href='#evaluate/{run.id}'" in shown
    assert "one is in the queue" in shown
    assert "one has been started already" in evaluate.render_started(dataclasses.replace(run, state="running"))
    hostile = evaluate.render_started(dataclasses.replace(run, name=HOSTILE, id=HOSTILE))
    assert "<img" not in hostile
    assert "'#evaluate/&lt;img" in hostile
