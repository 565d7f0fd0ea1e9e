"""The Space tab: machine, disk, Hub account and access, read when the tab is opened."""

from dataclasses import dataclass

import gradio as gr

from codex_space import __version__
from codex_space.services.context import Context
from codex_space.ui.guard import looks
from codex_space.ui.tabs import space_cards, space_disk, update_card
from codex_space.ui.theme import make_html
from codex_space.ui.views import space as view
from codex_space.ui.views.markup import render_check, render_checks


@dataclass(frozen=True)
class SpaceTab:
    """The tab's components."""

    tab: gr.Tab
    machine: gr.HTML
    account: gr.HTML
    access: gr.HTML
    deeds: gr.HTML
    refresh: gr.Button
    cards: space_cards.Cards
    update: update_card.UpdateCard
    disk: space_disk.DiskCard


def layout(tab: gr.Tab, ctx: Context) -> SpaceTab:
    """Lay out the cards of what can be done, then those of facts."""
    cards = space_cards.layout(ctx)
    update = update_card.layout(ctx)
    disk = space_disk.layout()
    with gr.Row(equal_height=True):
        with gr.Column(min_width=320, elem_classes="cs-card"):
            make_html("<h3>Machine</h3>")
            machine = make_html(view.render_machine(ctx), elem_id="space-machine")
        with gr.Column(min_width=320, elem_classes="cs-card"):
            make_html("<h3>Hub account</h3>")
            account = make_html(
                render_checks([render_check(None, "Hub", "asked when this tab is opened")]), elem_id="space-account"
            )
    with gr.Column(elem_classes="cs-card"):
        make_html("<h3>Access and health</h3>")
        access = make_html(view.render_access(ctx), elem_id="space-access")
    with gr.Column(elem_classes="cs-card"):
        make_html("<h3>Who did what</h3>")
        deeds = make_html("", elem_id="space-audit")
    with gr.Row():
        refresh = gr.Button("Look again", size="sm", scale=0, min_width=130, elem_id="space-refresh")
        make_html(f"<p class=cs-note>codex_space {__version__}, Gradio {gr.__version__}</p>")
    return SpaceTab(tab, machine, account, access, deeds, refresh, cards, update, disk)


def wire(tab: SpaceTab, ctx: Context) -> None:
    """Read the facts again when the tab is opened or the button pressed."""
    space_cards.wire(tab.cards, [tab.tab.select, tab.refresh.click], ctx)
    update_card.wire(tab.update, ctx)
    space_disk.wire(tab.disk, [tab.tab.select, tab.refresh.click], ctx)

    @looks
    def look() -> list[str]:
        return [view.render_machine(ctx), view.render_access(ctx)]

    facts = [tab.machine, tab.access]
    for listen in (tab.tab.select, tab.refresh.click):
        listen(look, None, facts, show_progress="hidden", api_visibility="private")
        listen(lambda: view.render_audit(ctx), None, tab.deeds, show_progress="hidden", api_visibility="private")
        listen(lambda: view.render_account(ctx), None, tab.account, show_progress="hidden", api_visibility="private")
