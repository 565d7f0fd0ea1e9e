"""The tokens of a row in a real Chromium: marks, the way from row to row, hostile text, and the proposed length."""

import json

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import wait_for
from tests.e2e.test_looks import CONTRAST

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = (
    "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\u202e\x00\u200b\ttail \N{PILE OF POO}\n"
)
ROWS = [{"prompt": f"Write {HOSTILE}{n}.", "completion": f"def f():\n    return {n}\n{HOSTILE}"} for n in range(30)]
ROWS.append({"prompt": "A long one.", "completion": "x = 1\n" * 100_000})


def test_every_token_of_a_row_is_shown_with_what_becomes_of_it(page, open_tab, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tab = open_tab(page, color_scheme="dark")
    tab.go("Train")
    text, row = tab.page.locator("#train-yaml textarea"), tab.page.locator("#tokens-view")
    changed = f"kind: sft\nmodel: {{model_name_or_path: 'fresh:tiny'}}\ndatasets: [{{path: {path}}}]\ntrain: {{max_length: 320}}\n"
    text.fill(changed + "validation: {fraction: 0}\n")
    text.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("Ready")
    tab.page.locator("#train-look").focus()
    tab.page.keyboard.press("Enter")
    expect(row).to_contain_text("Row 0 of 0 to 30", timeout=60_000)
    for state in ("trained", "masked", "stop"):
        assert row.locator(f".cs-toks span[data-s={state}]").count() > 0, state
    shown = row.locator(".cs-toks").inner_text()
    assert "<script>window.owned\N{MIDDLE DOT}=\N{MIDDLE DOT}1</script>" in shown
    for sign in (
        "[U+202E]",
        "\N{SYMBOL FOR NULL}",
        "[U+200B]",
        "\N{RIGHTWARDS ARROW}",
        "\N{PILE OF POO}",
        "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}",
    ):
        assert sign in shown, sign
    assert "\u202e" not in shown
    assert tab.page.evaluate("window.owned") is None
    tab.page.wait_for_timeout(400)  # let the card's fade end
    tab.shot("tokens-dark")
    assert tab.page.evaluate(CONTRAST) == []
    tab.page.locator("#tokens-next").click()
    expect(row).to_contain_text("Row 1 of")
    tab.page.locator("#tokens-longest").click()
    expect(row).to_contain_text("tokens are not shown here")
    assert row.locator(".cs-toks span[data-s=cut]").count() > 1000
    tab.page.locator("#tokens-row input").fill("99")
    tab.page.locator("#tokens-row input").press("Enter")
    expect(tab.page.get_by_text("The training rows are 0 to 30.").first).to_be_visible()
    tab.page.locator("#tokens-use").click()
    wait_for(lambda: "max_length: 600064" in text.input_value(), 30, "the proposed length in the recipe")
    expect(tab.page.locator("#tokens-use")).to_contain_text("already", timeout=30_000)
    tab.page.set_viewport_size({"width": 390, "height": 844})
    row.scroll_into_view_if_needed()
    tab.shot("tokens-phone")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
