"""The Space tab in a real Chromium, against the test Hub: a copy is made, other hardware is asked for."""

import pytest
from playwright.sync_api import expect

from codex_space.services import audit, leaving
from codex_space.services import space as space_service
from tests.e2e.test_roles import open_there  # noqa: F401  # the fixture
from tests.fakes.space import OWNER, SPACE, open_space  # noqa: F401  # the fixture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
]
FRESH = "a-password-of-the-copy"  # pragma: allowlist secret


def test_the_owner_copies_the_space_and_switches_its_hardware(open_space, open_there):  # noqa: F811
    space = open_space(HF_TOKEN="hf_write", ACCELERATOR="l4x1", CODEX_SPACE_VISITORS="look")
    space.hub.state.put("spaces", SPACE, {"app.py": ""})
    tab = open_there(space)
    space.provider.person = OWNER
    tab.page.locator("#top-bar").get_by_role("link", name="Sign in").click()
    expect(tab.page.locator("#top-bar")).to_contain_text("ada")
    tab.go("Space")
    page = tab.page
    expect(page.locator("#space-money")).to_contain_text("$0.80 an hour")
    expect(page.locator("#space-checklist")).to_contain_text("First model")
    tab.shot("space-cards")

    page.locator("#copy-to input, #copy-to textarea").fill("lab/copy")
    page.locator("#copy-password input").fill(FRESH)
    page.locator("#copy-go").click()
    expect(page.locator("#copy-result")).to_contain_text("lab/copy")
    expect(page.locator("#copy-password input")).to_have_value("")
    copy = space.hub.repo("lab/copy", "spaces")
    assert copy["private"]
    assert copy["space"]["secrets"] == {"CODEX_SPACE_PASSWORD": FRESH}

    page.locator("#space-switch").click()
    expect(page.locator(".toast-body")).to_contain_text("no hardware is chosen")
    page.locator("#space-flavor input").click()
    page.get_by_role("option", name="a100-large").first.click()
    page.locator("#space-switch").click()
    expect(page.locator("#space-move")).to_contain_text("It moves to a100-large")
    wish = leaving.wished(space.ctx)
    assert wish is not None
    assert wish["to"] == "a100-large"
    page.locator("#space-stay").click()
    expect(page.locator("#space-move")).not_to_contain_text("It moves to")
    assert leaving.wished(space.ctx) is None


def test_the_owner_looks_for_updates_and_takes_them_over(open_space, open_there):  # noqa: F811
    served = open_space(HF_TOKEN="hf_write", CODEX_SPACE_VISITORS="look", CODEX_SPACE_ORIGIN="maker/studio")
    hub, first = served.hub, {"app.py": "one", "lib.py": "one", "README.md": "---\nsdk: docker\n---\nhello\n"}
    hub.state.put("spaces", "maker/studio", first)
    space_service.duplicate(served.ctx, SPACE, from_id="maker/studio")
    tab = open_there(served)
    served.provider.person = OWNER
    tab.page.locator("#top-bar").get_by_role("link", name="Sign in").click()
    expect(tab.page.locator("#top-bar")).to_contain_text("ada")
    tab.go("Space")
    page = tab.page
    page.locator("#update-look").click()
    expect(page.locator("#update-found")).to_contain_text("Up to date")

    hub.state.put("spaces", "maker/studio", {**first, "app.py": "two", "lib.py": "two", "new.py": "new"})
    hub.state.put("spaces", SPACE, {**first, "lib.py": "ours"})
    page.locator("#update-look").click()
    expect(page.locator("#update-found")).to_contain_text("changed in this copy too")
    tab.shot("space-updates")
    page.locator("#update-take").click()
    expect(page.locator(".toast-body")).to_contain_text("not agreed to")
    page.locator("#update-agreed input").check()
    page.locator("#update-take").click()
    expect(page.locator(".toast-body").last).to_contain_text("lib.py")
    page.locator("#update-own").get_by_text("keep this copy's").click()
    page.locator("#update-take").click()
    expect(page.locator("#update-found")).to_contain_text("Updated")
    files = hub.state.files("spaces", SPACE)
    assert (files["app.py"], files["lib.py"], files["new.py"]) == (b"two", b"ours", b"new")
    assert audit.read(served.ctx)[0].verb == "update the Space"
