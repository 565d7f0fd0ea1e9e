"""Turn our errors into messages on the page; all other exceptions stay bugs and reach the log."""

import functools
import html
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from codex_space.core import scrub
from codex_space.core.errors import CodexError

SHOWN_S = 12

_P = ParamSpec("_P")
_R = TypeVar("_R")


def message_of(error: CodexError) -> str:
    """Return the error as one line of HTML: where, what, cure."""
    where, what, cure = (html.escape(scrub.clean(part)) for part in (error.where, error.what.rstrip("."), error.cure))
    return (f"<b>{where}</b>: " if where else "") + f"{what}." + (f" {cure}" if cure else "")


def shows_errors(handler: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap an event handler, so that a CodexError shows as a message with its cure."""

    @functools.wraps(handler)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return handler(*args, **kwargs)
        except CodexError as error:
            raise gr.Error(message_of(error), duration=SHOWN_S, title="Not done", print_exception=False) from error

    return wrapped
