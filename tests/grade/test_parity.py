"""Verdicts on published samples are those of EvalPlus 0.3.1, and canonical solutions pass: a part here, all of it in bench/grading.py."""

import gzip
import json

import pytest

from codex_space.grade import benchmarks, reference
from codex_space.grade.problems import load_problems
from codex_space.grade.samples import Sample, programs_of
from codex_space.grade.sandbox import Sandbox
from codex_space.grade.score import grade_samples
from tests.grade.rows import write_lines

HEAVY = {f"HumanEval/{n}" for n in (15, 36, 59, 83, 94, 130, 139)} | {f"Mbpp/{n}" for n in (255, 271, 599)}


@pytest.fixture(scope="module")
def two():
    with Sandbox(2, prove=False) as sandbox:
        yield sandbox


def rows_of(path):
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("name", "problems_file", "samples_file", "verdicts_file"),
    [
        ("humaneval+", "HumanEvalPlus.jsonl.gz", "1.5b-base.humaneval.generated.jsonl", "evalplus-0.3.1-verdicts.1.5b.humaneval.json"),
        ("mbpp+", "MbppPlus-v0.1.0.jsonl.gz", "1.5b-base.mbpp.generated.jsonl", "evalplus-0.3.1-verdicts.1.5b.mbpp399.json"),
    ],
)  # fmt: skip
def test_every_twentieth_verdict_is_evalplus_own(
    two, real_data, tmp_path, name, problems_file, samples_file, verdicts_file
):
    published = real_data / "reference_samples"
    chosen = [row for row in rows_of(real_data / problems_file)[::20] if row["task_id"] not in HEAVY]
    problems = load_problems(benchmarks.find(name), write_lines(tmp_path / "p.jsonl", chosen))
    prompts = {problem.task_id: problem.prompt for problem in problems}
    given = [row for row in rows_of(published / samples_file) if row["task_id"] in prompts]
    samples = [Sample(row["task_id"], row["task_id"], programs_of(row, prompts[row["task_id"]])) for row in given]
    known = reference.references(problems, two, tmp_path)
    report = grade_samples(benchmarks.find(name), problems, samples, known, two)
    theirs = json.loads((published / verdicts_file).read_text())
    ours = {task: {suite: report.passed(suite)[task][0] for suite in ("base", "plus")} for task in prompts}
    assert ours == {task: theirs[task] for task in prompts}


@pytest.mark.parametrize(
    ("name", "problems_file", "step", "count"),
    [
        ("humaneval", "HumanEval.jsonl.gz", 4, 41),
        ("mbpp", "mbpp.jsonl.gz", 1, 100),
        ("mbpp", "sanitized-mbpp.json.gz", 6, 72),
    ],
)
def test_canonical_solutions_pass(two, real_data, tmp_path, name, problems_file, step, count):
    problems = load_problems(benchmarks.find(name), real_data / problems_file)[::step]
    problems = [p for p in problems if step > 1 or p.tests[0].live or "getsizeof" in p.tests[0].test][
        :count
    ] + problems[: count // 2 if step == 1 else 0]
    known = reference.references(problems, two, tmp_path)
    assert len(known) == len({p.task_id for p in problems})


def test_the_one_sample_whose_stored_verdict_differs_is_right(two, real_data, tmp_path):
    """Mbpp/566: the stored run of EvalPlus 0.3.1 says fail, most later runs of the same EvalPlus say pass (bench/grading.py)."""
    published, task = real_data / "reference_samples", "Mbpp/566"
    (row,) = (row for row in rows_of(real_data / "MbppPlus-v0.1.0.jsonl.gz") if row["task_id"] == task)
    (given,) = (row for row in rows_of(published / "1.5b-base.mbpp.generated.jsonl") if row["task_id"] == task)
    benchmark = benchmarks.find("mbpp+")
    problems = load_problems(benchmark, write_lines(tmp_path / "p.jsonl", [row]))
    known = reference.references(problems, two, tmp_path)
    report = grade_samples(
        benchmark, problems, [Sample(task, task, programs_of(given, problems[0].prompt))], known, two
    )
    assert report.passed("plus") == {task: [True]}
    theirs = json.loads((published / "evalplus-0.3.1-verdicts.1.5b.mbpp399.json").read_text())
    assert theirs[task] == {"base": True, "plus": False}
    passed = sum(verdict["plus"] for verdict in theirs.values())
    assert (round(100 * passed / 399, 1), round(100 * (passed + 1) / 399, 1)) == (58.9, 59.1)
