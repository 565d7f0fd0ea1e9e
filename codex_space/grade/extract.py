"""From what a model wrote to the program that is graded, always saying by which rule, and what is wrong with it.

Covered: an answer of any content costs a bounded number of characters parsed, so that 100 kB of brackets, fences or
tags take no longer than 100 kB of code. Not covered: nothing is executed here, and what the program does is the
sandbox's concern.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codex_space.grade.answer_text import after_thinking, fenced_blocks
from codex_space.grade.protocol import Protocol, ask

MAX_ANSWER_CHARS = 200_000
MAX_PARSED_CHARS = 400_000
"""All attempts at one answer together; a greedy search for the longest run of lines that parses is cubic."""
MAX_CUTS = 8
INDENT = " " * 4

_CODE_BEGINS = re.compile(r"(?:def|async def|class|import|from)\b|@")


@dataclass(frozen=True)
class Extraction:
    """The program to grade, the rule that found it, and its flaw ("" where it parses and defines the entry point)."""

    program: str
    rule: str
    flaw: str = ""


@dataclass(frozen=True)
class _Code:
    """A piece of an answer that may be the program; `tree` where it parses."""

    text: str
    rule: str
    tree: ast.Module | None = None


class _Parser:
    """Parses until its budget is used up."""

    def __init__(self) -> None:
        self.left_chars = MAX_PARSED_CHARS
        self.why = ""
        self.line = 0

    def parse(self, text: str) -> ast.Module | None:
        """Return the tree, or None and leave `why` and `line` (0 where none is known) of the error."""
        self.why, self.line = "", 0
        if len(text) > self.left_chars:
            self.why = "it is too long to be parsed as often as needed"
            return None
        self.left_chars -= len(text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes are the model's affair
                return ast.parse(text)
        except SyntaxError as error:
            self.why, self.line = f"it does not parse: {error.msg} (line {error.lineno})", error.lineno or 0
        except (ValueError, RecursionError, MemoryError) as error:  # null bytes, lone surrogates, nesting
            self.why = f"it does not parse: {str(error) or 'nested too deeply'}"
        return None

    def parse_up_to_error(self, text: str) -> tuple[str, ast.Module] | None:
        """Parse, each time without what follows the error's line, until the rest holds a statement and parses."""
        lines = text.split("\n")
        for _ in range(MAX_CUTS):
            rest = "\n".join(lines)
            tree = self.parse(rest)
            if tree is not None:
                return (rest, tree) if tree.body else None
            if not self.line:
                return None
            del lines[min(self.line, len(lines)) - 1 :]
        return None


def from_answer(text: str, question: Mapping[str, str], protocol: Protocol, prefill: str = "") -> Extraction:
    """Return the program in what a model answered to a question (`prompt`, `entry_point`), as the protocol says."""
    if protocol.template_hash:
        return from_chat(text, prompt=question["prompt"], entry_point=question["entry_point"], prefill=prefill)
    prompt = ask(protocol.prompt_form, question).text
    return from_completion(text, prompt=prompt, entry_point=question["entry_point"], stops=protocol.stops)


def from_completion(completion: str, *, prompt: str, entry_point: str, stops: Sequence[str]) -> Extraction:
    """Return prompt and completion up to the earliest stop string, which is looked for after the prompt only."""
    found = [(at, stop) for stop in stops if (at := completion.find(stop)) >= 0]
    end, stop = min(found, default=(len(completion), ""))
    program = prompt + completion[:end]
    parser = _Parser()
    tree = parser.parse(program)
    flaw = parser.why if tree is None else _missing(tree, entry_point)
    return Extraction(program, f"completion up to {stop!r}" if stop else "completion to its end", flaw)


def from_chat(answer: str, *, prompt: str, entry_point: str, prefill: str = "") -> Extraction:
    """Return the program a chat answer holds, with what it lacks of the prompt's imports and helpers before it.

    The rules, first that fits: the last complete fenced block that parses and defines the entry point; a block never
    closed, to the answer's end; a block, or bare code, up to the line where it stops parsing; the body alone of the
    function, put under the prompt; the longest block that parses. `prefill` is the answer's beginning where it was given.
    """
    text, flaw = after_thinking(answer)
    text = (prefill + text).replace("\r\n", "\n").replace("\r", "\n")  # the parser counts lines so
    if len(text) > MAX_ANSWER_CHARS:
        text, flaw = text[:MAX_ANSWER_CHARS], f"only its first {MAX_ANSWER_CHARS:,} characters were read"
    parser = _Parser()
    pieces = [_fitted(piece, parser) for piece in _pieces(text)]
    found = (
        next((piece for piece in pieces if piece.tree and not _missing(piece.tree, entry_point)), None)
        or _up_to_error(pieces, text, entry_point, parser)
        or _body_only(pieces, prompt, entry_point, parser)
        or max((piece for piece in pieces if piece.tree and piece.tree.body), key=_length, default=None)
    )
    if found is None or found.tree is None:
        return Extraction(
            "", "no program", flaw or ("there is no code in it" if text.strip() else "the answer is empty")
        )
    whole = _with_preamble(found, found.tree, prompt, entry_point, parser)
    return whole if whole.flaw else replace(whole, flaw=flaw)


