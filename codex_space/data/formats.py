"""The shapes a row can have, how other people's column names map to them, and what is wrong with a row.

Of a pair of answers (`preference`) or an answer marked good or bad (`unpaired_preference`, TRL's names), prompt and
answers are lists of messages; plain text becomes one message. Only pairs of plain texts without a prompt column stay
text (`preference_text`): there the prompt is what both begin with, and no template may come between.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codex_space.core.errors import DataError, nearest

Format = Literal["text", "prompt_completion", "messages", "preference", "preference_text", "unpaired_preference"]
Row = dict[str, Any]

FORMATS: dict[Format, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
    "preference": ("prompt", "chosen", "rejected"),
    "preference_text": ("chosen", "rejected"),
    "unpaired_preference": ("prompt", "completion", "label"),
}
"""Each format with the columns it needs; pairs of chats too may have their prompt in both answers."""

WORDS: dict[Format, str] = {
    "text": "text",
    "prompt_completion": "prompt and completion",
    "messages": "chat messages",
    "preference": "prompt, chosen and rejected",
    "preference_text": "chosen and rejected texts",
    "unpaired_preference": "prompt, completion and label",
}
"""Each format as a person reads it."""

_PAIRED: tuple[Format, ...] = ("preference", "preference_text")
ACCEPTED: dict[str, tuple[Format, ...]] = {
    "sft": ("text", "prompt_completion", "messages"),
    "dpo": _PAIRED,
    "orpo": _PAIRED,
    "reward": _PAIRED,
    "kto": ("unpaired_preference", "preference"),
    "pretrain": ("text", "prompt_completion", "messages"),
    "tokenizer": ("text", "prompt_completion", "messages"),
    "evaluate": ("text", "prompt_completion", "messages"),
}
"""What each kind of run learns from."""

CONTEXT = "context"
"""Optional third column of prompt_completion: put below the prompt where it holds something (Alpaca's `input`)."""

PEEK_ROWS = 100
"""Rows looked at to recognise a shape."""

ROLES = ("system", "user", "assistant", "tool")
_ROLE_NAMES = {"human": "user", "gpt": "assistant", "bing": "assistant", "chatgpt": "assistant", "model": "assistant"}

_LABELS = {"true": True, "false": False}  # a CSV file knows only text
_LAST_WORD = re.compile(r"\s+\S*$")
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
    for prompt in ("prompt", "instruction", "question", "query", "input", "problem"):
        yield Shape("preference", {"prompt": prompt, "chosen": "chosen", "rejected": "rejected"})
    yield Shape("preference", {"chosen": "chosen", "rejected": "rejected"})
    yield Shape("preference_text", {"chosen": "chosen", "rejected": "rejected"})
    for prompt, completion in _PAIRS:
        columns = {"prompt": prompt, "completion": completion}
        yield Shape("unpaired_preference", {**columns, "label": "label"})
        if prompt == "instruction":
            yield Shape("prompt_completion", {**columns, CONTEXT: "input"})
        yield Shape("prompt_completion", columns)
    yield from (Shape("text", {"text": name}) for name in ("text", "content", "code"))


def detect(columns: Iterable[str], row: Mapping[str, Any]) -> Shape | None:
    """Return the shape these columns have: the first one that the row fits, else the first by name alone."""
    present = set(columns)
    if not _may_be_label(row.get("label")):  # the name of a class, such as a language: it is not learnt from
        present.discard("label")
    named = [shape for shape in _candidates() if present.issuperset(shape.columns.values()) and _suits(shape, row)]
    # Not the same pair without its context: a wrong context is to be told, not left out.
    named = [shape for shape in named if not any(shape.columns.items() < other.columns.items() for other in named)]
    fitting = (shape for shape in named if check_row(row, shape) is None)
    return next(fitting, named[0] if named else None)


def _suits(shape: Shape, row: Mapping[str, Any]) -> bool:
    """Whether a pair without a prompt column is one of texts or of chats, as the shape has it."""
    is_text = isinstance(row.get(shape.columns.get("chosen", "")), str)
    return len(shape.columns) != 2 or "chosen" not in shape.columns or is_text == (shape.format == "preference_text")


def shape_of(rows: Sequence[Mapping[str, Any]], renames: Mapping[str, str] | None = None) -> Shape:
    """Return the shape of a file from its first rows, with the person's own renames (our name to the file's) obeyed.

    Several rows, since in JSON a column may be absent from the first.

    Raises:
        DataError: No format fits, or a rename does not; the cure names the columns there are.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if renames:
        return _renamed(columns, max(rows, key=len, default={}), renames)
    found = detect(columns, max(rows, key=len, default={}))
    if found is None:
        raise DataError(
            f"these columns fit no format: {', '.join(columns[:20]) or 'none'}",
            cure="Name a column text, or two prompt and completion, or one messages, or three prompt, chosen and rejected "
            "or prompt, completion and label; or say which are which.",
        )
    return found


def _renamed(present: list[str], row: Mapping[str, Any], renames: Mapping[str, str]) -> Shape:
    known = list(dict.fromkeys([*(name for needed in FORMATS.values() for name in needed), CONTEXT]))
    for ours, theirs in renames.items():
        if ours not in known:
            raise DataError(f"{ours!r} is not a column we know", where="columns", cure=nearest(ours, known))
        if theirs not in present:
            raise DataError(f"there is no column {theirs!r}", where=f"columns.{ours}", cure=nearest(theirs, present))
    # A name the person left out may still be in the file under our own name.
    named = {**{name: name for name in known if name in present and name != CONTEXT}, **renames}
    if "label" not in renames and not _may_be_label(row.get("label")):
        named.pop("label", None)
    shapes, missing = [], ""
    for format_, needed in (*FORMATS.items(), ("preference", ("chosen", "rejected"))):
        allowed = {*needed, CONTEXT} if format_ == "prompt_completion" else set(needed)
        if allowed.issuperset(renames) and not set(renames).isdisjoint(needed):
            lacking = [name for name in needed if name not in named]
            missing = missing or next(iter(lacking), "")
            if not lacking:
                shapes.append(Shape(format_, {name: named[name] for name in (*needed, CONTEXT) if name in named}))
    shapes = [shape for shape in shapes if _suits(shape, row)]
    if shapes:
        shapes.sort(key=lambda shape: -len(shape.columns))
        return next((shape for shape in shapes if check_row(row, shape) is None), shapes[0])
    if missing:
        raise DataError(f"no column is named for {missing!r}", where="columns", cure=f"Add {missing}.")
    raise DataError(
        f"{', '.join(renames)} do not belong to one format",
        where="columns",
        cure="Give text, or prompt and completion, or messages, or chosen and rejected.",
    )


def check_row(row: Mapping[str, Any], shape: Shape) -> str | None:
    """Return what is wrong with a row, or None."""
    for ours, theirs in shape.columns.items():
        value = row.get(theirs)
        if ours == CONTEXT and value in (None, ""):
            continue
        wrong = _check_cell(ours, value, shape)
        if wrong:
            missing = "is missing" if theirs not in row else wrong
            return f"the column {theirs!r} {missing}"
    return _check_pair(normalize(row, shape)) if "chosen" in shape.columns else None


def normalize(row: Mapping[str, Any], shape: Shape) -> Row:
    """Return a checked row under our own column names, and nothing else."""
    found: dict[str, Any] = {ours: row.get(theirs) for ours, theirs in shape.columns.items()}
    match shape.format:
        case "text":
            return found
        case "messages":
            return {"messages": _turns(found["messages"], "user")}
        case "preference":
            return _pair(found)
        case "preference_text":
            prompt = _shared_words(found["chosen"], found["rejected"])
            return {"prompt": prompt, **{name: text[len(prompt) :] for name, text in found.items()}}
        case "unpaired_preference":
            label = found["label"]
            return {
                "prompt": _turns(found["prompt"], "user"),
                "completion": _turns(found["completion"], "assistant"),
                "label": label if isinstance(label, bool) else _LABELS[label.strip().lower()],
            }
    prompt, context = found["prompt"], found.get(CONTEXT)
    return {"prompt": f"{prompt}\n\n{context}" if context else prompt, "completion": found["completion"]}


def _pair(found: Row) -> Row:
    """Return prompt, chosen and rejected as messages; a prompt that both answers begin with is taken out of them."""
    chosen, rejected = _turns(found["chosen"], "assistant"), _turns(found["rejected"], "assistant")
    if "prompt" in found and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return {"prompt": _turns(found["prompt"], "user"), "chosen": chosen, "rejected": rejected}
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _shared_words(one: str, other: str) -> str:
    """Return the whole words with which two texts begin; the space before an answer belongs to it, as in its tokens."""
    shared = os.path.commonprefix([one, other])  # noqa: RUF071  # texts, not paths
    last = _LAST_WORD.search(shared)
    return shared[: last.start()] if last else ""


def _turns(value: Any, role: str) -> list[dict[str, str]]:  # noqa: ANN401  # text or messages
    return [{"role": role, "content": value}] if isinstance(value, str) else [_message(each) for each in value]


def _check_cell(ours: str, value: object, shape: Shape) -> str | None:
    if ours == "label":
        return _check_label(value)
    if ours == "messages" or (shape.format == "preference" and "prompt" not in shape.columns):
        return _check_messages(value)
    if shape.format in {"preference", "unpaired_preference"} and isinstance(value, list):
        return _check_messages(value, answers=ours != "prompt")
    return _check_text(value)


def _check_label(value: object) -> str | None:
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in _LABELS):
        return None
    if value is None or value == "":
        return "is empty where true or false is due"
    return f"holds {kind_of(value)} where true or false is due"


def _may_be_label(value: object) -> bool:
    """Whether a column `label` is meant as good or bad."""
    return not isinstance(value, str) or value.strip().lower() in {*_LABELS, "", "0", "1"}


def _check_pair(pair: Row) -> str | None:
    """Say why two answers are no pair."""
    if not pair["prompt"]:
        return "the answers begin with nothing in common, so there is no prompt"
    if pair["chosen"] == pair["rejected"]:
        return "the chosen and the rejected answer are the same"
    for name in ("chosen", "rejected"):
        answer = pair[name]
        if not answer or (isinstance(answer, str) and not answer.strip()):
            return f"the {name} answer holds nothing but the prompt"
        if not isinstance(answer, str) and answer[0]["role"] != "assistant":
            return f"the {name} answer begins with a message of the {answer[0]['role']} where an assistant's is due"
    return None


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


def _check_messages(value: object, *, answers: bool = True) -> str | None:
    if not isinstance(value, list):
        return "is empty" if value is None else f"holds {kind_of(value)} where a list of messages is due"
    if not value:
        return "holds no message"
    for number, message in enumerate(value, 1):
        wrong = _check_message(message)
        if wrong:
            return f"has a message {number} that {wrong}"
    if answers and not any(_message(message)["role"] == "assistant" for message in value):
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
    if "chosen" in row:
        return "preference_text" if isinstance(row["chosen"], str) else "preference"
    if "label" in row:
        return "unpaired_preference"
    if "messages" in row:
        return "messages"
    return "text" if "text" in row else "prompt_completion"


def require_kind(kind: str, format_: Format, where: str) -> None:
    """Refuse rows that a kind of run cannot learn from.

    Raises:
        DataError: It learns from others; the kinds that learn from these are told.
    """
    accepted = ACCEPTED.get(kind)
    if accepted is None or format_ in accepted:
        return
    fitting = [name for name, formats in ACCEPTED.items() if format_ in formats]
    raise DataError(
        f"these are rows of {WORDS[format_]}, and kind {kind} learns from {', or '.join(WORDS[one] for one in accepted)}",
        where=where,
        cure=f"Set kind: {' or '.join(fitting)}, or choose other rows.",
    )


def convert(row: Row, to: Format) -> Row:
    """Return a normalised row in another format: a chat becomes text, a prompt with its completion either.

    Raises:
        DataError: There is no such way (text holds no prompt, a chat is more than one completion).
    """
    have = format_of(row)
    if have == to:
        return row
    if to == "text" and have in {"prompt_completion", "messages"}:
        parts = [message["content"] for message in row.get("messages", ())] or [row["prompt"], row["completion"]]
        return {"text": "\n\n".join(parts)}
    if have == "prompt_completion" and to == "messages":
        question = {"role": "user", "content": row["prompt"]}
        return {"messages": [question, {"role": "assistant", "content": row["completion"]}]}
    if have == "messages" and to == "prompt_completion":
        roles = [message["role"] for message in row["messages"]]
        if roles == ["user", "assistant"]:
            return {"prompt": row["messages"][0]["content"], "completion": row["messages"][1]["content"]}
        cure = "Keep one request with its answer in each row."
        raise DataError(f"a chat of {', '.join(roles)} is more than a prompt with its completion", cure=cure)
    raise DataError(f"rows of format {have} cannot become {to}", cure="Mix only sources of the same format.")


def unpair(row: Row) -> list[Row]:
    """Return a pair as one good and one bad answer; any other row as it is."""
    if "chosen" not in row:
        return [row]
    return [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"} for name in ("chosen", "rejected")
    ]
