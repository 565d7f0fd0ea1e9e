"""Typing into the base model field offers what the Hub has by that name, in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Page

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def page(tmp_path, hub):
    served = Page(tmp_path / "workspace", HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="0")
    served.workspace.mkdir()
    yield served.start()
    served.close()


def test_a_model_is_found_by_a_part_of_its_name_and_goes_into_the_recipe(page, open_tab, hub):
    hub.state.put("models", "bob/coder-1b", {"config.json": "{}"})
    hub.state.put("models", "eve/coder-secret", {"config.json": "{}"}, gated=True)
    tab = open_tab(page).go("Train")
    field = tab.page.locator("#train-base input")
    field.click()
    field.press("Control+a")
    field.press_sequentially("coder-", delay=40)
    expect(tab.page.get_by_role("option", name="eve/coder-secret")).to_contain_text("gated, ask for access")
    tab.shot("model-search")
    tab.page.get_by_role("option", name="bob/coder-1b").click()
    expect(tab.page.locator("#train-yaml textarea")).to_have_value(re.compile("model_name_or_path: bob/coder-1b"))
