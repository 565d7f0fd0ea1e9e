"""The token view as HTML and as plain text: signs for what cannot be seen, nothing from a row taken for markup."""

import pytest

from codex_space.services.tokens import describe_counts, pieces, render_plain
from codex_space.ui.views.tokens import render_counts, render_row

COUNTS = {
    "num_rows": 5000, "num_looked_at": 2000, "total_tokens": 100, "trained_tokens": 40, "trained_share": 0.5,
    "truncated_tokens": 20, "truncated_share": 0.2, "stop_token": "<|end|>", "is_stop_trained": False, "max_length": 64,
    "proposed_max_length": 128, "longest_row": 7, "longest_tokens": 120,
    "histogram": [{"upto": 64, "count": 3}, {"upto": 128, "count": 1}],
}  # fmt: skip


def side(tokens, name="", hidden=0, hidden_at=0):
    listed = [{"id": at, "text": text, "state": state} for at, (text, state) in enumerate(tokens)]
    counts = {state: sum(each["state"] == state for each in listed) for state in ("trained", "masked", "cut", "stop")}
    return {
        "name": name, "num_tokens": len(listed) + hidden, "counts": counts, "num_hidden": hidden,
        "hidden_at": hidden_at, "tokens": listed,
    }  # fmt: skip


def looked(*sides):
    return {"counts": COUNTS, "row": 3, "num_rows": 5000, "sides": list(sides)}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a·b"),
        ("\n", "↵\n"),
        ("\t", "→"),
        ("\r\x00\x1b", "␍␀␛"),
        ("\x7f\x85", "[U+007F][U+0085]"),
        ("\u202e\u2066\u200b\ufeff", "[U+202E][U+2066][U+200B][U+FEFF]"),
        ("\u00a0\u2028\ue000\ud800", "[U+00A0][U+2028][U+E000][U+D800]"),
        ("é\u0301💩", "é\u0301💩"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_named(text, shown):
    assert "".join(piece for piece, _ in pieces(text)) == shown


def test_a_row_is_never_taken_for_markup():
    html = render_row(looked(side([("<script>x</script>", "trained"), ("</span>\ud800&amp;", "cut")], name="<b>")))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;/span&gt;" in html
    assert "&amp;amp;" in html
    assert "<b><b>" not in html
    html.encode()


def test_both_answers_stand_side_by_side_and_a_gap_says_how_much_it_hides():
    html = render_row(
        looked(side([("a", "masked"), ("b", "stop")], "chosen", 9_000, 1), side([("c", "cut")], "rejected"))
    )
    assert html.index("Chosen") < html.index("9,000 tokens are not shown here") < html.index("Rejected")
    assert (
        html.index('data-s=masked title="masked')
        < html.index("9,000 tokens are not shown")
        < html.index("data-s=stop title")
    )


def test_shares_are_said_with_the_stop_token_that_is_not_trained():
    html = render_counts(COUNTS)
    for part in ("50.0%", "20.0%", "&lt;|end|&gt;", "never trained", "told from 2,000 of them", "<b>128</b>"):
        assert part in html, part
    assert html.count("data-s=cut") == 1
    assert "never trained" in describe_counts(COUNTS)
    assert render_counts({**COUNTS, "max_length": None, "histogram": []}).count("<li") == 0


def test_in_a_terminal_each_line_begins_with_its_mark():
    row = side([("ab", "masked"), ("c\nd", "trained"), ("!", "stop"), ("x\n", "cut"), ("y", "cut")], "chosen", 5, 4)
    assert render_plain(looked(row)).splitlines()[1:] == [
        "row 3, chosen: 10 tokens, 1 trained (+), 1 masked (.), 2 cut off (-), 1 stop (#)",
        ". ab",
        "+ c↵",
        "+ d",
        "# !",
        "- x↵",
        "  ... 5 tokens are not shown ...",
        "- y",
    ]
