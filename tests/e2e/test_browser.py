"""The page in a real Chromium: first model, upload and train, stop and resume, reload, two people, keyboard, contrast."""

import json
import re
import signal
import time

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = [
    {"prompt": f"Write a function that adds {n}.", "completion": f"def add{n}(x):\n    return x + {n}\n"}
    for n in range(60)
]
LONG = ["train.max_steps=400", "checkpoints.every_steps=20", "train.logging_steps=1"]


def wait_for(condition, timeout_s=150, what="it"):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


def all_runs(page):
    return json.loads(page.cli("runs", "list", "--json").stdout)


def read_run(page, run_id):
    return next(run for run in all_runs(page) if run["id"] == run_id)


def queue(page, *overrides, recipe="sft/tiny-cpu"):
    """Submit from a second process, as somebody at a terminal would; the page owns the workspace and starts it."""
    import subprocess
    import sys

    before = {run["id"] for run in all_runs(page)}
    process = subprocess.Popen(
        [sys.executable, "-m", "codex_space", "train", recipe, *overrides, "--workspace", str(page.workspace)],
        env=page.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return wait_for(
            lambda: next((run["id"] for run in all_runs(page) if run["id"] not in before), None), 60, "the run"
        )
    finally:
        process.kill()  # it only looks on
        process.wait()


def wait_for_step(page, run_id, step):
    wait_for(lambda: read_run(page, run_id)["step"] >= step, 150, f"step {step}")


def drawn_step(tab):
    return int(tab.page.locator("#runs-chart [data-step]").get_attribute("data-step") or 0)


def test_the_first_model_from_the_start_tab_to_a_chat(page, open_tab):
    tab = open_tab(page)
    expect(tab.page.locator("#start-train")).to_be_enabled()
    tab.shot("start-empty")
    tab.page.locator("#start-train").click()
    tab.page.locator("#start-train").click(force=True)  # an impatient second press starts nothing
    expect(tab.page.locator("#start-train")).to_be_disabled()
    wait_for(lambda: all_runs(page)[0]["state"] == "succeeded", 280, "the first model")
    tab.shot("start-done")
    names = [run["name"] for run in all_runs(page)]
    assert names == ["First model - tuning", "First model - base model", "First model - tokenizer"]
    tab.go("Runs")
    expect(tab.page.locator("#runs-list")).to_contain_text("First model - tuning")
    wait_for(lambda: drawn_step(tab) > 5, 30, "a drawn curve")
    tab.shot("runs-done")
    tab.go("Playground")
    tab.page.locator("#chat-input textarea").fill("Write a function that adds two numbers.")
    tab.page.locator("#chat-send").click()
    expect(tab.page.locator("#chat-log")).to_contain_text("tokens/s", timeout=90_000)
    tab.shot("playground")


def test_upload_train_watch_stop_reload_resume_and_compare(page, open_tab, tmp_path):
    path = tmp_path / "adders.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tab = open_tab(page)
    tab.go("Data")
    tab.page.locator("#data-upload input[type=file]").set_input_files(path)
    expect(tab.page.locator("#data-result")).to_contain_text("60 rows")
    expect(tab.page.locator("#data-rows")).to_contain_text("Write a function that adds 0.")
    tab.shot("data")
    tab.go("Train")
    text = page.cli("show-command", "sft/tiny-cpu").stdout
    assert text.startswith("codex-space train sft/tiny-cpu")
    yaml = tab.page.locator("#train-yaml textarea")
    recipe = (
        "kind: sft\nname: adders\nmodel: {model_name_or_path: fresh:tiny}\nlora: {r: 4}\ndatasets: [{path: dataset:adders}]\n"
        "train: {max_steps: 400, per_device_train_batch_size: 2, learning_rate: 1.0e-3, logging_steps: 1}\n"
        "checkpoints: {every_steps: 10}\nlaunch: {num_threads: 1}\n"
    )
    yaml.fill(recipe)
    yaml.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("60 rows")
    expect(tab.page.locator("#train-command")).to_contain_text("codex-space train")
    tab.shot("train")
    go = tab.page.locator("#train-go")
    expect(go).to_be_enabled()
    go.dblclick()
    run_id = wait_for(lambda: all_runs(page), 30, "the run")[0]["id"]
    tab.go("Runs")
    wait_for_step(page, run_id, 12)
    wait_for(lambda: drawn_step(tab) >= 10, 30, "the live curve")
    tab.shot("runs-live")
    tab.page.locator("#runs-stop").click()
    wait_for(lambda: read_run(page, run_id)["state"] == "stopped", 90, "the stop")
    assert len(all_runs(page)) == 1, "a double click started two runs"
    stopped_at = read_run(page, run_id)["step"]
    tab.page.reload()
    tab.go("Runs")
    expect(tab.page.locator("#runs-resume")).to_be_enabled()
    tab.page.locator("#runs-resume").click()
    wait_for_step(page, run_id, stopped_at + 5)
    wait_for(lambda: drawn_step(tab) > stopped_at, 30, "the curve to go on")
    tab.page.locator("#runs-cancel").click()
    wait_for(lambda: read_run(page, run_id)["state"] == "stopped", 60, "the cancel")


def test_two_people_see_the_same_and_closing_changes_nothing(page, open_tab):
    run_id = queue(page, *LONG)
    one, two = open_tab(page), open_tab(page, viewport={"width": 390, "height": 844}, color_scheme="dark")
    one.go("Runs")
    two.go("Runs")
    wait_for_step(page, run_id, 5)
    wait_for(lambda: min(drawn_step(one), drawn_step(two)) >= 5, 60, "both curves")
    two.shot("phone-dark-runs")
    one.context.close()
    before = read_run(page, run_id)["step"]
    wait_for_step(page, run_id, before + 5)
    two.page.reload()
    two.go("Runs")
    wait_for(lambda: drawn_step(two) > before, 30, "the curve after a reload")
    assert two.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.cli("runs", "cancel", run_id)
    wait_for(lambda: read_run(page, run_id)["state"] == "stopped", 60, "the cancel")
    # one.context is closed already: the fixture's closing of it again is harmless


def test_a_killed_page_finds_its_worker_again_and_nothing_runs_twice(page, open_tab):
    run_id = queue(page, *LONG)
    wait_for_step(page, run_id, 5)
    page.stop(signal.SIGKILL)
    events = page.workspace / "runs" / run_id / "events.jsonl"
    size = events.stat().st_size
    wait_for(lambda: events.stat().st_size > size, 30, "the worker to train on without its page")
    page.start()
    before = read_run(page, run_id)["step"]
    wait_for_step(page, run_id, before + 5)
    attempts = [line for line in events.read_text().splitlines() if '"e": "attempt"' in line]
    assert len(attempts) == 1
    tab = open_tab(page)
    tab.go("Runs")
    wait_for(lambda: drawn_step(tab) > before, 30, "the curve on the new page")
    tab.page.locator("#runs-cancel").click()
    wait_for(lambda: read_run(page, run_id)["state"] == "stopped", 60, "the cancel")


def test_a_second_run_waits_for_the_first(page, open_tab):
    first, second = queue(page, *LONG), queue(page, "name=second")
    wait_for_step(page, first, 3)
    assert read_run(page, second)["state"] == "queued"
    tab = open_tab(page)
    tab.go("Runs")
    expect(tab.page.locator("#runs-list")).to_contain_text("queued")
    page.cli("runs", "cancel", first)
    wait_for(lambda: read_run(page, second)["state"] in {"preflight", "running"}, 60, "the second to start")
    page.cli("runs", "cancel", second)
    wait_for(lambda: read_run(page, second)["state"] == "stopped", 60, "the second to end")


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
    for name in ("Start", "Data", "Train", "Runs", "Playground", "Space"):
        tab.go(name)
        tab.page.wait_for_timeout(400)  # let the tab's fade end
        tab.shot(f"{name.lower()}-{scheme}")
        assert tab.page.evaluate(CONTRAST) == [], name


def test_every_field_has_a_name_for_people_who_do_not_see_it(page, open_tab):
    tab = open_tab(page)
    for name in ("Start", "Data", "Train", "Runs", "Playground", "Space"):
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
    for name in ("Start", "Data", "Train", "Runs", "Playground", "Space"):
        tab.go(name)
        tab.shot(f"phone-{name.lower()}")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390, name
    assert re.search("codex_space", tab.page.title())
