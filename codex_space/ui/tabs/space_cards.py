"""The Space tab's cards with something to do: first-boot checklist, hardware and money, duplicate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from codex_space.core.errors import WorkspaceError
from codex_space.services import first_boot, leaving, space
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.theme import make_html
from codex_space.ui.views import space_cards as view


@dataclass(frozen=True)
class Cards:
    """The components."""

    checklist_card: gr.Column
    checklist: gr.HTML
    dismiss: gr.Button
    money: gr.HTML
    move: gr.HTML
    flavor: gr.Dropdown
    agreed: gr.Checkbox
    switch: gr.Button
    pause: gr.Button
    stay: gr.Button
    awake: gr.Button
    copy: tuple[gr.Textbox, gr.Textbox, gr.Dropdown, gr.Textbox, gr.Textbox]
    duplicate: gr.Button
    copied: gr.HTML


def layout(ctx: Context) -> Cards:
    """Lay out three cards; switches are there on a Space only."""
    on_space = ctx.settings.space_id is not None
    choices = view.flavor_choices(ctx)
    with gr.Column(elem_classes="cs-card", visible=False) as checklist_card:
        make_html("<h3>Before the first run</h3>")
        checklist = make_html("", elem_id="space-checklist")
        dismiss = gr.Button("Put this list away", size="sm", elem_id="space-dismiss")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320, elem_classes="cs-card"):
            make_html("<h3>Hardware and money</h3>")
            # read when the tab is opened: what stands here now is sent to everybody who may look
            money = make_html("", elem_id="space-money")
            move = make_html(view.render_move(ctx), elem_id="space-move")
            flavor = gr.Dropdown(
                choices,
                value=None,
                label="Other hardware",
                info="The Space restarts there with an empty disk, once runs are saved and uploads done.",
                elem_id="space-flavor",
                visible=on_space,
            )
            agreed = gr.Checkbox(
                label="What is named above may be lost",
                info="Needed where something lies on this disk only.",
                elem_id="space-agreed",
                visible=on_space,
            )
            with gr.Row(visible=on_space):
                switch = gr.Button("Switch hardware", elem_id="space-switch", min_width=120)
                pause = gr.Button("Pause", elem_id="space-pause", min_width=90)
                stay = gr.Button("Stay", elem_id="space-stay", min_width=90)
            awake = gr.Button(view.awake_label(ctx), elem_id="space-awake", visible=leaving.can_keep_awake(ctx))
        with gr.Column(min_width=320, elem_classes="cs-card"):
            make_html(
                "<h3>Duplicate</h3><p class=cs-lead>A private copy with secrets of its own: this Space's are never copied.</p>"
            )
            source = gr.Textbox(
                label="Space to copy",
                info="This machine is none, so name the one you mean.",
                placeholder="owner/name",
                elem_id="copy-from",
                visible=not on_space,
            )
            to = gr.Textbox(
                label="Name of the copy",
                info="An account or organisation you may make Spaces in, then a name.",
                placeholder="owner/name",
                elem_id="copy-to",
            )
            hardware = gr.Dropdown(
                [("the Hub's choice (cpu-basic)", ""), *choices],
                value="",
                label="Hardware",
                info="Paid by the minute from its first start; it can be changed later.",
                elem_id="copy-hardware",
            )
            token = gr.Textbox(
                label="HF_TOKEN of the copy",
                info="Write scope on the repositories it pushes to; may be set later.",
                type="password",
                elem_id="copy-token",
            )
            password = gr.Textbox(
                label="CODEX_SPACE_PASSWORD of the copy",
                info="Lets in whoever knows it; may stay empty where people sign in.",
                type="password",
                elem_id="copy-password",
            )
            duplicate = gr.Button("Duplicate", variant="primary", elem_id="copy-go")
            copied = make_html(view.render_link(ctx), elem_id="copy-result")
    copy = (source, to, hardware, token, password)
    return Cards(
        checklist_card,
        checklist,
        dismiss,
        money,
        move,
        flavor,
        agreed,
        switch,
        pause,
        stay,
        awake,
        copy,
        duplicate,
        copied,
    )


def wire(cards: Cards, opened: Sequence[Callable[..., object]], ctx: Context) -> None:
    """Connect the buttons; the facts are read when the tab is opened."""

    @looks
    def look() -> tuple[str, str, object]:
        return view.render_money(ctx), view.render_move(ctx), gr.Button(view.awake_label(ctx))

    def check() -> tuple[object, str]:
        text, is_shown = view.render_checklist(ctx)
        return gr.Column(visible=is_shown), text

    def put_away() -> tuple[object, str]:
        first_boot.dismiss(ctx)
        return check()

    def leave(to: str | None, agreed: bool) -> tuple[str, str, object, object]:
        if not to:
            raise WorkspaceError("no hardware is chosen", where="Hardware", cure="Choose one above.")
        if leaving.losses(ctx) and not agreed:
            raise WorkspaceError("something would be lost", where="Hardware", cure="Read it above, then tick the box.")
        leaving.leave(ctx, to)
        return *look(), gr.Checkbox(value=False)

    def stay() -> tuple[str, str, object]:
        leaving.stay(ctx)
        return look()

    facts = [cards.money, cards.move, cards.awake]
    for listen in opened:
        listen(look, None, facts, show_progress="hidden", api_visibility="private")
        listen(check, None, [cards.checklist_card, cards.checklist], show_progress="hidden", api_visibility="private")
    cards.dismiss.click(put_away, None, [cards.checklist_card, cards.checklist], api_visibility="private")
    moved = [*facts, cards.agreed]
    cards.switch.click(shows_errors(leave), [cards.flavor, cards.agreed], moved, api_visibility="private")
    cards.pause.click(
        shows_errors(lambda agreed: leave("pause", agreed)), cards.agreed, moved, api_visibility="private"
    )
    cards.stay.click(shows_errors(stay), None, facts, api_visibility="private")
    cards.awake.click(shows_errors(lambda: (_toggle_awake(ctx), *look())[1:]), None, facts, api_visibility="private")
    secrets = [cards.copy[3], cards.copy[4]]
    cards.duplicate.click(
        shows_errors(lambda *fields: _duplicate(ctx, *fields)),
        list(cards.copy),
        [*secrets, cards.copied],
        api_visibility="private",
    )


def _toggle_awake(ctx: Context) -> None:
    leaving.keep_awake(ctx, on=not leaving.is_kept_awake(ctx))


def _duplicate(ctx: Context, *fields: str | None) -> tuple[str, str, str]:
    source, to, hardware, token, password = ((field or "").strip() for field in fields)  # empty ones are None
    given = {"HF_TOKEN": token, "CODEX_SPACE_PASSWORD": password}
    made = space.duplicate(ctx, to, hardware=hardware, secrets=given, from_id=source)
    return "", "", view.render_copied(made)  # the page forgets the secrets
