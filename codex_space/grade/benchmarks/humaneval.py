"""HumanEval (Chen et al. 2021, arXiv 2107.03374) and HumanEval+ (Liu et al. 2023, arXiv 2305.01210)."""

from codex_space.grade import wire
from codex_space.grade.problems import Benchmark, Problem, Row, Tests, register

FILES = "OpenAI's HumanEval.jsonl.gz and EvalPlus's HumanEvalPlus.jsonl.gz"
_ORACLES = {"find_zero": "root"}


def load_programs(rows: list[Row]) -> list[Problem]:
    """Return problems in OpenAI's form, each with a test program that defines `check`."""
    return _load(rows, plus=False)


def _load(rows: list[Row], *, plus: bool) -> list[Problem]:
    return [_problem(row, plus=plus) for row in rows]


def _problem(row: Row, *, plus: bool) -> Problem:
    canonical, name = row["prompt"] + row["canonical_solution"], row["entry_point"]
    if not plus and "base_input" not in row:
        test = f"{row['test']}\ncheck({name})\n"
        tests = (Tests("base", (name,), setup=row["prompt"], test=test),)  # some tests use helpers of the prompt
        return Problem(row["task_id"], row["prompt"], canonical, tests)
    suites = ("base", "plus") if plus else ("base",)
    return Problem(row["task_id"], row["prompt"], canonical, tuple(_cases(row, suite, name) for suite in suites))


def _cases(row: Row, suite: str, name: str) -> Tests:
    calls = wire.encode_json([list(args) for args in row[f"{suite}_input"]])
    return Tests(suite, (name,), calls, _ORACLES.get(name, ""), float(row["atol"]))


register(Benchmark("humaneval", {"humaneval": "base"}, load_programs, FILES))
register(
    Benchmark("humaneval+", {"humaneval": "base", "humaneval+": "plus"}, lambda rows: _load(rows, plus=True), FILES)
)
