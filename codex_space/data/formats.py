"""The three shapes a row can have, how other people's column names map to them, and what is wrong with a row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codex_space.core.errors import DataError
from codex_space.core.recipe import nearest

Format = Literal["text", "prompt_completion", "messages"]
Row = dict[str, Any]

FORMATS: dict[Format, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
}
"""Each format with the columns it needs."""

CONTEXT = "context"
"""Optional third column of prompt_completion: put below the prompt where it holds something (Alpaca's `input`)."""

PEEK_ROWS = 100
"""Rows looked at to recognise a shape."""

ROLES = ("system", "user", "assistant", "tool")
_ROLE_NAMES = {"human": "user", "gpt": "assistant", "bing": "assistant", "chatgpt": "assistant", "model": "assistant"}

_PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("input", "output"),
    ("prompt", "code"),
    ("text", "code"),
    ("docstring", "code"),
)


@dataclass(frozen=True)
class Shape:
    """A format and where its columns are found: our name to the file's."""

    format: Format
    columns: Mapping[str, str]


def _candidates() -> Iterable[Shape]:
    yield from (Shape("messages", {"messages": name}) for name in ("messages", "conversations", "conversation"))
    for prompt, completion in _PAIRS:
        columns = {"prompt": prompt, "completion": completion}
        if prompt == "instruction":
            yield Shape("prompt_completion", {**columns, CONTEXT: "input"})
        yield Shape("prompt_completion", columns)
    yield from (Shape("text", {"text": name}) for name in ("text", "content", "code"))


def detect(columns: Iterable[str], row: Mapping[str, Any]) -> Shape | None:
    """Return the shape these columns have: the first one that the row fits, else the first by name alone."""
    present = set(columns)
    named = [shape for shape in _candidates() if present.issuperset(shape.columns.values())]
    # Not the same pair without its context: a wrong context is to be told, not left out.
    named = [shape for shape in named if not any(shape.columns.items() < other.columns.items() for other in named)]
    fitting = (shape for shape in named if check_row(row, shape) is None)
    return next(fitting, named[0] if named else None)


