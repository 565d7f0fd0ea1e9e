"""Who is let in: this machine's own browser, or whoever has the password; never another site's script."""

import base64
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from codex_space.core.actor import Actor, May
from codex_space.core.settings import Secret, Settings
from codex_space.services.roles import Roles
from codex_space.services.signed_out import SignedOut
from codex_space.store.db import Database
from codex_space.ui.access import AccessMiddleware, Asked, judge

NOBODY, HERE = Actor("visitor", May.NOTHING), Actor("this machine", May.ACT)
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def basic(password, user="anyone"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def open_page(serve_app, tmp_path_factory):
    def make(host="127.0.0.1", password=None):
        settings = Settings(
            workspace=tmp_path_factory.mktemp("workspace"), host=host, password=Secret(password) if password else None
        )

        async def reached(request):
            return PlainTextResponse("inside")

        inner = Starlette(routes=[Route("/{path:path}", reached, methods=METHODS)])
        db = Database.open(settings.workspace / "codex_space.db")
        return serve_app(AccessMiddleware(inner, settings, Roles(settings, time.time), SignedOut(db, time.time)))

    return make


@pytest.fixture(scope="module")
def local(open_page):
    return open_page()


@pytest.fixture(scope="module")
def guarded(open_page):
    return open_page(host="0.0.0.0", password="s3cret wörd:with colon")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "localhost."])
def test_on_loopback_the_page_opens_under_this_machines_names(local, name):
    assert local.ask(host=f"{name}:{local.port}").text == "inside"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "localhost.evil.example:1",
        "10.0.0.1",
        "",
        None,
        "[::1",
        "a@b:80",
    ],
)
def test_on_loopback_another_name_that_leads_here_is_refused(local, host):
    answer = local.ask(host=host)
    assert answer.status in {400, 403}
    assert "inside" not in answer.text


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://", ""]
)
def test_a_change_asked_by_another_site_is_refused(local, method, origin):
    assert local.ask("/gradio_api/queue/join", method, b"{}", origin=origin).status == 403


def test_a_change_by_a_browser_that_says_cross_site_is_refused_without_an_origin(local):
    assert local.ask("/x", "POST", b"", sec_fetch_site="cross-site").status == 403
    assert local.ask("/x", "POST", b"", sec_fetch_site="same-site").status == 403


def test_a_change_by_the_page_itself_or_by_a_program_passes(local):
    assert (
        local.ask("/x", "POST", b"", origin=f"http://127.0.0.1:{local.port}", sec_fetch_site="same-origin").text
        == "inside"
    )
    assert local.ask("/x", "POST", b"").text == "inside"


def test_a_script_of_another_site_reads_nothing_and_the_pages_own_does(local):
    assert local.ask("/api/overview", origin="https://evil.example").status == 403
    assert local.ask("/api/overview", origin=f"http://127.0.0.1:{local.port}").text == "inside"
    assert local.ask("/api/overview", sec_fetch_site="cross-site").text == "inside", "a link from elsewhere"


def test_without_a_password_on_an_open_address_everything_but_health_is_shut(open_page):
    page = open_page(host="0.0.0.0")
    for path in ["/", "/config", "/gradio_api/info", "/api/overview", "/health/../", "/healthz", "/HEALTH", "//health"]:
        answer = page.ask(path, host="a-space.example")
        assert (answer.status, "inside" in answer.text) == (403, False), path
        assert "CODEX_SPACE_PASSWORD" in answer.text
    assert page.ask("/gradio_api/queue/join", "POST", b"{}", host="a-space.example").status == 403
    assert page.ask("/health", host="a-space.example").text == "inside"
    assert page.ask("/health", "POST", b"", host="a-space.example").status == 403


