"""The Space tab's Disk card: what takes the room, what may go, and a clean-up that asks first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from codex_space.core.errors import CodexError, WorkspaceError
from codex_space.services import clean, disk
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.theme import make_html
from codex_space.ui.views import space_disk as view
from codex_space.ui.views.markup import escape


@dataclass(frozen=True)
class DiskCard:
    """The components."""

    meter: gr.HTML
    see: gr.Button
    measure: gr.Button
    offer: gr.Column
    listed: gr.HTML
    kinds: gr.CheckboxGroup
    sure: gr.Checkbox
    go: gr.Button
    result: gr.HTML


def layout() -> DiskCard:
    """Lay out the card; what may go is shown once it is asked for."""
    with gr.Column(elem_classes="cs-card"):
        make_html("<h3>Disk</h3>")
        meter = make_html("<p class=cs-note>Measured when this tab is opened.</p>", elem_id="disk-meter")
        with gr.Row():
            see = gr.Button("See what can go", elem_id="disk-see", min_width=150)
            measure = gr.Button("Measure again", elem_id="disk-measure", min_width=140)
        with gr.Column(visible=False) as offer:
            listed = make_html("", elem_id="disk-list")
            kinds = gr.CheckboxGroup(
                [(text, kind) for kind, text in clean.KINDS.items()],
                label="Delete from this machine",
                info="Checkpoints are compared with the Hub by hash first; one that differs, or does not answer, stays.",
                elem_id="disk-kinds",
            )
            sure = gr.Checkbox(
                label="Yes, delete these from this machine",
                info="Checkpoints stay on the Hub and come back with one press on Runs.",
                elem_id="disk-sure",
            )
            go = gr.Button("Clean up", variant="primary", interactive=False, elem_id="disk-go")
        result = make_html("", elem_id="disk-result")
    return DiskCard(meter, see, measure, offer, listed, kinds, sure, go, result)


def wire(card: DiskCard, opened: Sequence[Callable[..., object]], ctx: Context) -> None:
    """Connect the buttons; the last measuring is shown when the tab is opened."""
    offered = [card.offer, card.listed, card.kinds, card.sure, card.go]

    @looks
    def look() -> str:
        return view.render_disk(ctx)

    def offer() -> list[object]:
        found = clean.plan(ctx)
        choices = view.kind_choices(found)
        usual = [kind for _, kind in choices if kind in clean.USUAL]
        return [
            gr.Column(visible=True),
            view.render_plan(found),
            gr.CheckboxGroup(choices, value=usual, visible=bool(choices)),
            gr.Checkbox(value=False, visible=bool(choices)),
            gr.Button(interactive=False, visible=bool(choices)),
        ]

    def measure() -> str:
        disk.read(ctx, anew=True)
        try:
            disk.ask_hub(ctx)
        except CodexError as error:
            gr.Warning(f"The Hub was not asked: {escape(error.what)}.", duration=6)
        return view.render_disk(ctx)

    def go(kinds: list[str], sure: bool) -> list[object]:
        if not sure or not kinds:
            raise WorkspaceError("nothing is chosen", where="Clean up", cure="Choose what goes, then tick the box.")
        done = clean.clean(ctx, tuple(kinds))
        disk.read(ctx, anew=True)
        return [*offer(), view.render_cleaned(done), view.render_disk(ctx)]

    for listen in opened:
        listen(look, None, card.meter, show_progress="hidden", api_visibility="private")
    card.see.click(shows_errors(offer), None, offered, show_progress_on=card.see, api_visibility="private")
    card.measure.click(shows_errors(measure), None, card.meter, show_progress_on=card.measure, api_visibility="private")
    card.sure.input(
        lambda sure: gr.Button(interactive=sure), card.sure, card.go, show_progress="hidden", api_visibility="private"
    )
    card.go.click(
        shows_errors(go),
        [card.kinds, card.sure],
        [*offered, card.result, card.meter],
        show_progress_on=card.go,
        api_visibility="private",
    )
