"""The card that offers to go on with runs that lost their machine, on the Start and the Runs tab, and its address."""

from collections.abc import Sequence

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codex_space.core.errors import RunError
from codex_space.services import money
from codex_space.services.context import Context
from codex_space.services.interrupted import Interruptions
from codex_space.ui.errors import shows_errors
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views.markup import escape

POLL_MS = 3000


def layout(tab: str) -> gr.HTML:
    """Lay out the card of one tab; it takes no room while there is nothing to offer."""
    return make_html(
        value="", html_template="", js_on_load=widget("interrupted", "select"), elem_id=f"{tab}-interrupted"
    )


def wire(cards: Sequence[gr.HTML], interruptions: Interruptions) -> None:
    """Let a press of a run's button go on with it."""

    @shows_errors
    def go_on(run_id: str) -> None:
        if not run_id:
            raise RunError("no run was chosen", cure="Press the button of a run.")
        run = interruptions.go_on(str(run_id)[:80])
        gr.Info(f"{escape(run.name)} goes on.", duration=4)

    for card in cards:
        card.select(go_on, card, None, show_progress="hidden", api_visibility="private")


def interrupted_route(ctx: Context, interruptions: Interruptions) -> Route:
    """Return the address that the cards poll; it asks the Hub nothing."""

    def read() -> list[dict[str, object]]:
        return [vars(one) for one in interruptions.found()]

    async def answer(_: Request) -> Response:
        body = {
            "seq": 0,
            "runs": await run_in_threadpool(read),
            "auto": interruptions.is_auto,
            "poll_after_ms": POLL_MS,
        }
        body = body if money.is_shown(ctx) else money.hide(body)
        return JSONResponse(body, headers={"cache-control": "no-store"})

    return Route("/api/interrupted", answer)
