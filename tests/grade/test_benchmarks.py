"""Problems of each form are loaded, their canonical solutions pass, wrong ones fail, and what is no problems file is told."""

import gzip
import json
import sys

import pytest

from codex_space.core.errors import GradeError
from codex_space.grade import benchmarks, library, reference
from codex_space.grade.entry import ENTRIES
from codex_space.grade.problems import BENCHMARKS, load_problems
from codex_space.grade.samples import Sample, programs_of
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.score import grade_samples, run_canaries
from codex_space.services import evaluations
from tests.grade import rows


@pytest.fixture(scope="module")
def two():
    with Sandbox(2, prove=False) as sandbox:
        yield sandbox


def graded(two, tmp_path, name, problem_rows, programs):
    """Return (problems, task id -> {suite: passed}) of one program a problem, in their order."""
    benchmark = benchmarks.find(name)
    problems = load_problems(benchmark, rows.write_lines(tmp_path / "problems.jsonl", problem_rows))
    known = reference.references(problems, two, tmp_path / "cache")
    given = programs or [problem.canonical for problem in problems]
    samples = [Sample(f"{p.task_id}#0", p.task_id, (text,)) for p, text in zip(problems, given, strict=True)]
    report = grade_samples(benchmark, problems, samples, known, two)
    suites = set(benchmark.scores.values())
    return problems, {p.task_id: {s: report.passed(s)[p.task_id][0] for s in suites} for p in problems}


FORMS = [
    ("humaneval", rows.HUMANEVAL),
    ("humaneval", rows.HUMANEVAL_PLUS),
    ("humaneval+", rows.HUMANEVAL_PLUS),
    ("mbpp", rows.MBPP),
    ("mbpp", rows.SANITIZED),
    ("mbpp", rows.MBPP_PLUS),
    ("mbpp+", rows.MBPP_PLUS),
]


@pytest.mark.parametrize(("name", "problem_rows"), FORMS)
def test_canonical_solutions_pass(two, tmp_path, name, problem_rows):
    problems, passed = graded(two, tmp_path, name, problem_rows, None)
    assert all(all(suites.values()) for suites in passed.values())
    assert [p.task_id for p in problems] == [t for t in passed]  # noqa: C416  # in their order


@pytest.mark.parametrize(("name", "problem_rows"), FORMS)
def test_programs_that_return_nothing_fail(two, tmp_path, name, problem_rows):
    problems = load_problems(benchmarks.find(name), rows.write_lines(tmp_path / "p.jsonl", problem_rows))
    nothing = [
        f"class Node:\n  def __init__(s, *_): pass\ndef {p.tests[0].names[-1]}(*_): return None" for p in problems
    ]
    _, passed = graded(two, tmp_path, name, problem_rows, nothing)
    assert not any(any(suites.values()) for suites in passed.values())


def test_right_on_base_and_wrong_on_plus(two, tmp_path):
    programs = ["def double(x): return x * 2 if x < 10 else 0", "def half(x): return x / 2"]
    _, passed = graded(two, tmp_path, "humaneval+", rows.HUMANEVAL_PLUS, programs)
    assert passed == {"HumanEval/0": {"base": True, "plus": False}, "HumanEval/1": {"base": True, "plus": True}}


def test_outputs_of_a_task_with_a_special_oracle(two, tmp_path):
    programs = ["def similar_elements(a, b): return list(set(a) & set(b))[::-1]", "def check_str(s): return True"]
    _, passed = graded(two, tmp_path, "mbpp+", rows.MBPP_PLUS, programs)
    assert passed["Mbpp/2"] == {"base": True, "plus": True}
    assert passed["Mbpp/3"] == {"base": True, "plus": True}


def test_only_tasks_of_the_closed_list_hold_live_objects(tmp_path):
    problems = load_problems(benchmarks.find("mbpp"), rows.write_lines(tmp_path / "p.jsonl", rows.MBPP))
    assert {p.task_id for p in problems if p.tests[0].live} == {"Mbpp/367"}
    assert [p.task_id for p in problems] == ["Mbpp/11", "Mbpp/12", "Mbpp/367"]


