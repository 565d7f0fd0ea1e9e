"""The Export tab: make a model into GGUF files, read what was proven of each, and take them home."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from codex_space.core.errors import CodexError, ModelError, RecipeError
from codex_space.core.export_tools import find_converter
from codex_space.services import exports, runs
from codex_space.services.chat import Chat
from codex_space.services.context import Context
from codex_space.ui.errors import message_of, shows_errors
from codex_space.ui.tabs.playground import choices_of
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views import export as view
from codex_space.ui.views.markup import render_notice


@dataclass(frozen=True)
class ExportTab:
    """The tab's components; the value of `listing` is the export to be shown next."""

    tab: gr.Tab
    source: gr.Dropdown
    kinds: gr.CheckboxGroup
    name: gr.Textbox
    system: gr.Textbox
    repo_id: gr.Textbox
    imatrix: gr.Checkbox
    adapter: gr.Checkbox
    go: gr.Button
    tools: gr.HTML
    result: gr.HTML
    listing: gr.HTML
    shown: gr.HTML


def layout(tab: gr.Tab, ctx: Context, chat: Chat) -> ExportTab:
    """Lay out the choice and the list on the left, the chosen export on the right."""
    models = choices_of(chat.sources())
    first = models[0][1] if models else None
    ready = find_converter() is not None
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            with gr.Column(elem_classes="cs-card"):
                source = gr.Dropdown(
                    models, value=first, label="Model", elem_id="export-source", allow_custom_value=True,
                    info="A run's checkpoint, or the id of a model on the Hub (owner/name).",
                )  # fmt: skip
                kinds = gr.CheckboxGroup(
                    view.choices_of(exports.list_types(ctx, first)), value=list(view.USUAL), label="Types", elem_id="export-types",
                    info="With the size each file will have. More bits are closer to the model, fewer need less memory.",
                )  # fmt: skip
                with gr.Accordion("More", open=False, elem_id="export-more"):
                    name = gr.Textbox(
                        label="Name", max_length=60, elem_id="export-name",
                        info="The files' names begin with it; empty for the run's own.",
                    )  # fmt: skip
                    system = gr.Textbox(
                        label="System prompt", lines=2, max_length=4000, elem_id="export-system",
                        info="What Ollama tells the model before each chat; empty for nothing.",
                    )  # fmt: skip
                    repo_id = gr.Textbox(
                        label="Push to", max_length=200, elem_id="export-repo", placeholder="owner/name",
                        info="A private repository on the Hub, made where there is none; empty keeps the files here.",
                    )  # fmt: skip
                    imatrix = gr.Checkbox(
                        label="Importance matrix", elem_id="export-imatrix",
                        info="Measures on code which weights matter most; takes longer, helps below 5 bits.",
                    )  # fmt: skip
                    adapter = gr.Checkbox(
                        label="Adapter on its own", elem_id="export-adapter",
                        info="Of a LoRA run also the adapter as a small file, for programs that load it on its base.",
                    )  # fmt: skip
                tools = make_html(view.render_tools(ready), elem_id="export-tools")
                go = gr.Button("Export", variant="primary", interactive=ready, elem_id="export-go")
                result = make_html(elem_id="export-message")
            with gr.Column(elem_classes="cs-card"):
                make_html("<h3>Exports</h3>")
                listing = make_html(value="", html_template="", js_on_load=widget("export-list"), elem_id="export-list")
        with gr.Column(scale=5, min_width=320, elem_id="export-detail"):
            with gr.Column(elem_classes="cs-card"):
                shown = make_html(
                    value="", html_template="", js_on_load=widget("export-result", "select"), elem_id="export-result"
                )
    return ExportTab(tab, source, kinds, name, system, repo_id, imatrix, adapter, go, tools, result, listing, shown)


def wire(tab: ExportTab, ctx: Context, chat: Chat) -> None:
    """Connect the press, stopping, and what a choice of model changes; all that moves by itself is polled."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def look_again(chosen: str | None, kinds: list[str]) -> list[object]:
        found, ready = choices_of(chat.sources()), find_converter() is not None
        ref = chosen or (found[0][1] if found else None)
        sizes = gr.CheckboxGroup(view.choices_of(exports.list_types(ctx, ref)), value=kinds)
        return [gr.Dropdown(found, value=ref), sizes, view.render_tools(ready), gr.Button(interactive=ready)]

    def list_types(ref: str | None, kinds: list[str]) -> gr.CheckboxGroup:
        return gr.CheckboxGroup(view.choices_of(exports.list_types(ctx, ref)), value=kinds)

    @shows_errors
    def act(wish: str) -> None:
        verb, _, run_id = wish.partition(" ")
        if verb == "resume":
            runs.resume(ctx, run_id)
        else:
            runs.stop(ctx, run_id)

    tab.tab.select(look_again, [tab.source, tab.kinds], [tab.source, tab.kinds, tab.tools, tab.go], **quiet)
    tab.source.change(list_types, [tab.source, tab.kinds], tab.kinds, **quiet)
    tab.go.click(
        lambda *asked: _export(ctx, *asked),
        [tab.source, tab.kinds, tab.name, tab.system, tab.repo_id, tab.imatrix, tab.adapter],
        [tab.result, tab.listing],
        show_progress_on=tab.result,
        api_visibility="private",
    )
    tab.shown.select(act, tab.shown, None, **quiet)


def _export(ctx: Context, ref: str | None, kinds: list[str], *said: str | bool | None) -> tuple[str, object]:
    """Return the message, and the export to show where there is one."""
    try:
        if not (ref or "").strip():
            raise ModelError("no model is chosen", cure="Choose a checkpoint, or write a Hub id.")
        if not kinds:
            raise RecipeError("no type is ticked", cure="Q4_K_M is the usual choice.")
        name, system, repo_id = (str(each or "").strip() for each in said[:3])
        text = exports.recipe_text(
            str(ref).strip(),
            kinds,
            name=name,
            system=system,
            repo_id=repo_id,
            imatrix=bool(said[3]),
            adapter=bool(said[4]),
        )
        run = runs.submit_once(ctx, text)
    except CodexError as error:
        return render_notice("bad", "Not started", message_of(error)), gr.skip()
    return view.render_started(run), run.id
