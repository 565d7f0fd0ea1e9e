"""Outputs are right or wrong as EvalPlus 0.3.1 says; each expectation here was checked against its code with numpy."""

import pytest

from codex_space.grade import wire
from codex_space.grade.compare import ORACLES, Comparison

NAN, INF = float("nan"), float("inf")
CASES = [  # out, expected, atol, right
    (1, 1, 0, True), (1.0, 1, 0, True), (True, 1, 0, True), ([1], (1,), 0, False), ("a", "a", 0, True), (None, 0, 0, False),
    (1.0000001, 1.0, 0, True), (1.00001, 1.0, 0, False), (1, 1.0000001, 0, False), ([1.0, 2.0000001], [1.0, 2.0], 0, True),
    ((1.0, 2.0000001), [1.0, 2.0], 0, False), ([1.0], [1.0, 2.0], 0, False), ([1.0, 2], [1.0, 2.0000001], 0, True),
    ([1.0, "a"], [1.0, 2.0000001], 0, False), (NAN, NAN, 0, False), (INF, INF, 0, True), (INF, -INF, 0, False),
    (1e9, 1e9 + 50, 0, True), (2, 3, 0, False), (2, 3, 1, True), ([[1.0, 2.0]], [[1.0, 2.1]], 0, False), ([[1.0, 2.0]], [[1.0, 2.1]], 0.2, True),
    ([[1.0], [1.0, 2.0]], [[1.1], [1.0, 2.0]], 0.2, False), ([[1.0, 1.0]], [[1.1]], 0.2, True), ({"a": 1.0}, {"a": 1.1}, 0.2, False),
    (2**70, 2**70 + 1, 1, False), ([], [], 1, True), (1 + 1j, 1 + 1.1j, 0.2, True), (wire.Opaque("Match"), 1, 0, False),
    (wire.Opaque("Match"), wire.Opaque("Match"), 1, False), (wire.Answers([1.0]), [1.0], 1, False),
]  # fmt: skip


@pytest.mark.parametrize(("out", "expected", "atol", "right"), CASES)
def test_comparison(out, expected, atol, right):
    assert Comparison("", atol).is_right(out, expected, []) is right


def test_the_tolerance_a_float_brings_stays():
    comparison = Comparison("", 0)
    assert not comparison.is_right([1.0, 2], [1.0000001, 2], [])
    assert comparison.is_right(0.5, 0.5, [])
    assert comparison.is_right([1.0, 2], [1.0000001, 2], [])


@pytest.mark.parametrize(
    ("oracle", "out", "expected", "args", "right"),
    [
        ("root", 2.0, None, [[-2, 1]], True), ("root", 2.1, 2.0, [[-2, 1]], False), ("root", NAN, 2.0, [[-2, 1]], False),
        ("root", wire.Opaque("E"), 2.0, [[-2, 1]], False), ("any", False, True, [], True), ("or zero", 0, 7, [8], True),
        ("or zero", 1, 7, [8], False), ("surface", 35, 33, [3, 4], True), ("surface", 34, 33, [3, 4], False), ("digits", 9, 1, [1, 100], False),
        ("digits", 2, 9, [1, 100], True), ("set", [1, 2, 2], (2, 1), [], True), ("set", [1], (2, 1), [], False), ("set", None, (1,), [], False),
        ("not none", wire.Opaque("Match"), True, [], True), ("not none", None, False, [], True), ("not none", None, True, [], False),
        ("not none", True, True, [], True), ("not none", False, True, [], False), ("not none", "Found!", True, [], True),
    ],
)  # fmt: skip
def test_special_oracles(oracle, out, expected, args, right):
    assert Comparison(oracle, 1e-4 if oracle == "root" else 0).is_right(out, expected, args) is right


def test_a_hostile_shape_is_wrong_and_no_error():
    deep = []
    for _ in range(10**4):
        deep = [deep]
    for oracle in ("", *ORACLES):
        assert Comparison(oracle, 0.1).is_right([deep], [1.5], [[1.0], 2]) in (
            {True} if oracle == "any" else {False, oracle == "not none"}
        )
