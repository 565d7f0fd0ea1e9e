"""Tell the browser that this page shows nothing of other hosts: no picture, sound, font or frame is fetched from one.

The second line behind what makes text harmless: an address in something that a model, a file or the Hub said would tell its
owner who reads it, and when. Not covered: scripts, of which Gradio's page writes some into itself, and links, which a person follows.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; frame-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)


class ContentPolicyMiddleware:
    """ASGI middleware around the whole program."""

    def __init__(self, app: ASGIApp) -> None:
        """Speak for `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the header to pages."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = POLICY
            await send(message)

        await self._app(scope, receive, say)
