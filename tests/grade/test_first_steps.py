"""Our own benchmark: every problem can be solved, none by accident, and no training row gives one away."""

import ast
import json
import re
import runpy
import subprocess
import sys
from collections import Counter

import pytest

from codex_space.core.paths import share_dir
from codex_space.data.sources import sample_file

SCRIPT = share_dir("data").parent / "scripts" / "write_first_steps.py"
JUDGE = """
import json, sys
verdicts = {}
for name, program in json.load(sys.stdin):
    try:
        exec(program, {"__name__": "judged"})
        verdicts[name] = ""
    except Exception as error:
        verdicts[name] = repr(error)
print(json.dumps(verdicts))
"""


@pytest.fixture(scope="module")
def problems():
    text = (share_dir("data") / "benchmarks" / "first-steps.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def judge(problems, solution):
    """Return each problem's error ("" for a pass), in a process of its own."""
    programs = []
    for row in problems:
        program = f"{row['prompt']}{solution(row)}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"
        programs.append((row["task_id"], program))
    command = [sys.executable, "-I", "-c", JUDGE]
    run = subprocess.run(command, input=json.dumps(programs), capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


def test_the_tiers_are_filled_and_ids_and_functions_are_unique(problems):
    assert Counter(row["tier"] for row in problems) == {1: 24, 2: 12, 3: 12, 4: 12}
    assert [row["task_id"] for row in problems] == [f"FirstSteps/{number}" for number in range(60)]
    for field in ("entry_point", "request", "prompt"):
        assert len({row[field] for row in problems}) == 60, field
    assert [row["tier"] for row in problems] == sorted(row["tier"] for row in problems)


def test_problems_have_humanevals_form(problems):
    for row in problems:
        (function,) = ast.parse(row["prompt"]).body
        assert isinstance(function, ast.FunctionDef)
        assert (function.name, len(function.body)) == (row["entry_point"], 1)
        assert ast.get_docstring(function)
        assert row["prompt"].endswith('"""\n')
        assert row["canonical_solution"].startswith("    ")
        assert re.search(rf"\b{row['entry_point']}\b", row["request"])
        assert row["request"].endswith(".")


def test_every_canonical_solution_passes(problems):
    assert set(judge(problems, lambda row: row["canonical_solution"]).values()) == {""}


@pytest.mark.parametrize(
    "body",
    ["pass", "return 0", "return ''", "return []", "return True", "return False", "return {first}", "return [{first}]"],
)
def test_no_stub_passes(problems, body):
    def stub(row):
        first = ast.parse(row["prompt"]).body[0].args.args[0].arg
        return "    " + body.format(first=first)

    assert [name for name, error in judge(problems, stub).items() if not error] == []


def test_examples_of_docstrings_are_right(problems):
    for row in problems:
        names: dict = {}
        exec(row["prompt"] + row["canonical_solution"], names)
        for call, said in re.findall(r">>> (.+)\n    (.+)\n", row["prompt"]):
            assert repr(eval(call, names)) == said, row["task_id"]


def is_edge(value):
    """Nothing, nought, below nought, one item, or items that are all the same."""
    if isinstance(value, str | list | tuple | dict):
        return all(item == next(iter(value)) for item in value)
    return value is None or value <= 0 or value == 1


def test_tests_hold_at_least_four_asserts_and_an_edge_case(problems):
    for row in problems:
        (check,) = ast.parse(row["test"]).body
        assert (check.name, check.args.args[0].arg) == ("check", "candidate")
        assert all(isinstance(each, ast.Assert) for each in check.body)
        assert len({ast.unparse(each) for each in check.body}) >= 4, row["task_id"]
        calls = [node for node in ast.walk(check) if isinstance(node, ast.Call) and node.func.id == "candidate"]
        assert any(is_edge(ast.literal_eval(value)) for call in calls for value in call.args), row["task_id"]


def test_harder_tiers_take_longer_programs(problems):
    lines = {tier: [] for tier in (1, 2, 3, 4)}
    for row in problems:
        lines[row["tier"]].append(row["canonical_solution"].count("\n"))
    assert set(lines[1]) == set(lines[2]) == {1}
    assert sum(lines[3]) / 12 > 3
    assert sum(lines[4]) / 12 > 6


def test_no_problem_of_the_benchmark_is_in_the_training_rows(problems):
    rows = [json.loads(line) for line in sample_file("python-first-chat").read_text().splitlines()]
    text = "\n".join(message["content"] for row in rows for message in row["messages"])
    words = set(re.findall(r"\w+", text))
    assert not words & {row["entry_point"] for row in problems}
    assert not {row["messages"][0]["content"] for row in rows} & {row["request"] for row in problems}
    answers = {row["messages"][1]["content"].strip() for row in rows}
    assert not answers & {(row["prompt"] + row["canonical_solution"]).strip() for row in problems}


def test_no_page_offers_the_benchmark_as_a_training_set():
    assert "first-steps" not in {path.stem for path in share_dir("data").glob("*.jsonl")}


def test_the_committed_file_is_what_the_script_writes(problems):
    script = runpy.run_path(str(SCRIPT))
    assert script["problems"]((SCRIPT.parent / "first_steps_problems.txt").read_text()) == problems
