"""Decide for every request who is asking and whether it may reach the page, before Gradio sees it.

Covered: DNS rebinding (the Host header on loopback), other sites making a visitor's browser post, or
reading through it (Origin and Sec-Fetch-Site), or signing the visitor out, a page that anybody could open (no password, no
sign-in and not loopback), wrong passwords, headers of a proxy that somebody made up (who asks is never read from them), a
sign-in that was ended (signed_out.py), another person's Gradio session (page_sessions.py), and roles: what is not named in
`_LOOKED_AT` may be asked for only by those who may act, so a new address is shut until it is named. What an event of the page
may do is guard.py's. Not covered: guessing passwords without a limit (choose a long one), and programs of this machine on
a loopback page.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codex_space.core.actor import Actor, May, acting
from codex_space.core.settings import Settings
from codex_space.services.roles import Roles
from codex_space.services.signed_out import SignedOut
from codex_space.ui.page_sessions import PageSessions, sessions_of

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# gradio 6.31 asks these two of its own server in launch(), without a password
STARTUP_CHECKS = frozenset({("HEAD", "/"), ("GET", "/gradio_api/startup-events")})
SIGN_IN, SIGNED_IN, SIGN_OUT, PASSWORD = "/login/huggingface", "/login/callback", "/logout", "/login/password"
FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
MAX_EVENT_BYTES = 1 << 16
ACTOR, SESSIONS = "codex_space.actor", "codex_space.sessions"
"""Where a request's scope says who asks, and whose the page's sessions are."""

_OWN_READS = r"/api/(?!exports/[^/]+/files/).*"  # the files are the model itself: for those who may act
# `file=` takes a web address too, which Gradio then fetches: a path of this machine begins with a slash
_GRADIO_READS = r"/gradio_api/(queue/data|heartbeat/[^/]+|startup-events|info|file=/.*)|/config|/theme\.css|/(assets|static|svelte)/.*"
_LOOKED_AT = {
    "GET": re.compile(rf"/|{_OWN_READS}|{_GRADIO_READS}|/(favicon\.ico|robots\.txt|manifest\.json|pwa_icon.*)"),
    # events join the queue and say which they are only in the body; those of `cancel` and `reset` need the secret of a session
    "POST": re.compile(r"/gradio_api/(queue/join|cancel|reset)/?"),
}
_SHUT = (
    "This page can be reached from outside this machine and has neither a password nor a sign-in, so it stays shut. "
    "Set the secret <code>CODEX_SPACE_PASSWORD</code> (on a Space: Settings, Variables and secrets) and restart it."
)


@dataclass(frozen=True)
class Asked:
    """What is looked at of a request; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    client_host: str = ""


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the page; `text` is HTML of our own."""

    status: int
    text: str
    asks_password: bool = False


def judge(settings: Settings, asked: Asked, actor: Actor) -> Refusal | None:
    """Return why a request is refused, or None where it may pass."""
    if asked.path == "/health" and asked.method in {"GET", "HEAD"}:
        return None
    if (asked.method, asked.path) in STARTUP_CHECKS and _is_this_program(asked):
        return None
    return (
        _wrong_address(settings, asked)
        or _not_allowed(settings, asked, actor)
        or _other_site(asked)
        or _signed_out_elsewhere(asked)
    )


def needed(method: str, path: str) -> May:
    """Return what somebody must be allowed in order to ask this."""
    looks = _LOOKED_AT.get("GET" if method in SAFE_METHODS else method)
    return May.LOOK if looks is not None and looks.fullmatch(path) else May.ACT


def _is_this_program(asked: Asked) -> bool:
    """Uvicorn takes the caller's address from a proxy's headers where the proxy is this machine, and anybody can send those."""
    return asked.client_host in LOOPBACK and FORWARDED.isdisjoint(asked.headers)


def _wrong_address(settings: Settings, asked: Asked) -> Refusal | None:
    if settings.is_loopback and _host_name(asked.headers.get("host", "")) not in LOOPBACK:
        return Refusal(403, "This page answers on this machine's own address only: open it as 127.0.0.1 or localhost.")
    return None


def _not_allowed(settings: Settings, asked: Asked, actor: Actor) -> Refusal | None:
    if settings.signs_in and asked.path in {SIGN_IN, SIGNED_IN, SIGN_OUT} and asked.method in SAFE_METHODS:
        return None
    if actor.may >= needed(asked.method, asked.path):
        return None
    if settings.password is None and not settings.signs_in:
        return Refusal(403, _SHUT)
    if actor.signed_in:
        leave = f' <a href="{SIGN_OUT}">Sign out</a>' if settings.signs_in else ""
        return Refusal(403, f"{escape(actor.why)}{leave}")
    if settings.signs_in:
        # the way in is a page like any other: the platform takes a Space whose / is no success for one that has not started
        is_page = asked.path == "/" and asked.method in SAFE_METHODS
        return Refusal(200 if is_page else 401, _ways_in(settings))
    return Refusal(401, "A password is needed; any user name will do.", asks_password=True)


def _ways_in(settings: Settings) -> str:
    # a frame of huggingface.co keeps no cookie of ours in some browsers: the page in full always does
    link = f'<a href="{SIGN_IN}" target="_blank" rel="noopener">Sign in with Hugging Face</a>'
    password = f' or <a href="{PASSWORD}">give the password</a>' if settings.password is not None else ""
    return f"This page is for the members of {escape(settings.space_owner)}. {link}{password}."


def _other_site(asked: Asked) -> Refusal | None:
    # a link or a picture elsewhere sends no Origin and its site sees no answer; a script's request does, and Gradio lets
    # scripts of every site read what a visitor's cookie opens
    is_read = asked.method in SAFE_METHODS and "origin" not in asked.headers
    if is_read or _same_origin(asked.headers):
        return None
    return Refusal(403, "Another site asked for this; it was refused.")


def _signed_out_elsewhere(asked: Asked) -> Refusal | None:
    """The way out is a plain link, so a picture of that address on any site would sign a person out."""
    if asked.path != SIGN_OUT:
        return None
    site = asked.headers.get("sec-fetch-site")
    if site is None:  # no browser of today
        is_own = _host_of(asked.headers.get("referer", "")) == asked.headers.get("host", "").lower() != ""
    else:
        is_own = site in {"same-origin", "none"}
    if is_own:
        return None
    return Refusal(403, f'Another site asked to sign you out. <a href="{SIGN_OUT}">Sign out</a> if you wish it.')


class AccessMiddleware:
    """ASGI middleware around the whole program: Gradio's routes and ours."""

    def __init__(self, app: ASGIApp, settings: Settings, roles: Roles, signed_out: SignedOut) -> None:
        """Guard `app`."""
        self._app, self._settings, self._roles, self._signed_out = app, settings, roles, signed_out
        self._sessions = PageSessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its actor, or answer with the refusal."""
        if scope["type"] == "websocket":  # nothing here speaks it, so nobody has a use for one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = _asked(scope)
        actor = scope[ACTOR] = await self._recognise(asked, scope.get("session") or {})
        scope[SESSIONS] = self._sessions
        if asked.path == PASSWORD and self._settings.password is not None:
            await self._password_page(actor)(scope, receive, send)
            return
        if refusal := judge(self._settings, asked, actor):
            await _answer(refusal)(scope, receive, send)
            return
        acting.set(actor)
        body = b""
        if asked.method == "POST" and actor.may < May.ACT:
            read = await _read(receive)
            if read is None or not _is_plain(read):
                await _answer(Refusal(403, "What a visitor sends is a few plain values."))(scope, receive, send)
                return
            body, receive = read, _again(read, receive)
        if not self._sessions.may_use(sessions_of(asked.path, scope["query_string"], body), actor):
            await _answer(Refusal(403, "This session of the page is another person's."))(scope, receive, send)
            return
        if asked.path == SIGN_OUT and asked.method == "GET":
            await run_in_threadpool(self._signed_out.end, scope.get("session") or {})
        await self._app(scope, receive, send)

    async def _recognise(self, asked: Asked, session: Mapping[str, Any]) -> Actor:
        """Return who asks: by password, by our own sign-in, by a token of the Hub, or as this machine."""
        settings, given = self._settings, asked.headers.get("authorization", "")
        if settings.password is not None and _knows(settings.password.reveal(), given):
            return Actor("password", May.ACT)
        if settings.signs_in:
            token = "" if self._signed_out.has(session) else _session_token(session, self._roles.clock())
            if token:
                return await self._ask(token, signed_in=True)
            bearer = given if given.lower().startswith("bearer ") else asked.headers.get("x-hf-authorization", "")
            if bearer.lower().startswith("bearer hf_"):
                return await self._ask(bearer[len("bearer ") :].strip(), signed_in=False)
        if settings.password is None and settings.is_loopback and settings.space_id is None:
            return Actor("this machine", May.ACT)
        return self._roles.visitor

    async def _ask(self, token: str, *, signed_in: bool) -> Actor:
        known = self._roles.remembered(token, signed_in=signed_in)
        return known or await run_in_threadpool(self._roles.find, token, signed_in=signed_in)

    def _password_page(self, actor: Actor) -> ASGIApp:
        if actor.may >= May.ACT:
            return RedirectResponse("/", 303)
        return _answer(Refusal(401, "A password is needed; any user name will do.", asks_password=True))


async def _read(receive: Receive) -> bytes | None:
    """Return a request's whole body; None where it is too long or the browser went away."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request" or len(body) > MAX_EVENT_BYTES:
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body if len(body) <= MAX_EVENT_BYTES else None


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what hands the body out as if it had not been read."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


