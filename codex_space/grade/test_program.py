"""Read the calls out of the test programs that the Hub's HumanEval+ and MBPP+ come with instead of EvalPlus's input lists.

EvalPlus writes these programs (tools/*/to_original_fmt.py) with all inputs in one line, `inputs = [...]`, and a call of its
comparison with the tolerance. The comparison needs numpy and the outputs in it were computed elsewhere, so neither is used:
the calls are answered by the canonical solution in the sandbox and compared as EvalPlus's own file is.
"""

import ast
import math
import re
from typing import Any

_TOLERANCE = re.compile(r"\b(?:assertion\(candidate\(.*,|assert _poly\(.*<=) ?([0-9.e+-]+)\)?\s*$")
_NAMES = {"inf": math.inf, "nan": math.nan}


def read(program: str) -> tuple[list[list[Any]], float]:
    """Return the arguments of each call, and the absolute tolerance of numbers.

    Raises:
        ValueError: It is not a program that EvalPlus wrote.
    """
    lines = program.splitlines()
    inputs = [line.strip().removeprefix("inputs = ") for line in lines if line.strip().startswith("inputs = ")]
    tolerances = [found[1] for line in lines if (found := _TOLERANCE.search(line))]
    if len(inputs) != 1 or len(tolerances) != 1:
        raise ValueError("a test program holds no line of inputs and one tolerance, as EvalPlus writes them")
    try:
        calls = ast.literal_eval(_Named().visit(ast.parse(inputs[0], mode="eval")))
    except (MemoryError, RecursionError, SyntaxError) as error:
        raise ValueError(f"the inputs of a test program are no values: {error}") from error
    if not isinstance(calls, list) or not all(isinstance(call, (list, tuple)) for call in calls):
        raise ValueError("the inputs of a test program are no list of arguments")
    return [list(call) for call in calls], float(tolerances[0])


class _Named(ast.NodeTransformer):
    """Numbers that `repr` writes as names."""

    def visit_Name(self, node: ast.Name) -> ast.AST:  # ast's spelling
        return ast.Constant(_NAMES[node.id]) if node.id in _NAMES else node
