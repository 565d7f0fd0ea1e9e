"""The page in a real Chromium: first model, upload and train, stop and resume, reload, two people, a killed page."""

import json
import signal

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, drawn_step, queue, read_run, wait_for, wait_for_step

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = [
    {"prompt": f"Write a function that adds {n}.", "completion": f"def add{n}(x):\n    return x + {n}\n"}
    for n in range(60)
]
LONG = ["train.max_steps=400", "checkpoints.every_steps=20", "train.logging_steps=1"]


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


def test_a_dataset_is_seen_by_everybody_and_each_chooses_for_themselves(page, open_tab, tmp_path):
    path = tmp_path / "adders.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    one, two = open_tab(page), open_tab(page)
    for tab in (one, two):
        tab.go("Data")
    page.cli("data", "import", str(path))
    for tab in (one, two):
        expect(tab.page.locator("#data-list [data-pick=adders]")).to_have_attribute("aria-pressed", "true")
        expect(tab.page.locator("#data-rows")).to_contain_text("Write a function that adds 0.")
    page.cli("data", "import", str(path), "--name", "second")
    two.page.locator("#data-list [data-pick=second]").click()
    expect(two.page.locator("#data-title")).to_contain_text("second")
    page.cli("data", "delete", "second")
    expect(two.page.locator("#data-title")).to_contain_text("adders", timeout=15_000)
    expect(one.page.locator("#data-title")).to_contain_text("adders")


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