def test_references_are_kept_and_a_damaged_one_is_made_again(two, tmp_path, monkeypatch):
    problems = load_problems(benchmarks.find("humaneval+"), rows.write_lines(tmp_path / "p.jsonl", rows.HUMANEVAL_PLUS))
    first = reference.references(problems, two, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(reference, "_compute", lambda *_: pytest.fail("computed again"))
    assert reference.references(problems, two, tmp_path / "cache") == first
    monkeypatch.undo()
    for damage in (b"", path.read_bytes()[:-9], gzip.compress(b"[]"), gzip.compress(b'{"a": {"base": {}}}')):
        path.write_bytes(damage)
        found = reference.references(problems, two, tmp_path / "cache")
        assert {k: v["plus"].outputs for k, v in found.items()} == {k: v["plus"].outputs for k, v in first.items()}


def test_another_problem_is_another_reference(two, tmp_path):
    for atol in (0, 1):
        changed = [{**row, "atol": atol} for row in rows.HUMANEVAL_PLUS]
        problems = load_problems(benchmarks.find("humaneval+"), rows.write_lines(tmp_path / "p.jsonl", changed))
        reference.references(problems, two, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_canonical_solution_that_fails_stops_everything(two, tmp_path):
    broken = [{**rows.DOUBLE, "canonical_solution": "    return x\n"}]
    problems = load_problems(benchmarks.find("humaneval"), rows.write_lines(tmp_path / "p.jsonl", broken))
    with pytest.raises(GradeError, match="HumanEval/0: the canonical solution fails"):
        reference.references(problems, two, tmp_path / "cache")


def test_a_canary_that_comes_out_wrong_stops_everything(two, tmp_path):
    problems = load_problems(benchmarks.find("humaneval"), rows.write_lines(tmp_path / "p.jsonl", rows.HUMANEVAL))
    known = reference.references(problems, two, tmp_path / "cache")
    trivial = [type(p)(p.task_id, p.prompt, "", p.tests) for p in problems]
    with pytest.raises(GradeError, match=r"canonical HumanEval/0.*canary"):
        run_canaries(trivial, known, two)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"), (b"{}\n", "no field 'prompt'"), (b"[1]", "item 1: this is not a JSON object"), (b"{\n", "line 1: this is not JSON"),
        (b'"a"\n', "not a JSON object"), (b"\xff\xfe{}\n", "not UTF-8"), (gzip.compress(b"{}", mtime=0)[:9], "gzip"), (b"[]", "empty|no problem"),
        (json.dumps(rows.DOUBLE).encode() + b"\n" + json.dumps(rows.DOUBLE).encode(), "same task_id"),
        (json.dumps({**rows.DOUBLE, "prompt": 7}).encode(), "no problems file"), (b"[" * 10**6, "not JSON|nested"),
    ],
)  # fmt: skip
def test_what_is_no_problems_file_is_told(tmp_path, content, told):
    path = tmp_path / "problems.jsonl"
    path.write_bytes(content)
    with pytest.raises(GradeError, match=told):
        load_problems(benchmarks.find("humaneval"), path)


def test_the_wrong_benchmark_for_a_file_is_told(tmp_path):
    path = rows.write_lines(tmp_path / "p.jsonl", rows.MBPP)
    with pytest.raises(GradeError, match=r"no problems file of humaneval\+.*It reads OpenAI's"):
        load_problems(benchmarks.find("humaneval+"), path)


def test_an_unknown_benchmark_is_told_with_the_known_ones():
    with pytest.raises(
        GradeError, match=r"no benchmark 'humanevil'. Known: first-steps, humaneval, humaneval\+, mbpp, mbpp\+"
    ):
        benchmarks.find("humanevil")
    assert set(BENCHMARKS) == {"first-steps", "humaneval", "humaneval+", "mbpp", "mbpp+"}


def test_readings_of_a_sample():
    assert programs_of({"solution": "a", "completion": "b"}, "p") == ("a",)
    assert programs_of({"completion": "b"}, "p") == ("pb", "b")


def test_a_new_benchmark_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "my_own.py").write_text(
        "from codex_space.grade.benchmarks.humaneval import load_programs\n"
        "from codex_space.grade.entry import Entry, offer\n"
        "from codex_space.grade.problems import Benchmark, register\n"
        "register(Benchmark('my-own', {'my-own': 'base'}, load_programs, 'mine.jsonl'))\n"
        "offer(Entry('my-own', 'My own', 'Two functions of mine', 2))\n"
    )
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    try:
        assert benchmarks.find("my-own").scores == {"my-own": "base"}
        assert [one["name"] for one in evaluations.benchmarks()][:6] == [
            "first-steps", "humaneval", "humaneval+", "mbpp", "mbpp+", "my-own",
        ]  # fmt: skip
        file = rows.write_lines(tmp_path / "mine.jsonl", rows.HUMANEVAL)
        assert len(library.load("my-own", file).problems) == len(rows.HUMANEVAL)
    finally:
        BENCHMARKS.pop("my-own", None)
        ENTRIES.pop("my-own", None)
        sys.modules.pop("codex_space.grade.benchmarks.my_own", None)
