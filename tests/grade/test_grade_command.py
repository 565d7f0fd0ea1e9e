"""`codex-space grade`: scores, verdicts, and one sentence for each kind of bad input."""

import json

import pytest

from codex_space.cli.main import main
from codex_space.grade import sandbox
from tests.grade import rows

RIGHT = [
    {"task_id": "HumanEval/0", "completion": "    return 2 * x\n"},
    {"task_id": "HumanEval/1", "solution": "def half(x): return x / 2"},
]


@pytest.fixture
def grade(tmp_path, capsys):
    problems = rows.write_lines(tmp_path / "problems.jsonl.gz", rows.HUMANEVAL_PLUS)

    def run(samples, *options, benchmark="humaneval+"):
        path = tmp_path / "samples.jsonl"
        path.write_bytes(samples) if isinstance(samples, bytes) else rows.write_lines(path, samples)
        files = ["--problems", str(problems), "--workspace", str(tmp_path / "ws"), "--workers", "1"]
        code = main(["grade", str(path), "--benchmark", benchmark, *files, *options])
        return code, *capsys.readouterr()

    sandbox._proven.add("landlock")  # the battery has its own tests
    sandbox._proven.add("no-landlock")
    yield run
    sandbox._proven.clear()


def test_scores_and_verdicts_as_json(grade):
    code, out, _ = grade(RIGHT, "--json")
    assert code == 0
    assert json.loads(out) == {
        "humaneval": {"pass@1": 1.0},
        "humaneval+": {"pass@1": 1.0},
        "verdicts": {"HumanEval/0": {"base": True, "plus": True}, "HumanEval/1": {"base": True, "plus": True}},
        "timeouts": [],
        "live": [],
    }


def test_base_only(grade):
    code, out, _ = grade(RIGHT, "--json", benchmark="humaneval")
    assert json.loads(out)["verdicts"]["HumanEval/0"] == {"base": True}
    assert "humaneval+" not in json.loads(out)
    assert code == 0


def test_several_samples_a_task_are_averaged_by_task(grade):
    wrong = {"task_id": "HumanEval/0", "solution": "def double(x): return 0"}
    code, out, _ = grade([*RIGHT, wrong, wrong], "--json")
    found = json.loads(out)
    assert found["humaneval"]["pass@1"] == round((1 / 3 + 1) / 2, 3)
    assert found["verdicts"]["HumanEval/0"] == {"base": [True, False, False], "plus": [True, False, False]}
    assert code == 0


def test_a_completion_may_be_a_whole_program(grade):
    whole = "from __future__ import annotations\ndef double(x): return 2 * x"
    _, out, _ = grade([{"task_id": "HumanEval/0", "completion": whole}, RIGHT[1]], "--json")
    assert json.loads(out)["humaneval"]["pass@1"] == 1.0


def test_for_a_person(grade):
    _, out, _ = grade([RIGHT[0], {"task_id": "HumanEval/1", "completion": ""}])
    assert "humaneval    pass@1  50.0 %   95 % interval 9.5 to 90.5   1 of 2 samples" in out


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (b"", "samples.jsonl: the file is empty"),
        (b"\n\n", "2 of 2 tasks have no sample"),
        (RIGHT[:1], "1 of 2 tasks have no sample, the first is HumanEval/1"),
        ([*RIGHT, {"task_id": "HumanEval/9", "completion": ""}], "line 3: the benchmark has no task 'HumanEval/9'"),
        ([*RIGHT, {"completion": ""}], "line 3: there is no task_id"),
        ([*RIGHT, {"task_id": ["HumanEval/0"], "completion": ""}], "line 3: the benchmark has no task"),
        ([*RIGHT, {"task_id": "HumanEval/0"}], "line 3: there is no text in solution or completion"),
        ([*RIGHT, {"task_id": "HumanEval/0", "solution": None}], "line 3: there is no text"),
        (
            [*RIGHT, {"task_id": "HumanEval/0", "solution": "x" * 4_000_001}],
            "line 3: the program has 4,000,001 characters",
        ),
        (json.dumps(RIGHT[0]).encode() + b'\n{"task_id": "Hum', "line 2: this is not JSON"),
        (json.dumps(RIGHT[0]).encode() + b"\n[1]\n", "line 2: this is not a JSON object"),
        (b'{"a": "' + b"x" * (65 << 20), "line 1: the line is longer than 64 MiB"),
        (b'{"a": ' + b"1" * 5000 + b"}", "line 1: a value is nested too deeply or has too many digits"),
        (b"\x1f\x8bno gzip", "damaged"),
        (b"\x00\x01\x02", "line 1: this is not JSON"),
    ],
)
def test_bad_samples_get_one_sentence(grade, samples, told):
    code, out, err = grade(samples, "--json")
    assert code == 1
    assert out == ""
    assert told in err
    assert err.count("\n") == 1


def test_files_that_are_not_there_and_missing_options(grade, tmp_path, capsys):
    where = ["--workspace", str(tmp_path / "ws")]
    assert main(["grade", str(tmp_path / "none.jsonl"), "--benchmark", "humaneval", *where]) == 1
    assert "humaneval needs --problems" in capsys.readouterr().err
    problems = ["--problems", str(tmp_path / "problems.jsonl.gz")]
    assert main(["grade", str(tmp_path / "none.jsonl"), "--benchmark", "humaneval", *problems, *where]) == 1
    assert "none.jsonl: it cannot be read: no such file" in capsys.readouterr().err
    assert main(["grade", str(tmp_path), "--benchmark", "humaneval", *problems, *where]) == 1
    assert "is a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["grade", "x", "--benchmark", "humaneval", "--workers", "0"])
