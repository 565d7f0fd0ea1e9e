"""Signing in and looking on, in a real Chromium."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from tests.fakes.space import OWNER, STRANGER, open_space  # noqa: F401  # the fixture

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
]


GRADIOS_OWN = ("https://fonts.googleapis.com/", "https://huggingface.co/api/spaces/")
"""What Gradio's page asks for when it takes itself to be on a Space."""


@dataclass
class At:
    address: str


@pytest.fixture
def open_there(open_tab):
    tabs = []

    def open_one(space, **options):
        tabs.append(open_tab(At(f"http://127.0.0.1:{space.port}"), **options))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.outside = [url for url in tab.outside if not url.startswith(GRADIOS_OWN)]


def test_a_visitor_looks_then_signs_in_and_acts_then_leaves(open_space, open_there):  # noqa: F811
    space = open_space(CODEX_SPACE_VISITORS="look")
    tab = open_there(space)
    bar = tab.page.locator("#top-bar")
    expect(bar).to_contain_text("Visitor, looking only")
    expect(tab.page.locator(".cs-looking")).to_contain_text("Sign in to act")
    button = tab.page.locator("#start-train")
    expect(button).to_have_attribute("aria-disabled", "true")
    tab.shot("roles-visitor")
    for name in ("Data", "Train", "Pretrain", "Runs", "Evaluate", "Export", "Playground", "Space", "Start"):
        tab.go(name)
    expect(tab.page.locator(".toast-body")).to_have_count(0)
    button.focus()
    tab.page.keyboard.press("Enter")  # what looks disabled can still be pressed by hand
    expect(tab.page.get_by_text("for those who may act")).to_be_visible()

    space.provider.person = OWNER
    bar.get_by_role("link", name="Sign in").click()
    expect(bar).to_contain_text("ada")
    expect(bar).not_to_contain_text("looking only")
    expect(button).not_to_have_attribute("aria-disabled", "true")
    tab.shot("roles-owner")
    button.click()
    expect(tab.page.locator("#start-tab")).to_contain_text("It is being trained now")

    bar.get_by_role("link", name="Sign out").click()
    expect(bar).to_contain_text("Visitor, looking only")
    space.provider.person = STRANGER
    bar.get_by_role("link", name="Sign in").click()
    expect(bar).to_contain_text("bob, looking only")
    expect(tab.page.locator(".cs-looking")).to_contain_text("bob is not lab, whose page this is")


def test_where_visitors_may_not_look_they_find_the_way_in(open_space, open_there):  # noqa: F811
    space = open_space()
    tab = open_there(space, viewport={"width": 390, "height": 844})
    expect(tab.page.locator("body")).to_contain_text("This page is for the members of lab")
    tab.shot("roles-shut-phone")
    space.provider.person = OWNER
    with tab.context.expect_page() as opened:
        tab.page.get_by_role("link", name="Sign in with Hugging Face").click()
    expect(opened.value.locator("#top-bar")).to_contain_text("ada")


def test_a_picture_on_another_site_signs_nobody_out(open_space, open_there):  # noqa: F811
    space = open_space()
    tab = open_there(space)
    space.provider.person = OWNER
    with tab.context.expect_page() as opened:
        tab.page.get_by_role("link", name="Sign in with Hugging Face").click()
    expect(opened.value.locator("#top-bar")).to_contain_text("ada")

    asked = threading.Event()
    body = f"<img src='http://127.0.0.1:{space.port}/logout' onerror='done=1' onload='done=1'>".encode()

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)
            asked.set()

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    third = tab.context.new_page()
    third.goto(f"http://localhost:{server.server_port}/")  # another site than 127.0.0.1 to a browser
    third.wait_for_function("window.done === 1")
    server.shutdown()
    assert asked.is_set()
    opened.value.reload()
    expect(opened.value.locator("#top-bar")).to_contain_text("ada")
    opened.value.locator("#top-bar").get_by_role("link", name="Sign out").click()
    expect(opened.value.locator("body")).to_contain_text("This page is for the members of lab")
