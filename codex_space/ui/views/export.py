"""What the Export tab says before and after the press: types with their sizes, and what became of the press."""

from collections.abc import Iterable, Mapping
from typing import Any

from codex_space.core.units import render_bytes
from codex_space.store.runs import Run
from codex_space.ui.views.markup import escape, render_notice

USUAL = ("Q8_0", "Q4_K_M")


def choices_of(types: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (label, type) with the size a file will have, for a list of boxes."""
    return [(f"{each['type']}{_size(each['bytes'])} \u00b7 {each['about']}", each["type"]) for each in types]


def render_tools(ready: bool) -> str:
    """Return why nothing can be exported yet, nothing where it can."""
    if ready:
        return ""
    body = (
        "llama.cpp is being set up, which takes some minutes the first time; this tab looks again when it is opened. "
        "Where that failed or was left out, run <code>make export-tools</code>; <code>.venv/export-tools.log</code> says what went wrong."
    )
    return render_notice("note", "Not ready yet", body)


def render_started(run: Run) -> str:
    """Return the message after the press."""
    state = "is in the queue" if run.state == "queued" else "has been started already"
    return render_notice("good", f"{escape(run.name)} {state}", "It can be left and found again in the list.")


def _size(size_bytes: int | None) -> str:
    return f" \u00b7 {render_bytes(size_bytes)}" if size_bytes else ""
