"""Open the page: take the workspace, launch Gradio with our routes and guard, stay until asked to end."""

import contextlib
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import gradio as gr
from gradio import http_server
from gradio import utils as gradio_utils
from starlette.middleware import Middleware

from codex_space.core.errors import WorkspaceError
from codex_space.core.settings import Settings
from codex_space.services import autorun
from codex_space.services.chat import Chat
from codex_space.services.context import Context, open_context
from codex_space.services.interrupted import Interruptions
from codex_space.services.live import REFRESH_S, Live
from codex_space.services.roles import Roles
from codex_space.services.signed_out import SignedOut
from codex_space.services.tokens import TokenView
from codex_space.ui import logs, sessions
from codex_space.ui.access import AccessMiddleware
from codex_space.ui.app import build
from codex_space.ui.content_policy import ContentPolicyMiddleware
from codex_space.ui.guard import acting_parts
from codex_space.ui.interrupted import interrupted_route
from codex_space.ui.live_routes import build_routes
from codex_space.ui.me_route import me_route
from codex_space.ui.metrics_route import metrics_route
from codex_space.ui.theme import CSS, HEAD, make_theme
from codex_space.ui.uploads import Uploads, UploadsMiddleware

MAX_UPLOAD_SIZE = "4gb"
NEVER = 1 << 60
SWITCH_S = 0.0005
"""A thread that asks the database gives the interpreter up at each question, and waited 5 ms for every busy one."""
EVENTS_LOOKED_FOR_S, PROGRESS_LOOKED_FOR_S = 0.01, 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page that answers."""

    demo: gr.Blocks
    url: str
    chat: Chat
    tokens: TokenView
    live: Live
    interruptions: Interruptions

    def close(self) -> None:
        """Stop answering and end the processes of playground and token view."""
        self.interruptions.close()
        self.demo.close(verbose=False)
        self.chat.close()
        self.tokens.close()


def serve(settings: Settings, clock: Callable[[], float]) -> int:
    """Own the workspace and serve the page until SIGTERM or Ctrl-C; runs go on without it, or save and end with it in a container.

    Raises:
        WorkspaceError: Another process owns the workspace, or the port is taken.
    """
    logs.set_up(settings.log_format)
    sys.setswitchinterval(SWITCH_S)
    asked_to_end, hurry = threading.Event(), threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        (hurry if asked_to_end.is_set() else asked_to_end).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    ctx = open_context(settings, clock, own=True)
    try:
        page = launch(ctx)
        gc.freeze()  # what start-up made lives as long as the page: no later collection need look at it
        gc.enable()
        _log.info("open %s (workspace %s)", page.url, settings.workspace)
        autorun.start(ctx)
        try:
            _refresh_until(asked_to_end, page, clock)
            if settings.grace_s and ctx.owner is not None:  # a container takes the workers along
                ctx.owner.wind_down(settings.grace_s, hurry)
        finally:
            page.close()
    finally:
        ctx.close()
    return 0


def launch(ctx: Context) -> Page:
    """Start answering and return at once.

    Raises:
        WorkspaceError: The port is taken.
    """
    live, chat, tokens, settings = Live(ctx), Chat(ctx), TokenView(ctx), ctx.settings
    roles, signed_out, interruptions = Roles(settings, ctx.clock), SignedOut(ctx.db, ctx.clock), Interruptions(ctx)
    uploads = Uploads()
    demo = build(ctx, chat, tokens, interruptions, uploads)
    sessions.remember_little()
    # gradio 6.31 looks for matplotlib along the whole path, twice at every event; nothing here draws with it
    gradio_utils.MatplotlibBackendMananger = contextlib.nullcontext  # ty: ignore[invalid-assignment]
    # on a Space Gradio's server would reload the source while it runs, which ends in a traceback without another package
    http_server.get_space = lambda: None  # ty: ignore[invalid-assignment]  # looked up at each start
    try:
        _, url, _ = demo.launch(
            server_name=settings.host,
            server_port=settings.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            theme=make_theme(),
            css=CSS,
            head=HEAD,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=MAX_UPLOAD_SIZE,
            state_session_capacity=sessions.MOST_SESSIONS,
            app_kwargs={
                "routes": [
                    me_route(settings, acting_parts(demo)),
                    metrics_route(ctx),
                    *build_routes(ctx, live),
                    interrupted_route(ctx, interruptions),
                ],
                "middleware": [
                    Middleware(ContentPolicyMiddleware),
                    Middleware(AccessMiddleware, settings=settings, roles=roles, signed_out=signed_out),
                    Middleware(UploadsMiddleware, uploads=uploads),
                ],
            },
        )
    except OSError as error:
        demo.close(verbose=False)
        raise WorkspaceError(
            f"the page cannot listen on port {settings.port}: it is taken or not allowed",
            where=settings.host,
            cure="Give another one with --port.",
        ) from error
    # gradio 6.31 sums up all events since the start with pandas after each one, for a page we do not open
    demo._queue.ANAYLTICS_CACHE_FREQUENCY = NEVER
    # and looks for events a thousand times a second while there are none: a fifteenth of a core that a training wants
    demo._queue.sleep_when_free = EVENTS_LOOKED_FOR_S
    demo._queue.progress_update_sleep_when_free = PROGRESS_LOOKED_FOR_S
    interruptions.start()
    return Page(demo, url, chat, tokens, live, interruptions)


def _refresh_until(asked_to_end: threading.Event, page: Page, clock: Callable[[], float]) -> None:
    while not asked_to_end.wait(REFRESH_S):
        try:
            page.live.refresh(clock())
            page.chat.make_way()
        except Exception:  # noqa: BLE001  # one bad look at the store must not end the page
            _log.exception("the live view stumbled and goes on")
