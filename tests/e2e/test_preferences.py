"""Pairs of answers in a real Chromium: upload them, train DPO on them, watch the margin, and see sft refuse them."""

import json

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import all_runs, read_run, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

PAIRS = [
    {"prompt": f"Write a function that adds {n}.", "chosen": f"return x + {n}", "rejected": f"print({n})"}
    for n in range(40)
]


def upload(tab, path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tab.go("Data")
    tab.page.locator("#data-upload input[type=file]").set_input_files(path)


def change_form(tab, text):
    beta, loss = tab.page.locator("#train-beta input"), tab.page.locator("#train-loss-type input")
    expect(beta).to_have_value("0.1")
    beta.fill("0.3")
    beta.blur()
    expect(loss).to_have_value("sigmoid")
    loss.fill("sigmoid, sft")  # at once, while the answer to the first change is under way
    loss.press("Enter")
    wait_for(lambda: "beta: 0.3" in text.input_value(), 20, "beta to reach the text")
    wait_for(lambda: "- sft" in text.input_value(), 20, "the losses to reach the text")


def test_pairs_are_uploaded_trained_on_with_dpo_and_their_margin_is_drawn(page, open_tab, tmp_path):
    tab = open_tab(page)
    upload(tab, tmp_path / "wishes.jsonl", PAIRS)
    expect(tab.page.locator("#data-result")).to_contain_text("40 rows, prompt, chosen and rejected")
    expect(tab.page.locator("#data-rows")).to_contain_text("rejected")
    tab.shot("pairs-data")
    text = tab.page.locator("#train-yaml textarea")
    tab.page.locator("#data-result a", has_text="Train on it").click()
    wait_for(lambda: "kind: dpo" in text.input_value(), 20, "a recipe that learns from pairs")
    text.fill(text.input_value().replace("kind: dpo", "kind: sft").replace("  beta: 0.1\n", ""))
    text.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("Set kind: dpo or orpo or reward or kto")
    expect(tab.page.locator("#train-go")).to_be_disabled()
    expect(tab.page.locator("#train-beta")).to_be_hidden()
    tab.shot("pairs-refused-by-sft")
    tab.page.locator("#train-recipe input").fill("DPO")
    tab.page.get_by_role("option", name="Prefer (DPO) · Two answers to each request").click()
    change_form(tab, text)
    text.fill(text.input_value().replace("sample:python-preferences", "dataset:wishes"))
    text.blur()
    expect(tab.page.locator("#train-ready")).to_contain_text("wishes: 40 rows, preference")
    tab.shot("pairs-train")
    expect(tab.page.locator("#train-go")).to_be_enabled()
    tab.page.locator("#train-go").click()
    run_id = wait_for(lambda: all_runs(page), 30, "the run")[0]["id"]
    wait_for(lambda: read_run(page, run_id)["state"] == "succeeded", 150, "the run's end")
    tab.go("Runs")
    metric = tab.page.locator("#runs-metric")
    expect(metric).to_contain_text("Reward margin")
    metric.select_option("rewards/margins")
    tab.shot("pairs-runs")
    tab.go("Playground")
    tab.page.locator("#chat-input textarea").fill("Write a function that adds 3.")
    tab.page.locator("#chat-send").click()
    expect(tab.page.locator("#chat-log")).to_contain_text("tokens/s", timeout=90_000)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**PAIRS[0], "rejected": PAIRS[0]["chosen"]}], "the chosen and the rejected answer are the same"),
        ([{"prompt": "p", "completion": "c", "label": 2}], "holds a number where true or false is due"),
        ([PAIRS[0], {**PAIRS[1], "chosen": ["a"]}], "line 2"),
    ],
)
def test_a_wrong_pair_or_mark_is_refused_by_its_line(page, open_tab, tmp_path, rows, said):
    tab = open_tab(page)
    upload(tab, tmp_path / "wrong.jsonl", rows)
    expect(tab.page.locator("#data-result")).to_contain_text(said)
    assert not list((page.workspace / "datasets").iterdir())
