"""Whether an output is right: EvalPlus 0.3.1's comparison (evalplus/eval/__init__.py, `unsafe_execute`) without numpy.

Runs in the judge on values of builtin types. `numpy.allclose` is followed for what those can hold: nested numbers are
broadcast, anything else it cannot compare is wrong.
"""

import math
from collections.abc import Callable
from typing import Any

FLOAT_ATOL, RTOL = 1e-6, 1e-7
_INT64 = 1 << 63


class Comparison:
    """Compares the outputs of one suite in order; the tolerance a float sets stays, as in EvalPlus."""

    def __init__(self, oracle: str, atol: float) -> None:
        """`oracle` is a key of `ORACLES`, or empty."""
        self._oracle, self._atol = ORACLES[oracle] if oracle else None, atol
        self._root = oracle == "root"

    def see(self, expected: Any) -> None:  # noqa: ANN401  # any value
        """Note an expected output; floats bring a tolerance with them, for all that follow."""
        if self._atol == 0 and _is_floats(expected):
            self._atol = FLOAT_ATOL

    def is_right(self, out: Any, expected: Any, args: list[Any]) -> bool:  # noqa: ANN401  # any value
        """Compare one output; whatever cannot be compared is wrong."""
        try:
            if self._root:
                return abs(_polynomial(*args, out)) <= self._atol
            exact = bool(out == expected)
            if self._oracle:
                exact = bool(self._oracle(exact, out, expected, args, self._atol))
            self.see(expected)
            if exact or self._atol == 0:
                return exact
            return type(out) is type(expected) and _is_close(out, expected, self._atol)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
            return False


def _is_floats(value: Any) -> bool:  # noqa: ANN401  # any value
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _is_close(out: Any, expected: Any, atol: float) -> bool:  # noqa: ANN401  # any value
    if isinstance(expected, (list, tuple)) and len(out) != len(expected):
        return False
    return _all_close(out, _shape(out), expected, _shape(expected), atol)


def _shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401  # any value
    """Return the shape numpy would see; a ragged or non-numeric value is a ValueError."""
    if not isinstance(value, (list, tuple)):
        if not isinstance(value, (int, float, complex)) or (isinstance(value, int) and not -_INT64 <= value < _INT64):
            raise ValueError("not a number numpy compares")
        return ()
    shapes = {_shape(item) for item in value}
    if len(shapes) > 1:
        raise ValueError("ragged")
    return (len(value), *(shapes.pop() if shapes else ()))


def _all_close(a: Any, a_shape: tuple[int, ...], b: Any, b_shape: tuple[int, ...], atol: float) -> bool:  # noqa: ANN401  # any value
    if not a_shape and not b_shape:
        return bool(a == b or (_is_finite(a) and _is_finite(b) and abs(a - b) <= atol + RTOL * abs(b)))
    if len(a_shape) > len(b_shape):
        return all(_all_close(item, a_shape[1:], b, b_shape, atol) for item in a)
    if len(b_shape) > len(a_shape):
        return all(_all_close(a, a_shape, item, b_shape[1:], atol) for item in b)
    if a_shape[0] != b_shape[0] and 1 not in {a_shape[0], b_shape[0]}:
        raise ValueError("shapes do not fit")
    longer = max(len(a), len(b)) if len(a) and len(b) else 0
    pairs = zip(a if len(a) == longer else a * longer, b if len(b) == longer else b * longer, strict=False)
    return all(_all_close(x, a_shape[1:], y, b_shape[1:], atol) for x, y in pairs)


def _is_finite(value: complex) -> bool:
    return math.isfinite(value.real) and math.isfinite(value.imag)


def _polynomial(coefficients: list[float], x: float) -> float:
    return sum(coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients))


def _surface_area(base_edge: float, height: float) -> int:
    """Mbpp/581 with `height` read as the distance of base and apex."""
    return round(base_edge**2 + 4 * (base_edge * math.sqrt((base_edge / 2) ** 2 + height**2)) / 2)


def _digit_distance(first: int, second: int) -> int:
    """Mbpp/558 with the shorter number padded with zeros."""
    width = max(len(str(first)), len(str(second)))
    return sum(abs(int(a) - int(b)) for a, b in zip(str(first).zfill(width), str(second).zfill(width), strict=True))


def _is_not_none(_: bool, out: Any, expected: Any, *__: Any) -> bool:  # noqa: ANN401  # any value
    return out == expected if isinstance(out, bool) else expected == (out is not None)


Oracle = Callable[[bool, Any, Any, list[Any], float], bool]
ORACLES: dict[str, Oracle] = {
    "root": lambda exact, *_: exact,  # HumanEval/32, decided before any output is compared
    "any": lambda *_: True,
    "or zero": lambda exact, out, *_: exact or out == 0,
    "surface": lambda exact, out, _, args, atol: exact or abs(out - _surface_area(*args)) <= atol,
    "digits": lambda exact, out, _, args, __: exact or out == _digit_distance(*args),
    "set": lambda _, out, expected, *__: set(out) == set(expected),
    "not none": _is_not_none,
}
"""EvalPlus's special oracles (evalplus/eval/_special_oracle.py); which task has which is in the benchmark's file."""