def _pieces(text: str) -> Iterator[_Code]:
    """Yield complete blocks, last first, then the one never closed, then the whole answer where it has no block."""
    complete, unclosed = fenced_blocks(text)
    for block in reversed(complete):
        yield _Code(block, "last complete block" if block is complete[-1] else "complete block")
    if unclosed:
        yield _Code(unclosed, "block never closed, to the end")
    if not complete and not unclosed:
        yield _Code(text, "whole answer")


def _fitted(piece: _Code, parser: _Parser) -> _Code:
    """Return the piece with its tree, its common indentation taken away where it does not parse with it."""
    if tree := parser.parse(piece.text):
        return replace(piece, tree=tree)
    dedented = textwrap.dedent(piece.text)
    if dedented != piece.text and (tree := parser.parse(dedented)):
        return _Code(dedented, f"{piece.rule}, dedented", tree)
    return piece


def _up_to_error(pieces: list[_Code], text: str, entry_point: str, parser: _Parser) -> _Code | None:
    """Return the first piece, or else the bare code among the prose, whose beginning defines the entry point."""
    broken = [piece for piece in pieces if piece.tree is None and piece.rule != "whole answer"]
    for piece in [*broken, *_bare_code(text, entry_point)]:
        cut = parser.parse_up_to_error(textwrap.dedent(piece.text))
        if cut and not _missing(cut[1], entry_point):
            return _Code(cut[0], f"{piece.rule}, as far as it parses", cut[1])
    return None


def _bare_code(text: str, entry_point: str) -> Iterator[_Code]:
    """Yield what follows the first line that looks like code, then what follows the entry point's own first line."""
    lines = text.split("\n")
    first = next((n for n, line in enumerate(lines) if _CODE_BEGINS.match(line)), None)
    own = next(
        (n for n, line in enumerate(lines) if re.match(rf"(?:async )?def {re.escape(entry_point)}\b", line)), None
    )
    for begin in dict.fromkeys((first, own)):
        if begin is not None:
            yield _Code("\n".join(lines[begin:]), "code without a block")


def _body_only(pieces: list[_Code], prompt: str, entry_point: str, parser: _Parser) -> _Code | None:
    """Return prompt and piece where the piece is the inside of the function: it returns, and not from a function of its own."""
    for piece in pieces:
        stripped = piece.text.strip("\r\n")
        # An answer whose ends were stripped has lost the indentation of its first line only.
        for body in (textwrap.indent(textwrap.dedent(stripped), INDENT), INDENT + stripped.lstrip()):
            program = f"{prompt.rstrip()}\n{body.rstrip()}\n"
            tree = parser.parse(program) if re.search(r"\b(return|yield)\b", body) else None
            if tree and tree.body and _returns(tree.body[-1], entry_point):
                return _Code(program, f"{piece.rule.removesuffix(', dedented')}, as the function's body", tree)
    return None


def _returns(node: ast.stmt, entry_point: str) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != entry_point:
        return False
    found: list[ast.AST] = list(node.body)
    while found:
        each = found.pop()
        if isinstance(each, ast.Return | ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            found.extend(ast.iter_child_nodes(each))
    return False


def _with_preamble(found: _Code, tree: ast.Module, prompt: str, entry_point: str, parser: _Parser) -> Extraction:
    """Put before the program the prompt's imports and helpers whose names it does not define itself."""
    flaw = _missing(tree, entry_point)
    given = parser.parse(f"{prompt.rstrip()}\n{INDENT}pass\n")  # a prompt of prose has neither
    bound = {name for node in tree.body for name in _binds(node)} | {entry_point}
    lines = prompt.split("\n")
    kept = [
        lines[_first_line(node) - 1 : node.end_lineno] for node in (given.body if given else []) if _binds(node) - bound
    ]
    if not kept:
        return Extraction(found.text, found.rule, flaw)
    own = found.text.split("\n")
    # A __future__ import stays ahead of all else.
    begin = max((node.end_lineno or 0 for node in tree.body if _is_future(node)), default=0)
    program = [*own[:begin], *(line for each in kept for line in each), *own[begin:]]
    return Extraction("\n".join(program), f"{found.rule}, after the prompt's imports and helpers", flaw)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _binds(node: ast.stmt) -> set[str]:
    """Return the names a statement binds at the module's level."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        case ast.Assign() | ast.AnnAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return set()


def _missing(tree: ast.Module, entry_point: str) -> str:
    """Return "" where the tree defines the entry point (or any function, where none is asked for)."""
    bound = {name for node in tree.body for name in _binds(node)}
    if entry_point in bound or (not entry_point and bound):
        return ""
    return f"{entry_point} is not defined in it" if entry_point else "it defines nothing"


def _length(piece: _Code) -> int:
    return len(piece.text)
