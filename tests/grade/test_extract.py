"""From answers as models write them, and as nobody should, to the program that is graded."""

import ast

import pytest

from codex_space.grade.answer_text import after_thinking, fenced_blocks
from codex_space.grade.extract import MAX_ANSWER_CHARS, MAX_PARSED_CHARS, Extraction, from_chat, from_completion

PROMPT = 'def add(a, b):\n    """Return the sum of a and b."""\n'
HELPED = (
    "import math\nfrom typing import List\n\n\n@print\ndef half(x):\n    return x / 2\n\n\n"
    'def halves(xs: List[float]):\n    """Halve each."""\n'
)
ADD = "def add(a, b):\n    return a + b\n"
STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(")


def completed(text, stops=STOPS):
    return from_completion(text, prompt=PROMPT, entry_point="add", stops=stops)


def chatted(text, prompt=PROMPT, entry_point="add", **more):
    return from_chat(text, prompt=prompt, entry_point=entry_point, **more)


def run(found: Extraction, entry_point="add"):
    names: dict = {}
    exec(found.program, names)
    return names[entry_point]


def test_a_completion_ends_at_the_earliest_stop_string_after_the_prompt():
    found = completed("    return a + b\n\nprint(add(1, 2))\n\ndef other():\n    pass\n")
    assert found == Extraction(PROMPT + "    return a + b\n", "completion up to '\\nprint('")
    assert run(found)(2, 3) == 5


def test_stop_strings_of_the_prompt_itself_do_not_count():
    found = from_completion(
        "    return [half(x) for x in xs]\n", prompt=HELPED.replace("@print\n", ""), entry_point="halves", stops=STOPS
    )
    assert found.rule == "completion to its end"
    assert run(found, "halves")([4]) == [2]


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", ""),  # a docstring is a body: it parses, and fails its tests
        ("    return a +", "it does not parse: invalid syntax (line 3)"),
        ("    return '\x00'", "it does not parse: source code string cannot contain null bytes"),
        ("    return '\ud800'", "it does not parse: 'utf-8' codec can't encode character"),
        ("    return " + "(" * 5000, "it does not parse: too many nested parentheses"),
        ("    return " + "-" * 50_000 + "1", "it does not parse: "),
    ],
)
def test_a_completion_keeps_its_program_and_names_its_flaw(text, flaw):
    found = completed(text)
    assert found.program == PROMPT + text
    assert found.flaw.startswith(flaw) if flaw else found.flaw == ""


def test_a_completion_without_a_prompt_that_defines_it_says_so():
    found = from_completion("x = 1", prompt="", entry_point="add", stops=())
    assert found.flaw == "add is not defined in it"


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (f"Sure!\n```python\n{ADD}```\nDone.", "last complete block"),
        (f"```\ndef add(a, b):\n    return 0\n```\nBetter:\n```py\n{ADD}```", "last complete block"),
        (f"```python\n{ADD}```\nUse it:\n```python\nprint(add(1, 2))\n```", "complete block"),
        (f"```bash\npip install x\n```\n~~~python\n{ADD}~~~", "last complete block"),
        (f"````markdown\n```python\n{ADD}```\n````", "as far as it parses"),
        (f"1. First:\n   ```python\n   {ADD.replace(chr(10), chr(10) + '   ').rstrip()}\n   ```", "dedented"),
        (f"```python\r\n{ADD.replace(chr(10), chr(13) + chr(10))}```", "last complete block"),
        (f"```python\n{ADD}", "block never closed, to the end"),
        (f"```python\n{ADD}``` That is all.", "last complete block"),
        (f"```python\n{ADD}\n```python\nadd(1, 2)\n```", "complete block"),  # the first fence was never closed
        (f"```python\n{ADD}\nThis adds two numbers.\n```", "last complete block, as far as it parses"),
        (f"```python\n{ADD}\n\ndef other(:\n", "block never closed, to the end, as far as it parses"),
        (f"{ADD}", "whole answer"),
        (f"Here it is:\n\n{ADD}\nIt adds a and b.", "code without a block, as far as it parses"),
        (f"from what I see, you want this:\n{ADD}", "code without a block, as far as it parses"),
        ("```python\n    return a + b\n```", "last complete block, as the function's body"),
        ("```python\nreturn a + b\n```", "last complete block, as the function's body"),
        ("    total = a\n    total += b\n    return total", "whole answer, as the function's body"),
        ("total = a\n    total += b\n    return total", "whole answer, as the function's body"),  # stripped ends
        ("total = a\nif b:\n    total += b\nreturn total", "whole answer, as the function's body"),
        (f"<think>\n```python\ndef add(a, b): return 7\n```\n</think>\n```python\n{ADD}```", "last complete block"),
        (f"I should add them.</think>\n{ADD}", "whole answer"),
        (f"{ADD}<think>was that right?", "whole answer"),
        (f"```python\n{ADD}```\n<think>fine</think>\n", "last complete block"),
        (f"```python\n{ADD}```\n```\n```", "last complete block"),
        ("```python\nadd = lambda a, b: a + b\n```", "last complete block"),
        (
            "```python\n" + ADD.replace("return", '"""\n    ```\n    add(1, 2)\n    ```\n    """\n    return') + "```",
            "last",
        ),
    ],
)
def test_answers_as_models_write_them(answer, rule):
    found = chatted(answer)
    assert rule in found.rule
    assert found.flaw == ""
    assert run(found)(2, 3) == 5


