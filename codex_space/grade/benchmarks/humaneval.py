"""HumanEval (Chen et al. 2021, arXiv 2107.03374) and HumanEval+ (Liu et al. 2023, arXiv 2305.01210)."""

from codex_space.grade import test_program, wire
from codex_space.grade.entry import Entry, offer
from codex_space.grade.problems import Benchmark, Problem, Row, Tests, register

FILES = "OpenAI's HumanEval.jsonl.gz and EvalPlus's HumanEvalPlus.jsonl.gz; the Hub's rows of it with `base_test` from OpenAI's"
_ORACLES = {"find_zero": "root"}


def load_programs(rows: list[Row]) -> list[Problem]:
    """Return problems in OpenAI's form, each with a test program that defines `check`."""
    return _load(rows, plus=False)


def _load(rows: list[Row], *, plus: bool) -> list[Problem]:
    return [_problem(row, plus=plus) for row in rows]


def _problem(row: Row, *, plus: bool) -> Problem:
    canonical, name = row["prompt"] + row["canonical_solution"], row["entry_point"]
    if "base_input" not in row:
        test = row["base_test"] if plus else row["test"]
        # Some tests use helpers of the prompt.
        base = Tests("base", (name,), setup=row["prompt"], test=f"{test}\ncheck({name})\n")
        return Problem(row["task_id"], row["prompt"], canonical, (base, *_hub_cases(row, name)) if plus else (base,))
    suites = ("base", "plus") if plus else ("base",)
    return Problem(row["task_id"], row["prompt"], canonical, tuple(_cases(row, suite, name) for suite in suites))


def _hub_cases(row: Row, name: str) -> list[Tests]:
    calls, atol = test_program.read(row["test"])
    return [Tests("plus", (name,), wire.encode(calls), _ORACLES.get(name, ""), atol)]


def _cases(row: Row, suite: str, name: str) -> Tests:
    calls = wire.encode_json([list(args) for args in row[f"{suite}_input"]])
    return Tests(suite, (name,), calls, _ORACLES.get(name, ""), float(row["atol"]))


register(Benchmark("humaneval", {"humaneval": "base"}, load_programs, FILES))
register(
    Benchmark("humaneval+", {"humaneval": "base", "humaneval+": "plus"}, lambda rows: _load(rows, plus=True), FILES)
)
offer(
    Entry("humaneval", "HumanEval", "164 functions from their docstrings (OpenAI)", 164, repo_id="openai/openai_humaneval"),
    Entry(
        "humaneval+", "HumanEval+", "HumanEval with 80 times the tests (EvalPlus)", 164,
        repo_id="evalplus/humanevalplus", release="HumanEvalPlus.jsonl.gz", base="humaneval",
    ),
)  # fmt: skip
