"""Which format rows have, whose names map to which, and what is said about a wrong one."""

import pytest

from codex_space.core.errors import DataError
from codex_space.data.formats import (
    FORMATS,
    check_row,
    convert,
    format_of,
    normalize,
    require_kind,
    shape_of,
    unpair,
)

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
    assert convert({"messages": CHAT}, "prompt_completion") == pair
    with pytest.raises(DataError, match="user, assistant, user is more than a prompt"):
        convert({"messages": [*CHAT, CHAT[0]]}, "prompt_completion")


USER, GOOD, BAD = CHAT[0], CHAT[1], {"role": "assistant", "content": "no"}
PAIR = {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "hi", "chosen": "yes", "rejected": "no"}, PAIR),
        ({"question": "hi", "chosen": "yes", "rejected": "no", "system": "x"}, PAIR),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, PAIR),
        ({"prompt": "hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, PAIR),
        ({"prompt": "hi", "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"messages": CHAT, "chosen": [USER, GOOD], "rejected": [USER, BAD]}, {"messages": CHAT}),
        (
            {"chosen": "H: hi\n\nA: yes", "rejected": "H: hi\n\nA: yet"},
            {"prompt": "H: hi\n\nA:", "chosen": " yes", "rejected": " yet"},
        ),
        ({"chosen": "say it", "rejected": "say it twice"}, {"prompt": "say", "chosen": " it", "rejected": " it twice"}),
        ({"prompt": "hi", "completion": "yes", "label": True}, {"prompt": [USER], "completion": [GOOD], "label": True}),
        (
            {"prompt": "hi", "response": "no", "label": " False"},
            {"prompt": [USER], "completion": [BAD], "label": False},
        ),
        (
            {"prompt": [USER], "completion": [BAD], "label": False},
            {"prompt": [USER], "completion": [BAD], "label": False},
        ),
        ({"prompt": "p", "completion": "c", "label": "python"}, {"prompt": "p", "completion": "c"}),
    ],
)
def test_pairs_and_marked_answers_are_recognised_with_and_without_a_prompt(row, expected):
    shape = shape_of([row])
    assert check_row(row, shape) is None
    assert normalize(row, shape) == expected
    assert format_of(expected) == shape.format


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "hi", "chosen": "yes", "rejected": "yes"}, "are the same"),
        ({"prompt": "hi", "chosen": "yes", "rejected": None}, "'rejected' is empty"),
        ({"prompt": "hi", "chosen": 3, "rejected": "no"}, "'chosen' holds a number where text is due"),
        ({"prompt": "", "chosen": "yes", "rejected": "no"}, "'prompt' is empty"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [BAD]}, "no assistant message"),
        ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [BAD]}, "nothing in common"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "nothing in common"),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD, USER, BAD]}, "chosen answer holds nothing but the prompt"),
        ({"chosen": [USER, USER, GOOD], "rejected": [USER, GOOD]}, "chosen answer begins with a message of the user"),
        ({"chosen": [USER, GOOD], "rejected": [USER, {"role": "robot", "content": "x"}]}, "'robot'"),
        ({"chosen": "one", "rejected": "two"}, "nothing in common"),
        ({"chosen": "say ", "rejected": "say x"}, "chosen answer holds nothing"),
        ({"prompt": "hi", "completion": "yes", "label": 1}, "'label' holds a number where true or false is due"),
        ({"prompt": "hi", "completion": "yes", "label": "0"}, "'label' holds text where true or false is due"),
        ({"prompt": "hi", "completion": "yes", "label": None}, "'label' is empty where true or false is due"),
        ({"prompt": "hi", "completion": "yes", "label": [True]}, "'label' holds a list"),
        ({"prompt": "hi", "completion": "", "label": True}, "'completion' is empty"),
    ],
)
def test_what_is_no_pair_or_no_mark_is_described(row, words):
    assert words in (check_row(row, shape_of([row])) or "")


def test_renames_reach_pairs_and_marks():
    row = {"ask": "hi", "good": "yes", "bad": "no", "fine": True}
    assert normalize(row, shape_of([row], {"prompt": "ask", "chosen": "good", "rejected": "bad"})) == PAIR
    marked = {"prompt": "ask", "completion": "good", "label": "fine"}
    assert normalize(row, shape_of([row], marked))["label"] is True
    # the chosen answers alone, as a plain prompt and completion
    assert (
        shape_of([{"prompt": "p", "chosen": "c", "rejected": "r"}], {"completion": "chosen"}).format
        == "prompt_completion"
    )
    with pytest.raises(DataError, match="'rejected'"):
        shape_of([row], {"prompt": "ask", "chosen": "good"})


def test_a_kind_that_cannot_learn_from_a_format_names_those_that_can():
    with pytest.raises(DataError, match="prompt, chosen and rejected, and kind sft learns") as caught:
        require_kind("sft", "preference", "dataset:pairs")
    assert "dpo or orpo or reward or kto" in caught.value.cure
    with pytest.raises(DataError, match="kind dpo") as caught:
        require_kind("dpo", "unpaired_preference", "x")
    assert "kind: kto" in caught.value.cure
    for kind in ("dpo", "orpo", "reward", "kto"):
        require_kind(kind, "preference", "x")


def test_a_pair_becomes_a_good_and_a_bad_answer():
    good, bad = unpair(PAIR)
    assert (good["completion"], good["label"], bad["completion"], bad["label"]) == ([GOOD], True, [BAD], False)
    assert unpair(good) == [good]
    with pytest.raises(DataError, match="cannot become text"):
        convert(PAIR, "text")
