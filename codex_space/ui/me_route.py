"""`/api/me`: who the page is talking to, what that person may do, and where to sign in or out."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codex_space.core.actor import Actor, May
from codex_space.core.settings import Settings
from codex_space.ui.access import ACTOR, PASSWORD, SIGN_IN, SIGN_OUT


def me_route(settings: Settings, acting_parts: Sequence[str]) -> Route:
    """Return the route; `acting_parts` are the elements that those who may only look find disabled."""

    async def read_me(request: Request) -> Response:
        actor: Actor = request.scope[ACTOR]
        found: dict[str, Any] = {"name": actor.name, "acts": actor.may is May.ACT, "signed_in": actor.signed_in}
        if settings.signs_in and actor.name != "password":
            found["link"] = SIGN_OUT if actor.signed_in else SIGN_IN
        elif settings.password is not None and not found["acts"]:
            found["link"] = PASSWORD
        if not found["acts"]:
            found |= {"why": actor.why, "disabled": list(acting_parts)}
        return JSONResponse(found, headers={"cache-control": "no-store"})

    return Route("/api/me", read_me)
