"""Decide for every request whether it may reach the page, before Gradio sees it.

Covered: DNS rebinding (the Host header on loopback), other sites making a visitor's browser post (Origin and
Sec-Fetch-Site), a page that anybody could open (no password and not loopback), wrong passwords.
Not covered: guessing without a limit (choose a long password), and programs of this machine on a loopback page.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from codex_space.core.settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# gradio 6.31 asks these two of its own server in launch(), without a password
STARTUP_CHECKS = frozenset({("HEAD", "/"), ("GET", "/gradio_api/startup-events")})

_SHUT = (
    "This page can be reached from outside this machine and has no password, so it stays shut. "
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


def judge(settings: Settings, asked: Asked) -> Refusal | None:
    """Return why a request is refused, or None where it may pass."""
    if asked.path == "/health" and asked.method in {"GET", "HEAD"}:
        return None
    if (asked.method, asked.path) in STARTUP_CHECKS and asked.client_host in LOOPBACK:
        return None
    return _wrong_address(settings, asked) or _stranger(settings, asked) or _other_site(asked)


def _wrong_address(settings: Settings, asked: Asked) -> Refusal | None:
    if settings.is_loopback and _host_name(asked.headers.get("host", "")) not in LOOPBACK:
        return Refusal(403, "This page answers on this machine's own address only: open it as 127.0.0.1 or localhost.")
    return None


def _stranger(settings: Settings, asked: Asked) -> Refusal | None:
    if settings.password is None:
        return None if settings.is_loopback else Refusal(403, _SHUT)
    if _knows(settings.password.reveal(), asked.headers.get("authorization", "")):
        return None
    return Refusal(401, "A password is needed; any user name will do.")


def _other_site(asked: Asked) -> Refusal | None:
    if asked.method in SAFE_METHODS or _same_origin(asked.headers):
        return None
    return Refusal(403, "Another site asked for this change; it was refused.")


class AccessMiddleware:
    """ASGI middleware around the whole program: Gradio's routes and ours."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Guard `app`."""
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the refusal."""
        if scope["type"] == "websocket":  # nothing here speaks it, so nobody has a use for one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and (refusal := judge(self._settings, _asked(scope))):
            await _answer(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _asked(scope: Scope) -> Asked:
    client = scope.get("client")
    return Asked(scope["method"], scope["path"], Headers(scope=scope), client[0] if client else "")


def _answer(refusal: Refusal) -> HTMLResponse:
    headers = {"cache-control": "no-store"}
    if refusal.status == 401:
        headers["www-authenticate"] = 'Basic realm="codex_space", charset="UTF-8"'
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>codex_space</title><style>body{font:16px/1.6 system-ui,sans-serif;max-width:34rem;margin:15vh auto;"
        "padding:0 1.5rem;color-scheme:light dark}</style>"
        f"<h1>codex_space</h1><p>{refusal.text}</p></html>"
    )
    return HTMLResponse(page, refusal.status, headers)


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
        try:
            asked_from = urlsplit(origin).netloc.lower()
        except ValueError:  # such as http://[oops
            return False
        return bool(headers.get("host")) and asked_from == headers["host"].lower()
    return headers.get("sec-fetch-site", "none") in {"same-origin", "none"}
