"""The canonical solutions of HumanEval, dressed up as models answer, come out whole. Needs the real data."""

import ast
import gzip
import json
import subprocess
import sys

import pytest

from codex_space.grade.extract import from_chat, from_completion
from codex_space.grade.protocol import COMPLETION_STOPS

JUDGE = """
import json, sys
for name, program in json.load(sys.stdin):
    try:
        exec(program, {"__name__": "judged"})
    except Exception as error:
        print(name, repr(error))
"""


@pytest.fixture(scope="module")
def problems():
    from tests.conftest import REAL_DATA

    path = REAL_DATA / "HumanEval.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"real benchmark data is not here ({path})")
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def whole(row):
    return row["prompt"] + row["canonical_solution"]


def function_alone(row):
    text = whole(row)
    node = next(each for each in ast.parse(text).body if getattr(each, "name", "") == row["entry_point"])
    return ast.get_source_segment(text, node) + "\n"


SHAPES = {
    "a block": lambda row: f"Here you are:\n\n```python\n{whole(row)}\n```\n\nIt works.",
    "a block without imports and helpers": lambda row: f"```\n{function_alone(row)}```\n```python\nprint('used')\n```",
    "a block in a list": lambda row: "- so:\n  ```python\n  " + whole(row).replace("\n", "\n  ") + "\n  ```\n",
    "a block never closed": lambda row: f"<think>hm</think>```python\n{whole(row)}".replace("</think>", "</think>\n"),
    "bare code": function_alone,
    "bare code in prose": lambda row: f"The function is below.\n\n{function_alone(row)}\nIt returns what was asked.\n",
    "the body": lambda row: f"```python\n{row['canonical_solution']}\n```",
    "the body with its ends stripped": lambda row: row["canonical_solution"].strip(),
    "a block from the given beginning": lambda row: f"{whole(row)}\n```\n",
}


def failures(problems, extract):
    programs = [
        (row["task_id"], f"{extract(row)}\n{row['test']}\ncheck({row['entry_point']})\n")
        for row in problems
    ]  # fmt: skip
    command = [sys.executable, "-I", "-W", "ignore", "-c", JUDGE]
    run = subprocess.run(command, input=json.dumps(programs), capture_output=True, text=True, check=True, timeout=120)
    return [line for line in run.stdout.splitlines() if line.startswith("HumanEval/")]


@pytest.mark.parametrize("shape", SHAPES)
def test_chat_answers_of_this_shape_come_out_whole(problems, shape):
    prefill = "Below is a script:\n```python\n" if "given beginning" in shape else ""

    def extract(row):
        answer = SHAPES[shape](row)
        return from_chat(answer, prompt=row["prompt"], entry_point=row["entry_point"], prefill=prefill).program

    assert failures(problems, extract) == []


def test_completions_that_go_on_are_cut_where_the_function_ends(problems):
    def extract(row):
        text = row["canonical_solution"].rstrip() + "\n\n\ndef unrelated(:\n"
        found = from_completion(text, prompt=row["prompt"], entry_point=row["entry_point"], stops=COMPLETION_STOPS)
        assert found.flaw == ""
        return found.program

    assert failures(problems, extract) == []