def test_the_given_beginning_of_an_answer_opens_its_block():
    prefill = "Below is a script:\n```python\n"
    assert run(chatted(ADD, prefill=prefill))(1, 1) == 2
    assert run(chatted(f"```python\n{ADD}```", prefill=prefill))(1, 1) == 2
    assert run(chatted(f"{ADD}\n```\nIt adds.\n", prefill=prefill))(1, 1) == 2


def test_what_the_prompt_imports_and_defines_is_put_before_a_program_without_it():
    found = chatted(
        "```python\ndef halves(xs: List[float]):\n    return [half(math.floor(x)) for x in xs]\n```", HELPED, "halves"
    )
    assert found.program.startswith("import math\nfrom typing import List\n@print\ndef half(x):\n    return x / 2\n")
    assert found.rule == "last complete block, after the prompt's imports and helpers"
    own = "import math\n\n\ndef half(x):\n    return 9\n\n\ndef halves(xs):\n    return [half(x) for x in xs]\n"
    assert chatted(own, HELPED, "halves").program == "from typing import List\n" + own


def test_a_future_import_stays_the_first_statement():
    own = '"""Doc."""\nfrom __future__ import annotations\ndef halves(xs: List[int]):\n    return math.pi\n'
    found = chatted(own, HELPED.replace("@print\n", ""), "halves")
    assert run(found, "halves")([]) > 3
    assert ast.parse(found.program).body[1].module == "__future__"


def test_a_prompt_of_prose_gives_nothing_to_put_before():
    found = chatted(f"```python\n{ADD}```", prompt="Write a function to add two numbers.")
    assert found == Extraction(ADD, "last complete block")


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        ("", "the answer is empty"),
        (" \n\n ", "the answer is empty"),
        ("I cannot help with that.", "there is no code in it"),
        ("```python\n```", "there is no code in it"),
        ("<think>\nLet me see", "the answer ends while still in <think>"),
        ("<think></think>", "the answer is empty"),
        ("```python\n\x00\n```", "there is no code in it"),
    ],
)
def test_an_answer_without_a_program_says_why(answer, flaw):
    found = chatted(answer, prompt="Add two numbers.")
    assert (found.program, found.rule, found.flaw) == ("", "no program", flaw)


def test_a_program_that_lacks_the_function_is_kept_and_says_so():
    found = chatted("```python\ndef plus(a, b):\n    return a + b\n```\n```python\nplus(1, 2)\n```")
    assert found.program == "def plus(a, b):\n    return a + b\n"
    assert found.flaw == "add is not defined in it"
    assert chatted("return", prompt="").flaw == "add is not defined in it"
    assert chatted("def plus(a, b): return 1", entry_point="").flaw == ""


def test_an_answer_longer_than_is_read_says_so():
    found = chatted(ADD + "#" * MAX_ANSWER_CHARS)
    assert run(found)(1, 2) == 3
    assert found.flaw == "only its first 200,000 characters were read"


HOSTILE = {
    "brackets": "(" * 100_000,
    "brackets in a block": "```python\n" + "(" * 100_000 + "\n```",
    "a bracket a line": "```python\n" + "(\n" * 50_000 + "```",
    "minus signs": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 50_000,
    "sums": "1+" * 50_000 + "1",
    "ticks": "`" * 100_000,
    "ticks with a word": "`" * 100_000 + "x`",
    "tildes with a tick": "~" * 100_000 + "`",
    "fences": "```\n" * 25_000,
    "fences that name a language": "```python\n" * 10_000,
    "small blocks": "```\nx\n```\n" * 10_000,
    "small bodies": "```\nreturn\n```\n" * 7_000,
    "broken blocks": "```\ndef add(:\n```\n" * 6_000,
    "thoughts": "<think>" * 15_000,
    "thoughts that end": "<think></think>" * 7_000,
    "ends of thoughts": "</think>" * 12_000,
    "broken functions": "def add(a, b):\n" * 6_000,
    "functions between prose": "def add(a, b):\n    return a\nprose goes here\n" * 2_000,
    "good code": ADD * 3_000,
    "one long line": "x = [" + "1, " * 30_000 + "]",
    "one long number": "9" * 100_000,
    "strings never closed": '"""\n' * 25_001,
    "spaces": " " * 100_000 + "x",
    "line ends": "\n" * 100_000,
    "carriage returns": "\r" * 100_000,
    "null bytes": "\x00" * 100_000,
    "surrogates": "\ud800" * 100_000,
    "form feeds": "\x0c\n" * 50_000,
    "deep blocks": "".join(" " * depth + "if x:\n" for depth in range(400)),
    "decorators": "@a\n" * 30_000,
    "f-strings": "f'{" * 30_000,
    "backslashes": "\\\n" * 50_000,
    "a body that returns a lot": "    return a\n" * 7_000,
    "a long body that never parses": "```python\n" + "    if a: return b\n" * 8_000 + "    )\n```\ndef add(",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_never_raise_and_are_parsed_a_bounded_number_of_times(name, monkeypatch):
    parsed = []
    parse = ast.parse
    with monkeypatch.context() as patched:
        patched.setattr("ast.parse", lambda text: parsed.append(len(text)) or parse(text))
        found = chatted(HOSTILE[name])
    assert sum(parsed) <= MAX_PARSED_CHARS
    assert found.program or found.flaw
    assert completed(HOSTILE[name]).program.startswith(PROMPT)


def test_thinking_and_blocks_are_found_alone():
    assert after_thinking("<think>a</think>b") == ("b", "")
    assert after_thinking("b<think>a") == ("b", "")
    assert fenced_blocks("none") == ([], "")
    assert fenced_blocks("```\na\n````\n```x\nb") == (["a\n"], "b")
    assert fenced_blocks("````\n```\na\n```\n````") == (["```\na\n```\n"], "")
