"""The page: the bar on top, the tabs in order, and the links that lead from one tab to another."""

import gradio as gr

from codex_space.services.chat import Chat
from codex_space.services.context import Context
from codex_space.services.interrupted import Interruptions
from codex_space.services.tokens import TokenView
from codex_space.ui import interrupted
from codex_space.ui.api import add_api
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import guard_events, looks
from codex_space.ui.tabs import data, evaluate, export, playground, pretrain, runs, space, start, train
from codex_space.ui.theme import make_html, widget
from codex_space.ui.uploads import Uploads

UPLOADS_LOOKED_AT_S, UPLOADS_KEPT_S = 3600, 86_400


class _SignedInPage(gr.Blocks):
    """Gradio adds the routes of the sign-in where a page holds its LoginButton; ours is a link in the top bar."""

    @property
    def expects_oauth(self) -> bool:
        return True


def build(ctx: Context, chat: Chat, tokens: TokenView, interruptions: Interruptions, uploads: Uploads) -> gr.Blocks:
    """Lay out all tabs, then wire them, so that one tab may refer to another's components."""
    demo = (_SignedInPage if ctx.settings.signs_in else gr.Blocks)(
        title="codex_space",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(UPLOADS_LOOKED_AT_S, UPLOADS_KEPT_S),
    )
    with demo:
        make_html(html_template="", js_on_load=widget("topbar"), elem_id="top-bar")
        links = make_html(value="", html_template="", js_on_load=widget("links", "select"), elem_id="page-links")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab("Start", id="start", elem_id="start-tab"):
                cards = [interrupted.layout("start")]
                start_tab = start.layout(ctx)
            with gr.Tab("Data", id="data", elem_id="data-tab"):
                data_tab = data.layout()
            with gr.Tab("Train", id="train", elem_id="train-tab") as train_item:
                train_tab = train.layout(train_item, ctx)
            with gr.Tab("Pretrain", id="pretrain", elem_id="pretrain-tab") as pretrain_item:
                pretrain_tab = pretrain.layout(pretrain_item, ctx)
            with gr.Tab("Runs", id="runs", elem_id="runs-tab"):
                cards.append(interrupted.layout("runs"))
                runs_tab = runs.layout()
            with gr.Tab("Evaluate", id="evaluate", elem_id="evaluate-tab") as evaluate_item:
                evaluate_tab = evaluate.layout(evaluate_item, chat, on_space=ctx.settings.space_id is not None)
            with gr.Tab("Export", id="export", elem_id="export-tab") as export_item:
                export_tab = export.layout(export_item, ctx, chat)
            with gr.Tab("Playground", id="playground", elem_id="playground-tab") as chat_item:
                chat_tab = playground.layout(chat_item, chat)
            with gr.Tab("Space", id="space", elem_id="space-tab") as space_item:
                space_tab = space.layout(space_item, ctx)
        interrupted.wire(cards, interruptions)
        start.wire(start_tab, demo, ctx)
        data.wire(data_tab, ctx, uploads)
        train.wire(train_tab, demo, ctx, tokens)
        pretrain.wire(pretrain_tab, ctx)
        runs.wire(runs_tab, ctx, train_tab.text)
        evaluate.wire(evaluate_tab, ctx, chat)
        export.wire(export_tab, ctx, chat)
        playground.wire(chat_tab, chat)
        space.wire(space_tab, ctx)
        models = {"playground": chat_tab.source, "evaluate": evaluate_tab.source, "export": export_tab.source}
        _wire_links(links, train_tab, data_tab, models, ctx, chat)
        add_api(ctx)
    guard_events(demo)
    return demo


def _wire_links(
    links: gr.HTML,
    train_tab: train.TrainTab,
    data_tab: data.DataTab,
    models: dict[str, gr.Dropdown],
    ctx: Context,
    chat: Chat,
) -> None:
    """Follow `#train/recipe/NAME`, `#train/dataset/NAME`, `#data/NAME`, `#playground/REF`, `#evaluate/REF` and `#export/REF`.

    `models` holds the model chooser of each tab that a REF leads to.
    """
    outputs = [train_tab.preset, train_tab.text, *models.values(), *data_tab.shown]
    at_models = {name: at for at, name in enumerate(models, 2)}
    at_data = 2 + len(models)

    @looks
    @shows_errors
    def follow(place: str, text: str) -> list[object]:
        tab, _, rest = place.partition("/")
        updates: list[object] = [gr.skip() for _ in outputs]
        if tab == "train":
            preset, updates[1] = train.linked_text(ctx, rest, text)
            updates[0] = preset or gr.skip()
        elif tab in models:
            found = chat.sources(files=tab != "export")
            updates[at_models[tab]] = gr.Dropdown(playground.choices_of(found), value=playground.newest_of(found, rest))
        elif tab == "data":
            updates[at_data:] = data.show(ctx, rest, 0)
        return updates

    links.select(follow, [links, train_tab.text], outputs, show_progress="hidden", api_visibility="private")
