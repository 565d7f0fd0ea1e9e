"""Write data/python-preferences.jsonl: requests for Python functions, each with a right and a wrong answer.

Requests and right answers are those of write_first_chat.py; the wrong answer differs from the right one in one place.
"""

import ast
import copy
import json
from collections.abc import Iterator

from write_first_chat import HERE, rows

TARGET = HERE.parent / "data" / "python-preferences.jsonl"
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.Pow: ast.Mult,
}  # fmt: skip


def main() -> None:
    """Write the file anew."""
    snippets = (HERE / "first_chat_snippets.txt").read_text(encoding="utf-8").strip().split("\n\n")
    pairs = [pair for number, text in enumerate(snippets) for row in rows(number, text) for pair in make_pair(row)]
    TARGET.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    print(f"{TARGET.name}: {len(pairs)} rows, {TARGET.stat().st_size:,} bytes")


def make_pair(row: dict[str, list[dict[str, str]]]) -> Iterator[dict[str, str]]:
    """Yield a request with its answer and the answer made wrong; nothing where there is nothing to make wrong."""
    request, answer = (message["content"] for message in row["messages"])
    right = ast.parse(answer)
    wrong = copy.deepcopy(right)
    if spoil(wrong):  # both are written anew from their trees, so that only the meaning tells them apart
        yield {"prompt": request, "chosen": ast.unparse(right), "rejected": ast.unparse(wrong)}


def spoil(tree: ast.Module) -> bool:
    """Change one operator, or one number, or leave out the last return; say whether there was one."""
    for node in ast.walk(tree):
        for name in ("op", "ops"):
            held = getattr(node, name, None)
            operator = held[0] if isinstance(held, list) else held
            if isinstance(operator, ast.AST) and type(operator) in _SWAPS:
                other = _SWAPS[type(operator)]()
                setattr(node, name, [other, *held[1:]] if isinstance(held, list) else other)
                return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
            return True
    function = tree.body[0]
    if isinstance(function, ast.FunctionDef) and isinstance(last := function.body[-1], ast.Return) and last.value:
        function.body[-1] = ast.Expr(last.value)
        return True
    return False


if __name__ == "__main__":
    main()
