"""The Space tab's card about updates: what is new in the Space this one was copied from, and taking it over."""

from dataclasses import dataclass

import gradio as gr

from codex_space.core.errors import WorkspaceError
from codex_space.services import leaving, updates
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.theme import make_html
from codex_space.ui.views import updates as view

OWN = [("keep this copy's", "keep"), ("overwrite with the origin's", "overwrite")]


@dataclass(frozen=True)
class UpdateCard:
    """The components; `seen` names the two commits that were shown, which are the ones a press of Update means."""

    look: gr.Button
    found: gr.HTML
    own: gr.Radio
    agreed: gr.Checkbox
    drain: gr.Button
    take: gr.Button
    seen: gr.State


def layout(ctx: Context) -> UpdateCard:
    """Lay out the card; on a machine that is no Space it says so and offers nothing."""
    on_space = ctx.settings.space_id is not None
    with gr.Column(elem_classes="cs-card"):
        make_html("<h3>Updates</h3>")
        found = make_html(view.render_start(ctx), elem_id="update-found")
        look = gr.Button("Look for updates", size="sm", scale=0, elem_id="update-look", visible=on_space)
        own = gr.Radio(
            OWN,
            label="Files changed on both sides",
            info="Kept ones may not fit the new version.",
            elem_id="update-own",
            visible=False,
        )
        agreed = gr.Checkbox(
            label="The Space may restart on an empty disk",
            info="The Hub builds it anew after the update; what lies on this disk only is lost.",
            elem_id="update-agreed",
            visible=False,
        )
        with gr.Row():
            take = gr.Button("Update", variant="primary", elem_id="update-take", visible=False, min_width=120)
            drain = gr.Button("Save and stop what runs", elem_id="update-drain", visible=False, min_width=120)
    return UpdateCard(look, found, own, agreed, drain, take, gr.State(""))


def wire(card: UpdateCard, ctx: Context) -> None:
    """Connect the buttons."""

    def show(update: updates.Update) -> list[object]:
        has_any = bool(update.files)
        return [
            view.render_update(ctx, update),
            gr.Radio(visible=bool(update.own), value=None),
            gr.Checkbox(visible=has_any, value=False),
            gr.Button(visible=has_any),
            gr.Button(visible=has_any and view.is_busy(ctx)),
            _key(update),
        ]

    def look() -> list[object]:
        return show(updates.look(ctx))

    def take(seen: str, own: str | None, agreed: bool) -> list[object]:
        if not agreed:
            cure = "Read what it says above, then tick the box."
            raise WorkspaceError("the restart is not agreed to", where="Updates", cure=cure)
        update = updates.look(ctx)
        if _key(update) != seen:
            cure = "Press Look for updates again."
            raise WorkspaceError("the copy or its origin changed since you looked", where="Updates", cure=cure)
        wanted: updates.Own = "keep" if own == "keep" else "overwrite" if own == "overwrite" else ""
        commit = updates.take(ctx, update, wanted)
        hidden = [
            gr.Radio(visible=False),
            gr.Checkbox(visible=False),
            gr.Button(visible=False),
            gr.Button(visible=False),
        ]
        return [view.render_taken(commit), *hidden, ""]

    def drain() -> str:
        leaving.drain(ctx)
        return view.render_drained()

    shown = [card.found, card.own, card.agreed, card.take, card.drain, card.seen]
    # an error is laid over every part an event changes, and would hide the box that cures it
    card.look.click(shows_errors(look), None, shown, show_progress_on=card.look, api_visibility="private")
    chosen = [card.seen, card.own, card.agreed]
    card.take.click(shows_errors(take), chosen, shown, show_progress_on=card.take, api_visibility="private")
    card.drain.click(shows_errors(drain), None, card.found, show_progress_on=card.drain, api_visibility="private")


def _key(update: updates.Update) -> str:
    return f"{update.copy_commit} {update.origin} {update.origin_commit}"
