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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <b>c</b> <!-- d --> <?e?>", "a &lt;b>c&lt;/b> &lt;!-- d --> &lt;?e?>"),
        ("it holds if a < b and a <= c", "it holds if a < b and a <= c"),
        ("![a](http://x/y.png) [b](http://x)", "&#33;[a](http://x/y.png) [b](http://x)"),
        ("`List<String>` and `a_b`", "<code>List&lt;String&gt;</code> and `a_b`"),
        ("``a ` <b>`` <c>", "``a ` &lt;b>`` &lt;c>"),
        ("`<a_b_*c*![x](y)>`", "<code>&lt;a&#95;b&#95;&#42;c&#42;&#33;&#91;x&#93;(y)&gt;</code>"),
        ("a\u202eb\x1b[31m\x00\u2066c\U000e0041", "a\\u202eb\\x1b[31m\\x00\\u2066c\\U000e0041"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\u05e9\u200f caf\u00e9 \U0001f600", "\u05e9\u200f caf\u00e9 \U0001f600"),
        ("> ```\n> <b>", "> ```\n> &lt;b>"),
    ],
)
def test_what_would_load_run_or_hide_is_text(text, shown):
    assert render_answer(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&lt;b>"),
        ("````\n```\n<b>\n````\n<i>", "````\n```\n<b>\n````\n&lt;i>"),
        ("````\n```\n````\n<b>", "````\n```\n````\n&lt;b>"),
        ("~~~\n```\n<b>\n~~~", "````\n```\n<b>\n````"),
        ("```\n~~~\n<b>", "```\n~~~\n<b>\n```"),
        ("```mermaid\nflowchart\n```", "```\nflowchart\n```"),
        ("```MERMAID\nflowchart\n```", "```\nflowchart\n```"),
        ('```"><b>\nx\n```', "```\nx\n```"),
        ("``` a`b\n<b>", "``` a`b\n&lt;b>"),
        ("1. Do\n   ```bash\n   ls\n     -l\n   ```\n2. <b>", "1. Do\n```bash\nls\n  -l\n```\n2. &lt;b>"),
        ("- ```py\n  x\n  ```\n<b>", "- \n```py\nx\n```\n&lt;b>"),
    ],
)
def test_each_fence_ends_where_this_program_says(text, shown):
    assert render_answer(text) == shown


def test_the_speed_stands_under_the_answer():
    assert render_answer("Hello.", render_speed(1, 9.96)) == "Hello.\n\n*1 token · 10.0 tokens/s*"
    assert render_answer("def f():\n    1", render_speed(1200, 3)).endswith("```\n\n*1,200 tokens · 3.0 tokens/s*")
