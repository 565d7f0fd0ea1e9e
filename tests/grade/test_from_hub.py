"""Benchmarks as the Hub has them, Parquet over HTTP: fetched once, in the real schemas, and graded as EvalPlus's own files are."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codex_space.core.errors import GradeError
from codex_space.data.read import iter_rows
from codex_space.grade import benchmarks, library, reference, test_program, wire
from codex_space.grade.benchmarks import mbpp
from codex_space.grade.problems import load_problems
from codex_space.grade.samples import Sample
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.score import grade_samples
from codex_space.hub.dataset_files import fetch_dataset_files
from tests.grade import rows

STRINGS = pa.list_(pa.string())
SCHEMAS = {
    "humaneval": {"task_id": pa.string(), "prompt": pa.string(), "canonical_solution": pa.string(), "test": pa.string(), "entry_point": pa.string()},
    "mbpp": {"task_id": pa.int32(), "text": pa.string(), "code": pa.string(), "test_list": STRINGS, "test_setup_code": pa.string(), "challenge_test_list": STRINGS},
    "mbpp+": {"task_id": pa.int64(), "code": pa.string(), "prompt": pa.string(), "source_file": pa.string(), "test_imports": STRINGS, "test_list": STRINGS, "test": pa.string()},
}  # fmt: skip
SCHEMAS["humaneval+"] = SCHEMAS["humaneval"]
PLACES = {
    "humaneval": ("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet"),
    "humaneval+": ("evalplus/humanevalplus", "data/test-00000-of-00001-5973903632b82d40.parquet"),
    "mbpp": ("google-research-datasets/mbpp", "full/test-00000-of-00001.parquet"),
    "mbpp+": ("evalplus/mbppplus", "data/test-00000-of-00001-d5781c9c51e02795.parquet"),
}
CARDS = {
    "mbpp": "---\nconfigs:\n- config_name: full\n  data_files:\n  - split: test\n    path: full/test-*\n- config_name: sanitized\n"
    "  data_files:\n  - split: test\n    path: sanitized/test-*\n---\n"
}
HELPER = "import numpy as np\n\ndef is_floats(x):\n    return False\n\ndef assertion(out, exp, atol):\n    assert out == exp\n"


def put(hub, name, given):
    schema = pa.schema(SCHEMAS[name])
    kept = [{field: row.get(field) for field in schema.names} for row in given]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(kept, schema), content)
    repo_id, path = PLACES[name]
    hub.state.put("datasets", repo_id, {path: content.getvalue(), "README.md": CARDS.get(name, "# rows")})


def fetch(hub, name, cache):
    """The three calls a worker makes (work/benchmark.py)."""

    def download(entry):
        files = fetch_dataset_files(
            hub.client(), entry.repo_id, entry.config, entry.split, None, cache / "hub" / entry.name
        )
        return [row for path in files for _, row in iter_rows(path)]

    return library.fetch(library.find(name), cache, download)


def humaneval_plus_row(row):
    test = f"\n\n{HELPER}\n\ndef check(candidate):\n    inputs = {row['base_input'] + row['plus_input']!r}\n    results = [0]\n"
    assertion = f"assertion(candidate(*inp), exp, {row['atol']})"
    if row["entry_point"] == "find_zero":
        assertion = f"assert _poly(*candidate(*inp), inp) <= {row['atol']}"
    return {
        **row,
        "test": f"{test}    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        {assertion}\n",
    }


def mbpp_plus_row(row, google):
    rebuild = mbpp._REBUILT.get(int(row["task_id"].rpartition("/")[2]), list)
    inputs = [list(rebuild(args)) for args in [*row["base_input"], *row["plus_input"]]]
    test = f"from math import inf\n\n{HELPER}\ninputs = {inputs!r}\nresults = [0]\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n"
    test += f"    assertion(candidate(*inp), exp, {row['atol']})\n"
    return {**google, "code": row["canonical_solution"], "source_file": "x.ipynb", "test": test}


def scores(name, path, programs, folder):
    benchmark = benchmarks.find(name)
    problems = load_problems(benchmark, path)
    with Sandbox(1, prove=False) as sandbox:
        known = reference.references(problems, sandbox, folder)
        samples = [Sample(p.task_id, p.task_id, (programs[p.task_id],)) for p in problems]
        report = grade_samples(benchmark, problems, samples, known, sandbox)
    return {suite: report.passed(suite) for suite in benchmark.scores.values()}


def test_humaneval_plus_takes_its_base_from_humaneval(hub, tmp_path):
    put(hub, "humaneval", rows.HUMANEVAL)
    put(hub, "humaneval+", map(humaneval_plus_row, rows.HUMANEVAL_PLUS))
    path = fetch(hub, "humaneval+", tmp_path)
    assert path == tmp_path / "humaneval+.jsonl" == library.find("humaneval+").file(tmp_path)
    right = "def double(x): return 2 * x"
    only_small = "def half(x): return x / 2 if x < 1e9 else 0"
    found = scores("humaneval+", path, {"HumanEval/0": right, "HumanEval/1": only_small}, tmp_path)
    assert found == {
        "base": {"HumanEval/0": [True], "HumanEval/1": [True]},
        "plus": {"HumanEval/0": [True], "HumanEval/1": [False]},
    }
    asked = len(hub.state.requests)
    assert fetch(hub, "humaneval+", tmp_path) == path
    assert len(hub.state.requests) == asked


def test_mbpp_plus_has_googles_asserts_and_evalplus_calls(hub, tmp_path):
    google = {"task_id": 2, "prompt": "Shared elements.", "test_imports": [],
              "test_list": ["assert set(similar_elements((1, 2, 3), (2, 3))) == set((2, 3))"]}  # fmt: skip
    put(hub, "mbpp+", [mbpp_plus_row(rows.MBPP_PLUS[0], google)])
    path = fetch(hub, "mbpp+", tmp_path)
    (problem,) = load_problems(benchmarks.find("mbpp+"), path)
    assert problem.prompt == f'"""\nShared elements.\n{google["test_list"][0]}\n"""\n'
    assert problem.tests[1].names == ("similar_elements",)
    assert problem.tests[1].oracle == "set"
    for program, passes in {
        "def similar_elements(a, b): return list(set(a) & set(b))": (True, True),
        "def similar_elements(a, b): return (2, 3)": (True, False),
        "def similar_elements(a, b): return ()": (False, False),
    }.items():
        found = scores("mbpp+", path, {"Mbpp/2": program}, tmp_path)
        assert (found["base"]["Mbpp/2"], found["plus"]["Mbpp/2"]) == ([passes[0]], [passes[1]])


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_the_plain_sets_come_from_the_hub_too(hub, tmp_path, name):
    given = rows.HUMANEVAL if name == "humaneval" else rows.MBPP
    put(hub, name, given)
    problems = load_problems(benchmarks.find(name), fetch(hub, name, tmp_path))
    assert len(problems) == (2 if name == "humaneval" else 3)


def test_evalplus_own_file_is_taken_where_a_person_has_put_it(hub, tmp_path):
    path = rows.write_lines(tmp_path / "HumanEvalPlus.jsonl.gz", rows.HUMANEVAL_PLUS)
    assert fetch(hub, "humaneval+", tmp_path) == path
    assert hub.state.requests == []


def test_a_plus_task_that_the_base_set_lacks_is_named_and_nothing_is_kept(hub, tmp_path):
    put(hub, "humaneval", rows.HUMANEVAL[:1])
    put(hub, "humaneval+", map(humaneval_plus_row, rows.HUMANEVAL_PLUS))
    with pytest.raises(GradeError, match="humaneval has no tests of it"):
        fetch(hub, "humaneval+", tmp_path)
    assert not (tmp_path / "humaneval+.jsonl").exists()


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("", "no line of inputs"),
        ("inputs = [[1]]\n", "one tolerance"),
        ("inputs = [[1]]\ninputs = [[1]]\nassertion(candidate(*inp), exp, 0)\n", "no line of inputs and one tolerance"),
        ("inputs = [[__import__('os')]]\nassertion(candidate(*inp), exp, 0)\n", "malformed node"),
        ("inputs = [[1\nassertion(candidate(*inp), exp, 0)\n", "no values"),
        ("inputs = 5\nassertion(candidate(*inp), exp, 0)\n", "no list of arguments"),
        (f"inputs = {'[' * 5000}\nassertion(candidate(*inp), exp, 0)\n", "no values"),
    ],
)
def test_a_program_evalplus_did_not_write_is_refused(program, told):
    with pytest.raises(ValueError, match=told):
        test_program.read(program)


def test_a_broken_test_program_is_one_sentence_about_the_file(tmp_path):
    row = {**humaneval_plus_row(rows.HUMANEVAL_PLUS[0]), "base_test": "x", "test": "boom"}
    del row["base_input"]
    path = rows.write_lines(tmp_path / "p.jsonl", [row])
    with pytest.raises(GradeError, match=r"this is no problems file of humaneval\+"):
        load_problems(benchmarks.find("humaneval+"), path)


def test_a_problem_that_calls_nothing_is_refused(tmp_path):
    path = rows.write_lines(tmp_path / "p.jsonl", [{**rows.HUMANEVAL_PLUS[0], "base_input": [], "plus_input": []}])
    with pytest.raises(GradeError, match="no test of it calls anything"):
        load_problems(benchmarks.find("humaneval+"), path)


def test_a_canonical_solution_whose_output_cannot_be_compared_is_refused(tmp_path):
    row = {**rows.HUMANEVAL_PLUS[0], "canonical_solution": "    return object()\n"}
    problems = load_problems(benchmarks.find("humaneval+"), rows.write_lines(tmp_path / "p.jsonl", [row]))
    with Sandbox(1, prove=False) as sandbox, pytest.raises(GradeError, match="returns what cannot be compared"):
        reference.references(problems, sandbox, tmp_path)


@pytest.mark.slow
def test_every_real_plus_row_in_the_hubs_form_has_the_calls_of_evalplus_file(real_data, tmp_path):
    google = {
        row["task_id"]: row for row in json.loads(gzip.decompress((real_data / "sanitized-mbpp.json.gz").read_bytes()))
    }
    plus = read(real_data / "MbppPlus.jsonl.gz")
    given = [mbpp_plus_row(row, google[int(row["task_id"].rpartition("/")[2])]) for row in plus]
    ours = load_problems(benchmarks.find("mbpp+"), rows.write_lines(tmp_path / "m.jsonl", given))
    same_calls(ours, load_problems(benchmarks.find("mbpp+"), real_data / "MbppPlus.jsonl.gz"))
    base = {row["task_id"]: row["test"] for row in read(real_data / "HumanEval.jsonl.gz")}
    given = [
        {**humaneval_plus_row(row), "base_test": base[row["task_id"]]}
        for row in read(real_data / "HumanEvalPlus.jsonl.gz")
    ]
    for row in given:
        del row["base_input"], row["plus_input"]
    ours = load_problems(benchmarks.find("humaneval+"), rows.write_lines(tmp_path / "h.jsonl", given))
    same_calls(ours, load_problems(benchmarks.find("humaneval+"), real_data / "HumanEvalPlus.jsonl.gz"))


def read(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def same_calls(ours, theirs):
    assert [problem.task_id for problem in ours] == [problem.task_id for problem in theirs]
    for one, other in zip(ours, theirs, strict=True):
        (_, plus), (base, rest) = one.tests, other.tests
        assert (plus.names, plus.oracle, plus.atol) == (rest.names, rest.oracle, rest.atol), one.task_id
        assert json.loads(plus.calls) == json.loads(base.calls) + json.loads(rest.calls), one.task_id
        assert wire.decode(plus.calls) is not None