def test_the_password_opens_every_path_with_any_user_name(guarded):
    for user in ["", "ada", "x"]:
        given = basic("s3cret wörd:with colon", user)
        assert guarded.ask("/config", host="a-space.example", authorization=given).text == "inside"


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Basic", "Basic ", "Basic !!!", "Basic " + "A" * 4001, basic(""), basic("s3cret"), basic("S3CRET WÖRD:WITH COLON"),
        basic("s3cret wörd:with colon "), "Bearer s3cret wörd:with colon".encode().decode("latin-1"), "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff\xfe").decode(),
    ],
)  # fmt: skip
def test_anything_but_the_password_is_asked_for_it(guarded, authorization):
    answer = guarded.ask("/api/overview", host="a-space.example", authorization=authorization)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert "inside" not in answer.text


def test_the_password_does_not_let_another_site_change_things(guarded):
    given = basic("s3cret wörd:with colon")
    answer = guarded.ask("/x", "POST", b"", host="a-space.example", authorization=given, origin="https://evil.example")
    assert answer.status == 403
    mine = guarded.ask("/x", "POST", b"", host="a-space.example", authorization=given, origin="https://a-space.example")
    assert mine.text == "inside"


def test_health_needs_no_password(guarded):
    assert guarded.ask("/health", host="a-space.example").text == "inside"


def test_a_refusal_is_never_kept_by_a_cache(guarded):
    assert guarded.ask("/").headers["cache-control"] == "no-store"


def judged(settings, method, path, client):
    return judge(settings, Asked(method, path, {"host": "127.0.0.1:7860"}, client), NOBODY)


def test_only_the_two_questions_gradio_asks_itself_pass_without_a_password(tmp_path):
    settings = Settings(workspace=tmp_path, host="0.0.0.0", password=Secret("x"))
    asked = [("HEAD", "/"), ("GET", "/gradio_api/startup-events")]
    assert [judged(settings, *pair, "127.0.0.1") for pair in asked] == [None, None]
    assert all(judged(settings, *pair, "10.1.2.3") for pair in asked)
    assert judged(settings, "GET", "/", "127.0.0.1").status == 401
    assert judged(settings, "POST", "/gradio_api/startup-events", "127.0.0.1").status == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"])
def test_what_a_proxys_headers_claim_makes_nobody_this_machine(guarded, name):
    """Over real HTTP, where uvicorn believes such headers of a proxy on this machine."""
    for value in ("127.0.0.1", "localhost", "for=127.0.0.1", "127.0.0.1, 127.0.0.1", "::1", "https"):
        for method, path in (("HEAD", "/"), ("GET", "/gradio_api/startup-events"), ("GET", "/api/runs")):
            assert guarded.ask(path, method, host="a-space.example", **{name.lower(): value}).status == 401, (
                name,
                value,
            )


@pytest.mark.parametrize("name", ["x-forwarded-host", "x-host", "x-original-host", "forwarded"])
def test_a_made_up_host_opens_neither_loopback_nor_another_sites_way_in(local, guarded, name):
    forged = {name: f"127.0.0.1:{local.port}"}
    assert local.ask(host="evil.example", **forged).status == 403
    assert local.ask("/x", "POST", b"", origin="https://evil.example", **{name: "evil.example"}).status == 403
    given = {"authorization": basic("s3cret wörd:with colon"), "host": "a-space.example"}
    asked = {**given, name: "evil.example", "x_forwarded_proto": "https", "origin": "https://evil.example"}
    assert guarded.ask("/x", "POST", b"", **asked).status == 403
    assert guarded.ask("/x", **asked).status == 403
    own = {**given, name: "evil.example", "origin": "https://a-space.example"}
    assert guarded.ask("/x", "POST", b"", **own).text == "inside", "nor do they shut the page's own way in"


def test_a_malformed_host_or_origin_is_refused_and_not_an_error(tmp_path):
    settings = Settings(workspace=tmp_path)
    assert judge(settings, Asked("GET", "/", {"host": "[oops"}), HERE).status == 403
    assert judge(settings, Asked("POST", "/", {"host": "127.0.0.1", "origin": "http://[oops"}), HERE).status == 403
