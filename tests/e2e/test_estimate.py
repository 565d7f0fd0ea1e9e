"""The estimate beside the Train button, in a real Chromium: it follows the form, the hardware and the recipe."""

import zipfile

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


def test_the_recipe_is_handed_out_for_plain_trl(page, open_tab, tmp_path):
    tab = open_tab(page)
    tab.go("Train")
    link = tab.page.locator("#train-taken a").first
    tab.page.locator("#train-take-trl").click()
    expect(link).to_be_visible(timeout=90_000)
    with tab.page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "taken.zip")
    with zipfile.ZipFile(tmp_path / "taken.zip") as archive:
        names = set(archive.namelist())
        assert {"tiny-chat/trl.yaml", "tiny-chat/data/train.parquet", "tiny-chat/model/model.safetensors"} <= names
        assert "trl sft --config trl.yaml" in archive.read("tiny-chat/trl.yaml").decode()
    tab.shot("taken")
    text = tab.page.locator("#train-yaml textarea")
    text.fill("kind: orpo\nmodel: {model_name_or_path: 'fresh:tiny'}\ndatasets: [{path: sample:python-preferences}]\n")
    text.blur()
    tab.page.locator("#train-take-trl").click()
    expect(tab.page.get_by_text("the trl command has no kind orpo")).to_be_visible()


def test_a_machine_of_ones_own_says_no_price(page, open_tab):
    tab = open_tab(page)
    tab.go("Train")
    expect(tab.page.locator("#train-estimate")).to_contain_text("no charge")
    expect(tab.page.locator("#train-go")).to_have_text("Train")
    expect(tab.page.locator("#train-awake")).to_have_count(0)
