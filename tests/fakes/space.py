"""A page as it runs on a Space, with a local OpenID provider and the test Hub, and people who sign in there."""

import http.cookies
import json
import re
import socket
import time
from urllib.parse import urlsplit

import gradio.oauth
import pytest

from codex_space.core.settings import read_settings
from codex_space.services.context import open_context
from codex_space.ui import serve
from tests.fakes.openid import CLIENT, SCOPES, Provider, ProviderState
from tests.ui.conftest import Served, ask

SPACE = "lab/studio"
OWNER = {"name": "ada", "orgs": ["lab"], "roles": {"lab": "admin"}}
READER = {"name": "rita", "orgs": ["lab"], "roles": {"lab": "read"}}
STRANGER = {"name": "bob", "orgs": ["elsewhere"], "roles": {"elsewhere": "admin"}}


class Clock:
    """Stands still until a test moves it."""

    now = 1_800_000_000.0

    def __call__(self):
        return self.now


class Person:
    """A browser: keeps its cookie, follows the sign-in by hand."""

    def __init__(self, space):
        self.space, self.cookie = space, ""

    def ask(self, path="/", method="GET", body=None, **headers):
        if self.cookie:
            headers.setdefault("cookie", f"session={self.cookie}")
        answer = ask(self.space.port, path, method, body, **headers)
        jar = http.cookies.SimpleCookie(answer.headers.get("set-cookie", ""))
        if "session" in jar:
            self.cookie = jar["session"].value
        return answer

    def sign_in(self, who):
        self.space.provider.person = who
        start = self.ask("/login/huggingface")
        assert start.status == 302, start.text
        there = urlsplit(start.headers["location"])
        assert there.port == self.space.provider_port
        back = urlsplit(ask(there.port, f"{there.path}?{there.query}").headers["location"])
        return self.ask(f"{back.path}?{back.query}")

    def me(self, **headers):
        answer = self.ask("/api/me", **headers)
        return json.loads(answer.body) if answer.status == 200 else answer.status

    def call(self, event, values, session="a-session"):
        body = {"data": values, "fn_index": event, "session_hash": session, "trigger_id": None, "event_data": None}
        joined = self.ask("/gradio_api/queue/join?", "POST", json.dumps(body).encode(), content_type="application/json")
        if joined.status != 200:
            return joined.status
        return self.ask(f"/gradio_api/queue/data?session_hash={session}").text


class OpenSpace:
    """The page, launched in this process."""

    def __init__(self, folder, hub, provider, provider_port, **environ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.provider, self.provider_port, self.hub = provider, provider_port, hub
        env = {
            "CODEX_SPACE_HOME": str(folder / "workspace"),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "CODEX_SPACE_PORT": str(self.port),
            "SYSTEM": "spaces",
            "SPACE_ID": SPACE,
            "HF_ENDPOINT": hub.endpoint,
            "OAUTH_CLIENT_ID": CLIENT[0],
            "OAUTH_CLIENT_SECRET": CLIENT[1],
            "OAUTH_SCOPES": SCOPES,
            "OPENID_PROVIDER_URL": f"http://127.0.0.1:{provider_port}",
            **environ,
        }
        self.clock = Clock()
        self.clock.now = time.time()
        self.ctx = open_context(read_settings(env), self.clock, own=False)
        self.page = serve.launch(self.ctx)
        self.demo = self.page.demo

    def person(self, who=None):
        person = Person(self)
        if who:
            assert person.sign_in(who).status in {302, 307}
        return person

    def routes(self):
        """Every address of the running program with every method it answers."""
        waiting = list(self.demo.app.routes)
        while waiting:
            route = waiting.pop(0)
            if hasattr(route, "original_router"):  # FastAPI keeps an included router whole
                waiting += route.original_router.routes
                continue
            path = re.sub(r"\{[^}]+\}", "x", route.path)
            for method in sorted(getattr(route, "methods", None) or {"GET"}):
                yield method, path

    def close(self):
        self.page.close()
        self.ctx.close()


@pytest.fixture(scope="module")
def open_space(tmp_path_factory, hub_server):
    opened, patch = [], pytest.MonkeyPatch()
    provider = Provider(ProviderState(hub_server.state.users))
    served = Served(provider.app)
    provider.issuer = f"http://127.0.0.1:{served.port}"
    patch.setenv("SYSTEM", "spaces")
    patch.setenv("SPACE_ID", SPACE)
    for name, value in zip(
        ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"],
        [*CLIENT, SCOPES, provider.issuer],
        strict=True,
    ):
        patch.setattr(gradio.oauth, name, value)  # read at gradio's import, which an earlier test may have caused

    def make(**environ):
        hub_server.state.reset()
        provider.state.users = hub_server.state.users
        opened.append(OpenSpace(tmp_path_factory.mktemp("space"), hub_server, provider.state, served.port, **environ))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
    served.close()
    patch.undo()
