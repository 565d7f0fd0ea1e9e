"""Prompt forms as the benchmarks' own recipes write them, and a protocol that says all a score depends on."""

import json
from typing import get_args

import pytest

from codex_space.core.errors import EvaluationError
from codex_space.core.sections import PromptForm
from codex_space.grade.protocol import CHAT_STOPS, COMPLETION_STOPS, PROMPT_FORMS, Asked, Protocol, ask

PROBLEM = {
    "task_id": "t/0",
    "prompt": '\n\ndef add(a, b):\n    """Add {x}."""\n',
    "request": "Write a function to add.",
    "text": "Write a function to add. ",
    "first_test": "assert add(1, 2) == 3",
}


def protocol(**more):
    fixed = {
        "prompt_form": "completion",
        "extraction": "prompt and completion",
        "stops": COMPLETION_STOPS,
        "max_new_tokens": 512,
        "dataset_version": "humaneval (openai, sha256 8d1f)",
    }
    return Protocol(**(fixed | more))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("completion", Asked('\n\ndef add(a, b):\n    """Add {x}."""\n')),
        ("completion-stripped", Asked('def add(a, b):\n    """Add {x}."""\n')),
        ("request", Asked("Write a function to add.", chat=True)),
        ("request-begun", Asked("Write a function to add.", '\n\ndef add(a, b):\n    """Add {x}."""\n', chat=True)),
        (
            "chat",
            Asked(
                "Please provide a self-contained Python script that solves the following problem in a markdown code "
                'block:\n```\ndef add(a, b):\n    """Add {x}."""\n```\n',
                "Below is a Python script with a self-contained function that solves the problem and passes "
                "corresponding tests:\n```python\n",
                chat=True,
            ),
        ),
    ],
)
def test_each_form_asks_as_its_source_does(form, expected):
    assert ask(form, PROBLEM) == expected


def test_forms_without_a_prefill_have_none():
    assert ask("chat-no-prefill", PROBLEM).prefill == ""
    assert all(ask(form, PROBLEM).chat == ("completion" not in form) for form in PROMPT_FORMS)


def test_an_unknown_form_and_a_missing_field_are_named():
    with pytest.raises(EvaluationError, match=r"no prompt form is named 'chatty'\. Known: completion, "):
        ask("chatty", PROBLEM)
    with pytest.raises(EvaluationError, match=r"^t/1: the prompt form 'request' needs the field 'request'"):
        ask("request", {"task_id": "t/1", "prompt": ""})


def test_the_line_holds_every_field():
    assert protocol().line() == (
        "humaneval (openai, sha256 8d1f); prompt: completion; template: none; greedy; at most 512 new tokens; "
        "8 stop strings ('\\ndef ' '\\nclass ' '\\nimport ' '\\nfrom ' '\\nassert ' '\\nif __name__' '\\ndef main(' "
        "'\\nprint('); extraction: prompt and completion"
    )
    sampled = protocol(
        prompt_form="chat", stops=CHAT_STOPS, template_hash="ab12", num_samples=20, temperature=0.2, top_p=0.95, seed=3
    )
    assert "prompt: chat; template: ab12; temperature 0.2, top-p 0.95, 20 samples a problem, seed 3; " in sampled.line()
    assert "no stop string" in protocol(stops=()).line()
    assert "\n" not in sampled.line()


def test_the_dict_is_json_and_holds_every_field():
    found = json.loads(json.dumps(protocol().as_dict()))
    assert found["stops"] == list(COMPLETION_STOPS)
    assert Protocol(**(found | {"stops": tuple(found["stops"])})) == protocol()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt_form": "shout"}, "no prompt form"),
        ({"stops": ("\ndef ", "")}, "empty stop string"),
        ({"max_new_tokens": 0}, "at least one"),
        ({"num_samples": 0}, "at least one"),
        ({"temperature": -1.0}, "cannot be sampled"),
        ({"top_p": 0.0, "temperature": 0.5}, "cannot be sampled"),
        ({"num_samples": 5}, "5 greedy samples are all the same"),
    ],
)
def test_a_protocol_that_cannot_be_run_is_refused(more, said):
    with pytest.raises(EvaluationError, match=said):
        protocol(**more)


def test_the_recipe_knows_the_very_forms_there_are():
    assert {"auto", *PROMPT_FORMS} == set(get_args(PromptForm))
