"""Pieces of HTML and numbers with their units; everything that comes from outside is escaped here."""

import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime


def escape(value: object) -> str:
    """Return text that is safe inside an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def render_time(at: float | None) -> str:
    """Return date and minute in UTC, an en dash where there is none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC") if at else "\N{EN DASH}"


def render_empty(title: str, text: str, link: str = "", link_text: str = "") -> str:
    """Return what a place shows before there is anything: what it will hold and what to do next."""
    action = f'<a class="cs-link" href="{escape(link)}">{escape(link_text)}</a>' if link else ""
    return f'<div class="cs-empty"><h3>{escape(title)}</h3><p>{escape(text)}</p>{action}</div>'


def render_facts(facts: Iterable[tuple[str, str]]) -> str:
    """Return names and values in two columns; values are HTML already."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<dl class="cs-facts">{rows}</dl>'


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Return a table that scrolls sideways by itself; cells are HTML already."""
    top = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="cs-scroll" tabindex=0 role=region aria-label="{escape(label)}">'
        f'<table class="cs-table"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def render_check(ok: bool | None, label: str, detail: str, cure: str = "", link: str = "") -> str:
    """Return one line of a checklist: done, missing (with its cure, which may be a link), or not known."""
    kind, word = {True: ("good", "ready"), False: ("bad", "missing"), None: ("open", "note")}[ok]
    cured = f'<span class="cs-cure">{escape(cure)}</span>' if cure else ""
    if cure and link:
        cured = f'<a class="cs-cure cs-link" href="{escape(link)}">{escape(cure)}</a>'
    return (
        f'<li class="cs-check cs-{kind}"><span class="cs-mark" role=img aria-label="{word}"></span>'
        f"<span><b>{escape(label)}</b> {escape(detail)}{cured}</span></li>"
    )


def render_checks(lines: Iterable[str]) -> str:
    """Return a checklist of rendered lines."""
    return f'<ul class="cs-checks">{"".join(lines)}</ul>'


def render_notice(kind: str, title: str, body: str) -> str:
    """Return a boxed message; kind is good, bad or note, `body` is HTML already."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="cs-notice cs-{escape(kind)}" role={role}><b>{escape(title)}</b><div>{body}</div></div>'
