"""Which format rows have, whose names map to which, and what is said about a wrong one."""

import pytest

from codex_space.core.errors import DataError
from codex_space.data.formats import FORMATS, check_row, convert, normalize, shape_of

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a"}, {"text": "a"}),
        ({"content": "a", "path": "x.py"}, {"text": "a"}),
        ({"code": "a"}, {"text": "a"}),
        ({"prompt": "p", "completion": "c", "id": 7}, {"prompt": "p", "completion": "c"}),
        ({"question": "p", "answer": "c"}, {"prompt": "p", "completion": "c"}),
        ({"text": "p", "code": "c", "task_id": 1}, {"prompt": "p", "completion": "c"}),
        ({"instruction": "p", "output": "c"}, {"prompt": "p", "completion": "c"}),
        ({"instruction": "p", "input": "", "output": "c"}, {"prompt": "p", "completion": "c"}),
        ({"instruction": "p", "input": None, "output": "c"}, {"prompt": "p", "completion": "c"}),
        ({"instruction": "p", "input": "x", "output": "c"}, {"prompt": "p\n\nx", "completion": "c"}),
        ({"instruction": "p", "response": "c", "input": "x"}, {"prompt": "p\n\nx", "completion": "c"}),
        ({"messages": CHAT, "text": "flat"}, {"messages": CHAT}),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
            {"messages": CHAT},
        ),
    ],
)
def test_well_known_columns_are_recognised_and_mapped(row, expected):
    shape = shape_of([row])
    assert check_row(row, shape) is None
    assert normalize(row, shape) == expected
    assert set(FORMATS[shape.format]) <= set(expected)


def test_a_column_absent_from_the_first_row_is_found():
    assert shape_of(
        [{"instruction": "p", "output": "c"}, {"instruction": "p", "input": "x", "output": "c"}]
    ).columns == {
        "prompt": "instruction",
        "context": "input",
        "completion": "output",
    }


def test_a_persons_own_renames_win():
    row = {"prompt": "no", "completion": "c", "title": "yes"}
    assert normalize(row, shape_of([row], {"prompt": "title"})) == {"prompt": "yes", "completion": "c"}
    assert normalize(row, shape_of([row], {"text": "title"})) == {"text": "yes"}


@pytest.mark.parametrize(
    ("renames", "words"),
    [
        ({"promt": "title"}, "'prompt'"),
        ({"text": "titel"}, "'title'"),
        ({"prompt": "title"}, "completion"),
        ({"text": "title", "messages": "title"}, "one format"),
        ({"context": "title"}, "one format"),
    ],
)
def test_renames_that_do_not_fit_are_refused_with_the_nearest_name(renames, words):
    with pytest.raises(DataError, match=words):
        shape_of([{"title": "a"}], renames)


@pytest.mark.parametrize("row", [{}, {"foo": "a", "bar": "b"}, {"Text ": "a"}])
def test_columns_of_no_format_are_refused_by_name(row):
    with pytest.raises(DataError, match="|".join(row) or "none"):
        shape_of([row])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": ["a", "b"]}, "'text' holds a list where text is due"),
        ({"text": {"a": 1}}, "an object"),
        ({"text": 42}, "a number"),
        ({"text": True}, "true or false"),
        ({"text": b"a"}, "bytes"),
        ({"text": None}, "empty"),
        ({"text": " \n"}, "empty"),
        ({"text": "\ud800"}, "surrogate"),
        ({"prompt": "p", "completion": ["c"]}, "'completion' holds a list"),
        ({"prompt": "p", "completion": ""}, "'completion' is empty"),
        ({"instruction": "p", "input": ["x"], "output": "c"}, "list"),
        ({"messages": "a chat"}, "a list of messages is due"),
        ({"messages": []}, "no message"),
        ({"messages": ["hi"]}, "message 1 that is text"),
        ({"messages": [CHAT[0], 3]}, "message 2 that is a number"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "'robot'"),
        ({"messages": [{"content": "a"}]}, "'None'"),
        ({"messages": [CHAT[0]]}, "no assistant message"),
        ({"messages": [{"role": "assistant", "content": ["a"]}]}, "a list as content"),
        ({"messages": [CHAT[0], {"role": "assistant", "content": None}]}, "message 2 that has no content"),
        ({"messages": [{"role": "assistant", "content": "\udfff"}]}, "surrogate"),
        ({"messages": [{"role": ["x"], "content": {}}]}, "role"),
    ],
)
def test_a_wrong_row_is_described(row, words):
    assert words in (check_row(row, shape_of([row])) or "")


def test_a_row_without_the_column_says_missing_not_empty():
    assert check_row({"other": 1}, shape_of([{"text": "a"}])) == "the column 'text' is missing"


def test_rows_become_text_or_a_chat_and_nothing_else():
    pair = {"prompt": "hi", "completion": "yes"}
    assert convert(pair, "text") == convert({"messages": CHAT}, "text") == {"text": "hi\n\nyes"}
    assert convert(pair, "messages") == {"messages": CHAT}
    with pytest.raises(DataError, match="text cannot become messages"):
        convert({"text": "a"}, "messages")
    with pytest.raises(DataError, match="messages cannot become prompt_completion"):
        convert({"messages": CHAT}, "prompt_completion")
