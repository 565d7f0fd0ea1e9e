"""The page in a real Chromium: wrong files, the keyboard alone, contrast, names for every field, a phone."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.jsonl", b'{"prompt": "a", "completion": "b"}\n' * 40 + b"not json\n", "line 41"),
        ("empty.jsonl", b"", "empty"),
        ("columns.jsonl", b'{"question_text": "a", "number": 3}\n', "columns"),
        ("latin.csv", "prompt,completion\nWas hei\u00dft das?,\u00dcbung\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_at_once_and_the_reason_stays(page, open_tab, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    tab = open_tab(page)
    tab.go("Data")
    tab.page.locator("#data-upload input[type=file]").set_input_files(path)
    expect(tab.page.locator("#data-result")).to_contain_text(said)
    tab.go("Train").go("Data")
    expect(tab.page.locator("#data-result")).to_contain_text(said)
    assert not list((page.workspace / "datasets").iterdir())
    tab.shot(f"refused-{name}")


def test_the_whole_first_run_by_keyboard_alone(page, open_tab):
    tab = open_tab(page)
    keys = tab.page.keyboard

    def tab_to(selector, limit=80):
        for _ in range(limit):
            keys.press("Tab")
            if tab.page.evaluate("s => !!document.activeElement.closest(s)", selector):
                outline = tab.page.evaluate(
                    "() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.boxShadow; }"
                )
                assert outline != "nonenone", f"{selector} shows no focus"
                return
        raise AssertionError(f"{selector} cannot be reached by Tab")

    tab_to("#start-train")
    keys.press("Enter")
    wait_for(lambda: all_runs(page) and all_runs(page)[0]["state"] == "succeeded", 280, "the first model")
    tab.page.reload()
    tab_to("[role=tab]")
    for _ in range(8):
        if tab.page.evaluate("() => document.activeElement.textContent.trim()") == "Playground":
            break
        keys.press("ArrowRight")
    keys.press("Enter")
    tab_to("#chat-input")
    keys.type("Write a function that adds two numbers.")
    keys.press("Enter")
    expect(tab.page.locator("#chat-log")).to_contain_text("tokens/s", timeout=90_000)


CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const parse = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return m.length === 3 ? [...m, 1] : m; };
  const behind = (node) => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c[3] > .95) return c; } return [255, 255, 255, 1]; };
  const bad = [];
  for (const node of document.querySelectorAll('main *, .gradio-container *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    const box = node.getBoundingClientRect(), style = getComputedStyle(node);
    if (!own || !box.width || !box.height || style.visibility !== 'visible' || node.closest('[disabled], [aria-disabled=true], .disabled')) continue;
    let opacity = 1; for (let up = node; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    if (opacity < .1) continue;
    const front = parse(style.color), back = behind(node), a = luminance(front), b = luminance(back);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 700);
    if (front[3] > .95 && ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className} "${node.textContent.trim().slice(0, 40)}"`);
  }
  return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(page, open_tab, scheme):
    tab = open_tab(page, color_scheme=scheme)
    for name in ("Start", "Data", "Train", "Runs", "Evaluate", "Playground", "Space"):
        tab.go(name)
        tab.page.wait_for_timeout(400)  # let the tab's fade end
        tab.shot(f"{name.lower()}-{scheme}")
        assert tab.page.evaluate(CONTRAST) == [], name


def test_every_field_has_a_name_for_people_who_do_not_see_it(page, open_tab):
    tab = open_tab(page)
    for name in ("Start", "Data", "Train", "Runs", "Evaluate", "Playground", "Space"):
        tab.go(name)
        nameless = tab.page.evaluate(
            """() => [...document.querySelectorAll('button, input, textarea, select')].filter(node => {
                const box = node.getBoundingClientRect();
                if (!box.width || !box.height || getComputedStyle(node).visibility !== 'visible') return false;
                const label = node.labels && node.labels.length && node.labels[0].textContent.trim();
                return !(label || node.getAttribute('aria-label') || node.textContent.trim() || node.title || node.getAttribute('aria-labelledby'));
            }).map(node => node.outerHTML.slice(0, 160))"""
        )
        assert nameless == [], name


def test_the_page_is_usable_on_a_phone(page, open_tab):
    tab = open_tab(page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for name in ("Start", "Data", "Train", "Runs", "Evaluate", "Playground", "Space"):
        tab.go(name)
        tab.shot(f"phone-{name.lower()}")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert re.search("codex_space", tab.page.title())
