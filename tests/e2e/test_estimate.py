"""The estimate beside the Train button, in a real Chromium: it follows the form, the hardware and the recipe."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_estimate_follows_form_and_hardware(page, open_tab):
    tab = open_tab(page)
    tab.go("Train")
    needs = tab.page.locator("#train-estimate")
    expect(needs).to_contain_text("Fits: peak about")
    expect(needs).to_contain_text("this machine")
    yaml = tab.page.locator("#train-yaml textarea")
    yaml.fill(
        "kind: sft\nmodel: {model_name_or_path: Qwen/Qwen2.5-Coder-7B, load_in_4bit: true}\nlora: {r: 16}\n"
        "datasets: [{path: sample:python-first-chat}]\ntrain: {max_steps: 300, per_device_train_batch_size: 1, max_length: 2048}\n"
    )
    yaml.blur()
    tab.page.locator("#train-hardware input").click()
    tab.page.get_by_role("option", name="l4x1").click()
    expect(needs).to_contain_text("l4x1 (L4, 22 GiB)")
    expect(needs).to_contain_text("Fits: peak about 7")
    expect(needs).to_contain_text("$")
    needs.locator("summary").click()
    expect(needs).to_contain_text("Weights")
    tab.shot("estimate")
    batch = tab.page.locator("#train-batch input")
    batch.fill("64")
    batch.blur()
    expect(needs).to_contain_text("Does not fit")
    tab.shot("estimate-too-large")
    yaml.fill("kind: [")
    yaml.blur()
    expect(needs).to_have_text("")
