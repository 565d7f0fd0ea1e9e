"""What a run costs and the Space's sleep, said on Train before the start, in a real Chromium against the test Hub."""

import pytest
from playwright.sync_api import expect

from codex_space.services import audit, leaving
from tests.e2e.test_roles import open_there  # noqa: F401  # the fixture
from tests.fakes.hub_spaces import new_space
from tests.fakes.space import OWNER, SPACE, open_space  # noqa: F401  # the fixture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
RECIPE = (
    "kind: sft\nname: adders\nmodel: {{model_name_or_path: fresh:tiny}}\ndatasets: [{{path: sample:python-first-chat}}]\n"
    "train: {{max_steps: {}}}\n{}"
)


def test_train_says_what_it_costs_and_keeps_the_space_awake(open_space, open_there):  # noqa: F811
    space = open_space(HF_TOKEN="hf_write", ACCELERATOR="l4x1", CODEX_SPACE_VISITORS="look")
    space.hub.state.put("spaces", SPACE, {"app.py": ""})
    space.hub.repo(SPACE, "spaces")["space"] = new_space("l4x1", 900) | {"stage": "RUNNING", "current": "l4x1"}
    tab = open_there(space)
    page = tab.page
    tab.go("Train")
    expect(page.locator("#train-go")).to_have_text("Train")  # a visitor is told no money
    space.provider.person = OWNER
    page.locator("#top-bar").get_by_role("link", name="Sign in").click()
    expect(page.locator("#top-bar")).to_contain_text("ada")
    tab.go("Train")
    yaml, needs, go = page.locator("#train-yaml textarea"), page.locator("#train-estimate"), page.locator("#train-go")
    yaml.fill(RECIPE.format(3_000_000, "launch: {max_cost_usd: 0.5}\n"))
    expect(needs).to_contain_text("sleeps 15 minutes after the last request")
    expect(needs).to_contain_text("Raise launch.max_cost_usd")
    expect(go).to_contain_text("Train (about $")
    tab.shot("money-train")
    page.emulate_media(color_scheme="dark")
    page.reload()
    tab.go("Train")
    yaml.fill(RECIPE.format(3_000_000, "launch: {max_cost_usd: 0.5}\n"))
    expect(needs).to_contain_text("Raise launch.max_cost_usd")
    page.set_viewport_size({"width": 390, "height": 844})
    needs.scroll_into_view_if_needed()
    page.locator("#train-awake").scroll_into_view_if_needed()
    tab.shot("money-train-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    go.click()
    expect(page.locator("#train-result")).to_contain_text("at the least")
    page.set_viewport_size({"width": 1440, "height": 900})
    tab.shot("money-train-dark")

    page.locator("#train-awake").click()
    expect(needs).not_to_contain_text("sleeps 15 minutes")
    expect(page.locator("#train-awake")).to_have_count(0)
    assert leaving.is_kept_awake(space.ctx)
    assert ("ada", "keep awake while runs train") in [(deed.who, deed.verb) for deed in audit.read(space.ctx)]
    yaml.fill(RECIPE.format(3, ""))
    expect(go).to_contain_text("Train (about $0.0")
    tab.shot("money-train-cheap-dark")


def test_the_space_tab_says_what_it_has_cost_and_lets_it_sleep_again(open_space, open_there):  # noqa: F811
    space = open_space(HF_TOKEN="hf_write", ACCELERATOR="l4x1", CODEX_SPACE_VISITORS="look", CODEX_SPACE_KEEP_AWAKE="1")
    tab = open_there(space)
    page = tab.page
    space.provider.person = OWNER
    page.locator("#top-bar").get_by_role("link", name="Sign in").click()
    expect(page.locator("#top-bar")).to_contain_text("ada")
    page.emulate_media(color_scheme="dark")
    page.reload()
    tab.go("Space")
    expect(page.locator("#space-money")).to_contain_text("Since it started")
    expect(page.locator("#space-money")).to_contain_text("not while a run is under way")
    page.locator("#space-awake").scroll_into_view_if_needed()
    tab.shot("money-space-dark")
    page.locator("#space-awake").click()
    expect(page.locator("#space-awake")).to_have_text("Keep awake while runs train")
    assert not leaving.is_kept_awake(space.ctx)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#space-money").scroll_into_view_if_needed()
    tab.shot("money-space-phone")
