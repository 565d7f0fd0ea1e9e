"""A training that ends in a GGUF file by itself: asked for on the page and on the command line, over real workers."""

import json
import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard
from playwright.sync_api import expect

from codex_space.core.export_tools import find_converter
from tests.e2e.conftest import REPO, all_runs, queue, read_run, wait_for, wait_for_step

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_converter() is None, reason="llama.cpp is not set up on this machine: make export-tools"),
]


def test_a_command_trains_exports_and_ends_with_a_proven_file(page):
    page.stop()  # then the command itself owns the workspace
    told = page.cli(
        "train", "sft/tiny-cpu", "train.max_steps=4", "after=[export]", "export.gguf=[Q8_0]", "--json", timeout_s=400
    )
    assert told.returncode == 0, told.stderr
    body = json.loads(told.stdout)
    (after,) = body["after"]
    assert (body["status"], after["state"], after["types"]) == ("succeeded", "succeeded", ["Q8_0"])
    found = json.loads((page.workspace / "runs" / after["run"] / "export" / "export.json").read_text())
    (row,) = found["files"]
    assert (row["type"], row["passed"], row["tokens_equal"]) == ("Q8_0", True, True)
    assert found["source"].startswith(f"run:{body['run']}@step-")
    again = page.cli("runs", "list", "--json")
    assert sum(run["kind"] == "export" for run in json.loads(again.stdout)) == 1


def test_the_page_asks_for_it_and_leads_to_it(page, open_tab):
    tab = open_tab(page)
    tab.go("Train")
    field = tab.page.locator("#train-export-types input")
    field.scroll_into_view_if_needed()
    field.click()
    tab.page.get_by_role("option", name="Q8_0: 8 bits").click()
    tab.page.locator("#train-export-types label, #train-export-types span").first.click()
    expect(tab.page.locator("#train-yaml textarea")).to_have_value(re.compile("after:"))
    tab.shot("train-after")
    run_id = queue(page, "train.max_steps=4", "after=[export]", "export.gguf=[Q8_0]", "name=first")
    tab.page.evaluate(f"location.hash = '#runs/{run_id}'")
    expect(tab.page.locator("#runs-after")).to_contain_text("Then export as Q8_0 of the best checkpoint")
    tab.shot("runs-after-planned")
    wait_for(lambda: read_run(page, run_id)["state"] == "succeeded", 200, "the training")
    link = tab.page.locator("#runs-after a")
    expect(link).to_be_visible(timeout=30_000)
    tab.shot("runs-after-queued")
    link.click()
    expect(tab.page.locator("#export-result tbody tr[data-passed=true]")).to_have_count(1, timeout=180_000)
    expect(tab.page.locator("#export-list [data-key]")).to_have_count(1)


def test_a_page_that_is_killed_while_it_trains_queues_the_export_once_when_it_is_back(page):
    run_id = queue(page, "train.max_steps=30", "after=[export]", "export.gguf=[Q8_0]")
    wait_for_step(page, run_id, 3)
    page.process.kill()
    page.process.wait()
    ended = page.workspace / "runs" / run_id / "exit.json"
    wait_for(ended.is_file, 120, "the end of the worker")
    assert not (page.workspace / "runs" / run_id / "after.json").exists()
    page.start()
    wait_for(lambda: exports_of(page), 60, "the export")
    page.process.kill()
    page.process.wait()
    page.start()
    wait_for(lambda: exports_of(page)[0]["state"] == "succeeded", 200, "the end of the export")
    assert len(exports_of(page)) == 1


def exports_of(page):
    return [run for run in all_runs(page) if run["kind"] == "export"]


def test_files_and_both_cards_reach_the_hub_with_the_last_scores(hub, tmp_path):
    recipe = """
kind: sft
name: to take home
model: {model_name_or_path: fresh:tiny}
lora: {r: 4}
datasets: [{path: sample:python-first-chat}]
validation: {fraction: 0.05}
train: {max_steps: 4, per_device_train_batch_size: 2, max_length: 256, logging_steps: 1}
checkpoints: {every_steps: 2}
evaluate: {benchmarks: [first-steps], limit: 3, max_new_tokens: 8}
hub: {repo_id: ada/home}
after: [export]
export: {gguf: [Q8_0], push: true}
"""
    environ = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "codex_space", "train", "-", "--json", "--workspace", str(tmp_path / "workspace")]
    done = subprocess.run(
        command, input=recipe, env=environ, capture_output=True, text=True, timeout=500, cwd=REPO, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert json.loads(done.stdout)["after"][0]["state"] == "succeeded"
    card = ModelCard(hub.state.files("models", "ada/home")["README.md"].decode())
    assert (card.data.library_name, card.data.license, card.data.model_name) == ("peft", "other", "to take home")
    assert {each.dataset_name for each in card.data.eval_results} >= {"first-steps"}
    assert "| data | `sample:python-first-chat` | | apache-2.0 |" in card.text.replace("|  |", "| |")
    assert "problem by problem against the base" in card.text
    assert str(tmp_path) not in str(card)
    assert hub.state.files("models", "ada/home")["curves.svg"].startswith(b"<svg")
    files = hub.state.files("models", "ada/home-GGUF")
    assert {"to-take-home-Q8_0.gguf", "Modelfile", "curves.svg", "README.md"} <= set(files)
    home = ModelCard(files["README.md"].decode())
    assert (home.data.library_name, home.data.pipeline_tag) == ("gguf", "text-generation")
    assert home.data.eval_results
    assert hub.repo("ada/home-GGUF")["private"]
