"""Let an event of the page run only for those who may: whoever acts, or also whoever looks where the handler only reads.

Covered: every event that has a Python function, however it is called (queue, /call, /run), in a session that is not another
person's; a new handler is for those who may act until it is marked with `looks`. Not covered: what runs in the visitor's own browser.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.context import LocalContext

from codex_space.core.actor import Actor, May, acting
from codex_space.core.errors import AccessError
from codex_space.ui.access import ACTOR, SESSIONS
from codex_space.ui.errors import message_of
from codex_space.ui.page_sessions import PageSessions

_NEEDS = "_codex_space_needs"
_PRESSES = frozenset({"click", "submit", "upload"})
_P = ParamSpec("_P")
_R = TypeVar("_R")


def looks(handler: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark a handler that changes nothing and spends nothing: visitors who may look may call it."""

    @functools.wraps(handler)
    def marked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return handler(*args, **kwargs)

    setattr(marked, _NEEDS, May.LOOK)
    return marked


def needs(handler: Callable[..., Any]) -> May:
    """Return what somebody must be allowed to call it."""
    return getattr(handler, _NEEDS, May.ACT)


def guard_events(demo: gr.Blocks) -> None:
    """Stand before every event's function; call it once, when all are wired."""
    for event in demo.fns.values():
        if event.fn is not None:
            event.fn = _guarded(event.fn, event)


def acting_parts(demo: gr.Blocks) -> list[str]:
    """Return the element ids of what starts something when it is pressed, so that the page can show that it may not be."""
    pressed = {
        target
        for event in demo.fns.values()
        if event.fn is not None and needs(event.fn) is May.ACT
        for target, trigger in event.targets
        if trigger in _PRESSES and target is not None
    }
    return sorted(demo.blocks[target].elem_id or f"component-{target}" for target in pressed)


def _guarded(handler: Callable[..., Any], event: BlockFunction) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError(f"{handler} is asynchronous, which nothing here guards")
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def each(*args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401  # a handler's own
            if _may(handler, event):
                yield from handler(*args, **kwargs)

        return each

    @functools.wraps(handler)
    def once(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return handler(*args, **kwargs) if _may(handler, event) else _unchanged(event)

    return once


def _may(handler: Callable[..., Any], event: BlockFunction) -> bool:
    """Return whether the caller may; what was pressed says why not, what a page does by itself says nothing.

    Raises:
        gr.Error: Something was pressed that is for others.
    """
    actor, is_own = _caller()
    if not is_own:
        raise gr.Error("This session of the page is another person's.", title="Not allowed", print_exception=False)
    if actor.may >= needs(handler):
        acting.set(actor)  # for whatever the handler writes down
        return True
    if event.targets and all(trigger not in _PRESSES for _, trigger in event.targets):
        return False
    error = AccessError("this is for those who may act here", where=actor.name, cure=actor.why or "Sign in to act.")
    raise gr.Error(message_of(error), title="Not allowed", print_exception=False)


def _unchanged(event: BlockFunction) -> Any:  # noqa: ANN401  # as Gradio takes it
    num = len(event.outputs)
    return None if num == 0 else gr.skip() if num == 1 else [gr.skip()] * num


def _caller() -> tuple[Actor, bool]:
    """Return who asked for the event, and whether in a session of their own: the door left both in the request's scope."""
    request = LocalContext.request.get(None)
    scope = getattr(getattr(request, "request", None), "scope", {})
    found, sessions, named = scope.get(ACTOR), scope.get(SESSIONS), getattr(request, "session_hash", None)
    actor = found if isinstance(found, Actor) else Actor("nobody", May.NOTHING)
    return actor, not isinstance(sessions, PageSessions) or sessions.may_use([named] if named else [], actor)