def shape_of(rows: Sequence[Mapping[str, Any]], renames: Mapping[str, str] | None = None) -> Shape:
    """Return the shape of a file from its first rows, with the person's own renames (our name to the file's) obeyed.

    Several rows, since in JSON a column may be absent from the first.

    Raises:
        DataError: No format fits, or a rename does not; the cure names the columns there are.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if renames:
        return _renamed(columns, renames)
    found = detect(columns, max(rows, key=len, default={}))
    if found is None:
        raise DataError(
            f"these columns fit no format: {', '.join(columns[:20]) or 'none'}",
            cure="Name a column text, or two prompt and completion, or one messages; or say which are which.",
        )
    return found


def _renamed(present: list[str], renames: Mapping[str, str]) -> Shape:
    known = [*(name for needed in FORMATS.values() for name in needed), CONTEXT]
    for ours, theirs in renames.items():
        if ours not in known:
            raise DataError(f"{ours!r} is not a column we know", where="columns", cure=nearest(ours, known))
        if theirs not in present:
            raise DataError(f"there is no column {theirs!r}", where=f"columns.{ours}", cure=nearest(theirs, present))
    # A name the person left out may still be in the file under our own name.
    own = {name: name for name in known if name in present}
    for format_, needed in FORMATS.items():
        allowed = {*needed, CONTEXT} if format_ == "prompt_completion" else set(needed)
        if allowed.issuperset(renames) and not set(renames).isdisjoint(needed):
            columns = {name: renames.get(name) or own.get(name) for name in needed}
            missing = [name for name, theirs in columns.items() if theirs is None]
            if missing:
                raise DataError(f"no column is named for {missing[0]!r}", where="columns", cure=f"Add {missing[0]}.")
            filled = {name: theirs for name, theirs in columns.items() if theirs is not None}
            context = {CONTEXT: renames[CONTEXT]} if CONTEXT in renames else {}
            return Shape(format_, {**filled, **context})
    raise DataError(
        f"{', '.join(renames)} do not belong to one format",
        where="columns",
        cure="Give text, or prompt and completion, or messages.",
    )


def check_row(row: Mapping[str, Any], shape: Shape) -> str | None:
    """Return what is wrong with a row, or None."""
    for ours, theirs in shape.columns.items():
        value = row.get(theirs)
        if ours == CONTEXT and value in (None, ""):
            continue
        wrong = _check_messages(value) if ours == "messages" else _check_text(value)
        if wrong:
            missing = "is missing" if theirs not in row else wrong
            return f"the column {theirs!r} {missing}"
    return None


def normalize(row: Mapping[str, Any], shape: Shape) -> Row:
    """Return a checked row under our own column names, and nothing else."""
    columns = shape.columns
    if shape.format == "messages":
        return {"messages": [_message(message) for message in row[columns["messages"]]]}
    if shape.format == "text":
        return {"text": row[columns["text"]]}
    prompt = row[columns["prompt"]]
    context = row.get(columns[CONTEXT]) if CONTEXT in columns else None
    return {"prompt": f"{prompt}\n\n{context}" if context else prompt, "completion": row[columns["completion"]]}


def _message(message: Mapping[str, Any]) -> dict[str, str]:
    role = message.get("role") or message.get("from")
    content = message.get("content") if "content" in message else message.get("value")
    return {"role": _ROLE_NAMES.get(str(role), str(role)), "content": content or ""}


def _check_text(value: object) -> str | None:
    if not isinstance(value, str):
        return "is empty" if value is None else f"holds {kind_of(value)} where text is due"
    if not value.strip():
        return "is empty"
    return _check_encodable(value)


def _check_encodable(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


def _check_messages(value: object) -> str | None:
    if not isinstance(value, list):
        return "is empty" if value is None else f"holds {kind_of(value)} where a list of messages is due"
    if not value:
        return "holds no message"
    for number, message in enumerate(value, 1):
        wrong = _check_message(message)
        if wrong:
            return f"has a message {number} that {wrong}"
    if not any(_message(message)["role"] == "assistant" for message in value):
        return "holds no assistant message, so there is nothing to learn"
    return None


def _check_message(message: object) -> str | None:
    if not isinstance(message, Mapping):
        return f"is {kind_of(message)} where an object with role and content is due"
    plain = _message(message)
    if plain["role"] not in ROLES:
        return f"has the role {plain['role'][:40]!r}; known are {', '.join(ROLES)}"
    if not isinstance(plain["content"], str):
        return f"has {kind_of(plain['content'])} as content where text is due"
    if not plain["content"].strip():
        return "has no content"
    return _check_encodable(plain["content"])


def kind_of(value: object) -> str:
    """Return what a JSON value is in a person's words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return {type(None): "nothing", list: "a list", dict: "an object", str: "text", bytes: "bytes"}.get(
        type(value), type(value).__name__
    )


def format_of(row: Mapping[str, Any]) -> Format:
    """Return the format of a normalised row."""
    if "messages" in row:
        return "messages"
    return "text" if "text" in row else "prompt_completion"


def convert(row: Row, to: Format) -> Row:
    """Return a normalised row in another format: anything becomes text, a prompt and its completion a chat.

    Raises:
        DataError: There is no such way (text holds no prompt, a chat is more than one completion).
    """
    have = format_of(row)
    if have == to:
        return row
    if to == "text":
        parts = [message["content"] for message in row.get("messages", ())] or [row["prompt"], row["completion"]]
        return {"text": "\n\n".join(parts)}
    if have == "prompt_completion" and to == "messages":
        question = {"role": "user", "content": row["prompt"]}
        return {"messages": [question, {"role": "assistant", "content": row["completion"]}]}
    raise DataError(f"rows of format {have} cannot become {to}", cure="Mix only sources of the same format.")