def _is_plain(body: bytes) -> bool:
    """Gradio fetches or copies a file that an event names before its function, and so its guard, is called."""
    try:
        sent = json.loads(body)
        values = sent.get("data") or []
        return not any(map(_holds_object, values))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return False


def _holds_object(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_object, value)))


def _session_token(session: Mapping[str, Any], now: float) -> str:
    """Return the access token that our own sign-in left in the signed cookie; empty where there is none or it is over."""
    info = session.get("oauth_info")
    if not isinstance(info, dict):
        return ""
    over = info.get("expires_at")
    if isinstance(over, int | float) and over < now:
        return ""
    return str(info.get("access_token") or "")


def _asked(scope: Scope) -> Asked:
    client = scope.get("client")
    return Asked(scope["method"], scope["path"], Headers(scope=scope), client[0] if client else "")


def _answer(refusal: Refusal) -> HTMLResponse:
    headers = {"cache-control": "no-store"}
    if refusal.asks_password:
        headers["www-authenticate"] = 'Basic realm="codex_space", charset="UTF-8"'
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>codex_space</title><style>body{font:16px/1.6 system-ui,sans-serif;max-width:34rem;margin:15vh auto;"
        "padding:0 1.5rem;color-scheme:light dark}</style>"
        f"<h1>codex_space</h1><p>{refusal.text}</p></html>"
    )
    return HTMLResponse(page, refusal.status, headers)


def _host_of(address: str) -> str:
    """Return host and port of an address, empty where it is none (such as http://[oops)."""
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """Return the name in a Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _knows(password: str, authorization: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(given, password.encode())


def _same_origin(headers: Mapping[str, str]) -> bool:
    """Programs that are no browser send neither header; a browser always sends one of them with a change."""
    origin = headers.get("origin")
    if origin is not None:
        return bool(headers.get("host")) and _host_of(origin) == headers["host"].lower()
    return headers.get("sec-fetch-site", "none") in {"same-origin", "none"}
