"""MBPP (Austin et al. 2021, arXiv 2108.07732): its test split (tasks 11 to 510), the sanitized set, and MBPP+."""

import ast
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from codex_space.grade import test_program, wire
from codex_space.grade.entry import Entry, offer
from codex_space.grade.problems import Benchmark, Problem, Row, Tests, register
from codex_space.grade.protocol import DOCSTRING_STOPS

FILES = "Google's mbpp.jsonl and sanitized-mbpp.json and EvalPlus's MbppPlus.jsonl.gz, or the Hub's rows of it"
TEST_SPLIT = range(11, 511)
LIVE = frozenset({367, 601, 927})
"""Tasks whose tests build objects of a class of the solution; these stay in the solver (see `judge`)."""
_ORACLES = {
    "are_equivalent": "any",
    "sum_div": "or zero",
    "surface_Area": "surface",
    "digit_distance_nums": "digits",
    **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not none"),
    **dict.fromkeys(
        (
            "similar_elements",
            "find_char_long",
            "common_in_nested_lists",
            "extract_singly",
            "larg_nnum",
            "intersection_array",
            "find_dissimilar",
            "Diff",
        ),
        "set",
    ),
}


def _load(rows: list[Row], *, plus: bool) -> list[Problem]:
    if "base_input" in rows[0]:
        return [_evalplus_problem(row, plus=plus) for row in rows]
    if plus:
        return [_hub_problem(row) for row in rows]
    if "text" in rows[0]:
        rows = [row for row in rows if row["task_id"] in TEST_SPLIT]
    return [_google_problem(row) for row in rows]


def _google_problem(row: Row) -> Problem:
    code, asserts = row["code"].replace("\r\n", "\n"), row["test_list"]
    test = "\n".join([row.get("test_setup_code", ""), *asserts]).replace("\r\n", "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the canonical solutions write "\\w"
        tree = ast.parse(code)
    defined = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    names = [name for name in defined if re.search(rf"\b{re.escape(name)}\b", test)]
    # The tests were written to run behind the solution, with what it imports.
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    prompt = f'"""\n{row.get("text", row.get("prompt"))}\n{asserts[0]}\n"""\n'
    tests = Tests(
        "base",
        tuple(names),
        setup="\n".join([*imports, *row.get("test_imports", [])]),
        test=test,
        live=row["task_id"] in LIVE,
    )
    return Problem(f"Mbpp/{row['task_id']}", prompt, code, (tests,))


def _hub_problem(row: Row) -> Problem:
    """Return a problem of the Hub's MBPP+: Google's asserts are the base, the calls of EvalPlus's test program the rest."""
    google = _google_problem(row)
    (base,) = google.tests
    calls, atol = test_program.read(row["test"])
    called = {
        node.func.id
        for node in ast.walk(ast.parse(row["test_list"][0]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    name = next(name for name in reversed(base.names) if name in called)
    plus = Tests("plus", (name,), wire.encode(calls), _ORACLES.get(name, ""), atol)
    return Problem(google.task_id, google.prompt, google.canonical, (base, plus))


def _evalplus_problem(row: Row, *, plus: bool) -> Problem:
    suites = ("base", "plus") if plus else ("base",)
    tests = tuple(_cases(row, suite) for suite in suites)
    return Problem(row["task_id"], row["prompt"], row["prompt"] + row["canonical_solution"], tests)


def _cases(row: Row, suite: str) -> Tests:
    name = row["entry_point"]
    rebuild = _REBUILT.get(int(row["task_id"].rpartition("/")[2]))
    arguments = [list(args) for args in row[f"{suite}_input"]]
    calls = wire.encode([list(rebuild(args)) for args in arguments]) if rebuild else wire.encode_json(arguments)
    return Tests(suite, (name,), calls, _ORACLES.get(name, ""), float(row["atol"]))


# What JSON could not keep of the arguments: EvalPlus 0.3.1, evalplus/data/mbpp.py, `mbpp_deserialize_inputs`.
Args = list[Any]


def _tuples(args: Iterable[Any]) -> list[Any]:
    return [tuple(item) for item in args]


def _deep_tuples(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    return tuple(_deep_tuples(item) for item in value) if isinstance(value, list) else value


_KINDS: tuple[tuple[Callable[[Args], Any], tuple[int, ...]], ...] = (
    (
        _tuples,
        (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
    ),
    (
        lambda args: [_tuples(arg) for arg in args],
        (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    ),
    (lambda args: [_tuples(args[0]), args[1]], (75, 413, 444, 753)),
    (lambda args: [args[0], tuple(args[1])], (106, 750)),
    (lambda args: [[set(item) if isinstance(item, list) and item else {} for item in args[0]]], (115,)),
    (lambda args: [float(args[0]), complex(args[1])], (124,)),
    (lambda args: [tuple(args[0]), args[1]], (250, 405, 446, 617, 720, 763, 808)),
    (lambda args: [tuple(_tuples(arg)) for arg in args], (259, 401, 445)),
    (lambda args: [tuple(tuple(item) if isinstance(item, list) else item for item in args[0])], (278,)),
    (lambda args: [tuple(args[0]), args[1], args[2]], (307,)),
    (lambda args: [{key: tuple(value) for key, value in args[0].items()}, *args[1:]], (722,)),
    (lambda args: [complex(args[0])], (252,)),
    (_deep_tuples, (580, 615, 791)),
)
_REBUILT = {number: rebuild for rebuild, numbers in _KINDS for number in numbers}


register(Benchmark("mbpp", {"mbpp": "base"}, lambda rows: _load(rows, plus=False), FILES))
register(Benchmark("mbpp+", {"mbpp": "base", "mbpp+": "plus"}, lambda rows: _load(rows, plus=True), FILES))
_PROSE: dict[str, Any] = {"stops": DOCSTRING_STOPS, "forms": ("completion", "chat")}
offer(
    Entry(
        "mbpp", "MBPP", "500 short tasks with three asserts each (Google)", 500,
        repo_id="google-research-datasets/mbpp", config="full", **_PROSE,
    ),
    Entry(
        "mbpp+", "MBPP+", "MBPP with 35 times the tests (EvalPlus)", 378,
        repo_id="evalplus/mbppplus", release="MbppPlus.jsonl.gz", **_PROSE,
    ),
)  # fmt: skip
