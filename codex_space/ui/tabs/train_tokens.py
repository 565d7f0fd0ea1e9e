"""The part of the Train tab that shows rows as the trainer's own tokens, and puts the proposed length into the recipe."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from codex_space.core.yaml_text import parse_yaml
from codex_space.services.tokens import TokenView
from codex_space.ui.errors import shows_errors
from codex_space.ui.theme import make_html
from codex_space.ui.views import form as form_view
from codex_space.ui.views import tokens as view

_FIRST = "first"
_SHOW = "() => { const card = document.querySelector('#tokens-card'); card.classList.remove('cs-stale'); card.scrollIntoView({block: 'nearest'}); }"
_FRESH = "() => document.querySelector('#tokens-card')?.classList.remove('cs-stale')"
_STALE = "() => document.querySelector('#tokens-card')?.classList.add('cs-stale')"


@dataclass(frozen=True)
class Look:
    """`at` holds the row that is shown, `number` what is typed."""

    open: gr.Button
    card: gr.Column
    counts: gr.HTML
    use: gr.Button
    proposed: gr.State
    places: dict[str, gr.Button]
    number: gr.Number
    at: gr.State
    row: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What a look fills."""
        return [self.card, self.counts, self.use, self.proposed, self.number, self.at, self.row]


def layout(button: gr.Button) -> Look:
    """Lay out the card, which appears with the first look."""
    with gr.Column(visible=False, elem_id="tokens-card", elem_classes="cs-card") as card:
        make_html("<h2>What the trainer sees</h2>")
        counts = make_html(elem_id="tokens-counts")
        use = gr.Button("Use the proposed max_length", elem_id="tokens-use", size="sm")
        with gr.Row(elem_id="tokens-bar"):
            places = {
                name: gr.Button(name.capitalize(), size="sm", min_width=80, elem_id=f"tokens-{name}")
                for name in ("first", "previous", "next", "longest", "random")
            }
            number = gr.Number(
                0, label="Row", precision=0, minimum=0, min_width=110, elem_id="tokens-row",
                info="Its number from 0; Enter shows it.",
            )  # fmt: skip
        row = make_html(elem_id="tokens-view")
    return Look(button, card, counts, use, gr.State(0), places, number, gr.State(0), row)


def wire(look: Look, text: gr.Textbox, tokens: TokenView) -> None:
    """Connect the ways to a row, and the proposed length to the recipe's text."""

    def show(recipe: str, place: int | str, here: int) -> list[object]:
        seen = tokens.look(recipe, place, here=here, limit=view.SHOWN_TOKENS)
        counts = seen["counts"]
        proposed = counts["proposed_max_length"]
        is_set = proposed == counts["max_length"]
        label = f"max_length is {proposed:,} already" if is_set else f"Use max_length {proposed:,}"
        return [
            gr.Column(visible=True),
            view.render_counts(counts),
            gr.Button(label, interactive=not is_set),
            proposed,
            seen["row"],
            seen["row"],
            view.render_row(seen),
        ]

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [look.row]}
    opened = look.open.click(
        shows_errors(lambda recipe: show(recipe, _FIRST, 0)), text, look.shown,
        api_visibility="private", show_progress_on=[look.open],
    )  # fmt: skip
    opened.success(None, js=_SHOW, api_visibility="private")
    for name, button in look.places.items():
        moved = button.click(
            shows_errors(lambda recipe, here, name=name: show(recipe, name, here)),
            [text, look.at], look.shown, **quiet,
        )  # fmt: skip
        moved.success(None, js=_FRESH, api_visibility="private")
    asked = look.number.submit(
        shows_errors(lambda recipe, number: show(recipe, int(number or 0), 0)),
        [text, look.number], look.shown, **quiet,
    )  # fmt: skip
    asked.success(None, js=_FRESH, api_visibility="private")
    text.change(None, js=_STALE, api_visibility="private")
    used = look.use.click(shows_errors(_use), [text, look.proposed], text, api_visibility="private")
    again = used.success(shows_errors(lambda recipe, here: show(recipe, here, 0)), [text, look.at], look.shown, **quiet)
    again.success(None, js=_FRESH, api_visibility="private")


def _use(text: str, max_length: int) -> str:
    values = parse_yaml(text)
    form_view.put(values, "train.max_length", int(max_length))
    return form_view.dump(values)
