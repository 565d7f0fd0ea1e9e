"""The sample sets that ship with the program."""

import ast
import json
import re
import runpy

import pytest

from codex_space.core.paths import share_dir
from codex_space.data.catalog import inspect_file
from codex_space.data.sources import sample_file

SCRIPT = share_dir("data").parent / "scripts" / "write_first_chat.py"


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in sample_file("python-first-chat").read_text().splitlines()]


def test_the_chat_sample_is_small_and_of_one_format():
    found = inspect_file(sample_file("python-first-chat"))
    assert (found.format, found.problems) == ("messages", [])
    assert 250 <= found.num_rows <= 400
    assert found.size_bytes < 300_000


def test_every_answer_is_a_documented_function_that_parses(rows):
    for row in rows:
        request, answer = row["messages"]
        assert (request["role"], answer["role"]) == ("user", "assistant")
        (function,) = ast.parse(answer["content"]).body
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function)


def test_no_request_occurs_twice_and_phrasings_vary(rows):
    requests = [row["messages"][0]["content"] for row in rows]
    assert len(set(requests)) == len(requests)
    assert len({re.split(r"\W", request)[0] for request in requests}) > 5


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("fibonacci", (10,), 55),
        ("is_prime", (97,), True),
        ("primes_below", (12,), [2, 3, 5, 7, 11]),
        ("gcd", (48, 36), 12),
        ("lcm", (4, 6), 12),
        ("bubble_sort", ([3, 1, 2],), [1, 2, 3]),
        ("binary_search", ([1, 3, 5, 7], 5), 2),
        ("count_vowels", ("Audio",), 4),
        ("to_binary", (10,), "1010"),
        ("rotate", ([1, 2, 3], 1), [2, 3, 1]),
        ("second_largest", ([4, 4, 3],), 3),
        ("fizzbuzz", (30,), "FizzBuzz"),
        ("is_leap_year", (1900,), False),
        ("transpose", ([[1, 2], [3, 4]],), [[1, 3], [2, 4]]),
        ("running_sums", ([1, 2, 3],), [1, 3, 6]),
    ],
)
def test_answers_are_right(rows, name, arguments, expected):
    answer = next(row["messages"][1]["content"] for row in rows if f"def {name}(" in row["messages"][1]["content"])
    names: dict = {}
    exec(answer, names)
    assert names[name](*arguments) == expected


def test_the_committed_file_is_what_the_script_writes():
    committed = sample_file("python-first-chat").read_text()
    script = runpy.run_path(str(SCRIPT))
    snippets = (SCRIPT.parent / "first_chat_snippets.txt").read_text().strip().split("\n\n")
    rows = [row for number, text in enumerate(snippets) for row in script["rows"](number, text)]
    assert [json.loads(line) for line in committed.splitlines()] == rows


def test_the_pairs_are_ours_parse_and_differ_in_meaning_alone():
    found = inspect_file(sample_file("python-preferences"))
    assert (found.format, found.problems) == ("preference", [])
    assert found.size_bytes < 300_000
    for line in sample_file("python-preferences").read_text().splitlines():
        row = json.loads(line)
        right, wrong = (ast.unparse(ast.parse(row[name])) for name in ("chosen", "rejected"))
        assert right == row["chosen"]
        assert wrong == row["rejected"] != right
        assert ast.get_docstring(ast.parse(right).body[0]) == ast.get_docstring(ast.parse(wrong).body[0])
