"""How answers are shown: bare code keeps its lines and spaces, prose stays prose."""

import pytest

from codex_space.ui.views.playground import render_answer, render_speed


@pytest.mark.parametrize(
    "text",
    [
        "def add(a, b):\n    return a + b",
        "async def go():\n    pass",
        "@cache\ndef f(): ...",
        "import os",
        "for x in y:\n  print(x)",
        "Sure:\n    x = 1",
    ],
)
def test_bare_code_is_put_in_a_fence_untouched(text):
    assert render_answer(text) == f"```python\n{text}\n```"


@pytest.mark.parametrize(
    "text", ["", "Hello.", "It is important to know.", "A list:\n- one\n- two", "iffy forward imports"]
)
def test_prose_is_left_alone(text):
    assert render_answer(text) == text


def test_an_answer_with_its_own_fence_is_left_alone_and_closed_while_it_is_written():
    assert render_answer("Here:\n```python\nx = 1\n```") == "Here:\n```python\nx = 1\n```"
    assert render_answer("Here:\n```python\nx = 1") == "Here:\n```python\nx = 1\n```"


def test_the_speed_stands_under_the_answer():
    assert render_answer("Hello.", render_speed(1, 9.96)) == "Hello.\n\n*1 token · 10.0 tokens/s*"
    assert render_answer("def f():\n    1", render_speed(1200, 3)).endswith("```\n\n*1,200 tokens · 3.0 tokens/s*")
