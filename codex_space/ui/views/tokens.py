"""What a row of tokens looks like: each one coloured and marked by what the trainer does with it."""

from typing import Any

from codex_space.services.tokens import pieces
from codex_space.ui.views.markup import escape

SHOWN_TOKENS = 2000
_STATES = {
    "trained": ("trained", "the model learns to write it"),
    "stop": ("stop token", "trained too, so that the answer ends"),
    "masked": ("masked", "read, not learnt"),
    "cut": ("cut off", "beyond max_length: never seen"),
}


def render_counts(counts: dict[str, Any]) -> str:
    """Return shares, the length of rows as bars, and where max_length lies among them."""
    limit = counts["max_length"]
    part = "" if counts["num_looked_at"] == counts["num_rows"] else f", told from {counts['num_looked_at']:,} of them"
    facts = [
        ("tokens are trained", f"{counts['trained_share']:.1%}"),
        (f"are cut off at max_length {limit:,}" if limit else "are cut off", f"{counts['truncated_share']:.1%}"),
        ("stop token " + counts["stop_token"], "trained" if counts["is_stop_trained"] else "never trained"),
        ("tokens in the longest row", f"{counts['longest_tokens']:,}"),
    ]
    cells = "".join(f"<div><b>{escape(value)}</b> {escape(name)}</div>" for name, value in facts)
    top = max((bar["count"] for bar in counts["histogram"]), default=1) or 1
    bars, start = "", 1
    for bar in counts["histogram"]:
        state = "cut" if limit and start > limit else "kept"
        label = f"{start:,} to {bar['upto']:,} tokens: {bar['count']:,}"
        height = f"{100 * bar['count'] / top:.0f}%"
        bars += f'<li data-s={state} title="{label}"><i style="height:{height}"></i><span>{bar["upto"]:,}</span></li>'
        start = bar["upto"] + 1
    return (
        f"<p class=cs-note>{counts['num_rows']:,} training rows{part}.</p><div class=cs-tok-facts>{cells}</div>"
        f'<ul class=cs-lengths role=img aria-label="Rows by their length in tokens">{bars}</ul>'
        "<p class=cs-note>Rows by length in tokens; striped bars are longer than max_length. Proposed: the smallest multiple "
        f"of 64 that leaves 99 % of them whole, <b>{counts['proposed_max_length']:,}</b>.</p>"
    )


def render_row(looked: dict[str, Any]) -> str:
    """Return one row's tokens, chosen and rejected side by side."""
    sides = "".join(_side(side) for side in looked["sides"])
    title = f"Row {looked['row']:,} of 0 to {looked['num_rows'] - 1:,}"
    return f"<h3>{title}</h3>{_legend()}<div class=cs-tok-sides>{sides}</div>"


def _side(side: dict[str, Any]) -> str:
    told = ", ".join(f"{side['counts'][state]:,} {name}" for state, (name, _) in _STATES.items())
    title = f"<b>{escape(side['name'].capitalize())}</b> " if side["name"] else ""
    spans = ""
    for at, token in enumerate(side["tokens"]):
        if side["num_hidden"] and at == side["hidden_at"]:
            spans += f"\n<em>{side['num_hidden']:,} tokens are not shown here</em>\n"
        shown = "".join(f"<i>{escape(piece)}</i>" if sign else escape(piece) for piece, sign in pieces(token["text"]))
        name = _STATES[token["state"]][0]
        spans += f'<span data-s={token["state"]} title="{name}, token {token["id"]}">{shown}</span>'
    label = escape(f"{side['name'] or 'the row'} as tokens: {told}")
    return (
        f"<div><p class=cs-note>{title}{side['num_tokens']:,} tokens: {told}</p>"
        f'<div class=cs-toks dir=ltr tabindex=0 role=region aria-label="{label}">{spans}</div></div>'
    )


def _legend() -> str:
    items = "".join(f"<li><span data-s={state}>{name}</span> {text}</li>" for state, (name, text) in _STATES.items())
    return f'<ul class="cs-tok-legend cs-note">{items}</ul>'
