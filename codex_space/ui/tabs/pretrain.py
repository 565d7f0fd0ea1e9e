"""The Pretrain tab: one dial for a model of one's own, what it needs on every machine, and its start."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from codex_space.core.dial import MAX_DEPTH, MIN_DEPTH, TOKENS_PER_PARAMETER
from codex_space.core.errors import CodexError
from codex_space.services import pretraining, probe, runs
from codex_space.services.context import Context
from codex_space.ui.errors import message_of
from codex_space.ui.tabs.train_form import dataset_choices, tokenizer_choices
from codex_space.ui.theme import make_html
from codex_space.ui.views import pretrain as view
from codex_space.ui.views.markup import escape, render_notice

_STYLES = [("Llama: RMSNorm, SwiGLU", "llama"), ("Starcoder2: LayerNorm, GELU", "starcoder2")]
_FIRST = pretraining.Choice(4, "llama", TOKENS_PER_PARAMETER, "fresh:bpe", ("builtin:python-stdlib",))


@dataclass(frozen=True)
class PretrainTab:
    """The tab's components; `chosen` in the order of `pretraining.Choice`."""

    item: gr.Tab
    chosen: list[Any]
    sizes: gr.HTML
    budget: gr.HTML
    measure: gr.Button
    measured: gr.HTML
    text: gr.Code
    look: gr.Button
    row: gr.Number
    looked: gr.HTML
    start: gr.Button
    started: gr.HTML


def layout(item: gr.Tab, ctx: Context) -> PretrainTab:
    """Lay out the dial on the left and what it comes to on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            depth = gr.Slider(
                MIN_DEPTH, MAX_DEPTH, _FIRST.depth, step=2, label="Depth", elem_id="pretrain-depth",
                info="Layers; width, heads, batch, learning rate and tokens follow from it.",
            )  # fmt: skip
            ratio = gr.Slider(
                1, 100, TOKENS_PER_PARAMETER, step=1, label="Tokens for each parameter", elem_id="pretrain-ratio",
                info="20 makes the best model for the money; more makes a better one of the same size.",
            )  # fmt: skip
            style = gr.Radio(
                _STYLES, value=_FIRST.style, label="Shape", elem_id="pretrain-style",
                info="Both are transformers' own classes: LoRA, GGUF, vLLM and chat work at once.",
            )  # fmt: skip
            tokenizer = gr.Dropdown(
                tokenizer_choices(ctx), value=_FIRST.tokenizer, label="Tokenizer", allow_custom_value=True,
                info="A tokenizer run of yours, a folder, or one learnt from the same text.", elem_id="pretrain-tokenizer",
            )  # fmt: skip
            datasets = gr.Dropdown(
                dataset_choices(ctx), value=list(_FIRST.datasets), label="Text", multiselect=True, allow_custom_value=True,
                info="Yours, a sample, the standard library's source, or a Hub id.", elem_id="pretrain-datasets",
            )  # fmt: skip
            shares = gr.Textbox(
                label="Shares", placeholder="0.7, 0.2, 0.1", elem_id="pretrain-shares",
                info="Of the text in bytes, in the order above; 70 % code, 20 % text and 10 % instructions is common. "
                "Empty takes all of each.",
            )  # fmt: skip
            with gr.Accordion("Look at packed text", open=False):
                with gr.Row():
                    row = gr.Number(
                        0, label="Row", precision=0, minimum=0, info="Which row of packed tokens, from 0.", elem_id="pretrain-row"
                    )  # fmt: skip
                    look = gr.Button("Look", elem_id="pretrain-look")
                looked = make_html("", elem_id="pretrain-looked")
        with gr.Column(scale=2, min_width=320, elem_classes="cs-card"):
            sizes = make_html("", elem_id="pretrain-sizes")
            start = gr.Button("Start pretraining", variant="primary", interactive=False, elem_id="pretrain-start")
            started = make_html("", elem_id="pretrain-started")
            budget = make_html("", elem_id="pretrain-budget")
            measure = gr.Button("Measure the time here: 20 steps", interactive=False, elem_id="pretrain-measure")
            measured = make_html("", elem_id="pretrain-measured")
            with gr.Accordion("The recipe", open=False):
                text = gr.Code(language="yaml", interactive=False, show_label=False, elem_id="pretrain-yaml")
    chosen = [depth, style, ratio, tokenizer, datasets, shares]
    return PretrainTab(item, chosen, sizes, budget, measure, measured, text, look, row, looked, start, started)


def wire(tab: PretrainTab, ctx: Context) -> None:
    """Connect the dial; what it shows follows the newest place it is at."""
    shown = [tab.sizes, tab.budget, tab.text, tab.start, tab.started, tab.measure, tab.measured]

    def show(*given: Any) -> list[Any]:  # noqa: ANN401  # as Gradio gives them
        return _show(ctx, given)

    def refresh(*given: Any) -> list[Any]:  # noqa: ANN401  # as Gradio gives them
        return [gr.Dropdown(tokenizer_choices(ctx)), gr.Dropdown(dataset_choices(ctx)), *show(*given)]

    depth, style, ratio, tokenizer, datasets, shares = tab.chosen
    events = [each.change for each in (depth, ratio, style, tokenizer, datasets)] + [shares.submit, shares.blur]
    for event in events:
        event(show, tab.chosen, shown, show_progress="hidden", trigger_mode="always_last", api_visibility="private")
    outputs = [tokenizer, datasets, *shown]
    tab.item.select(refresh, tab.chosen, outputs, show_progress="hidden", api_visibility="private")
    tab.look.click(
        lambda row, *given: _look(ctx, int(row or 0), given),
        [tab.row, *tab.chosen],
        tab.looked,
        api_visibility="private",
    )
    tab.measure.click(lambda text: _measure(ctx, text), tab.text, [tab.budget, tab.measured], api_visibility="private")
    tab.start.click(lambda text: _start(ctx, text), tab.text, tab.started, api_visibility="private")


def _show(ctx: Context, given: tuple[Any, ...]) -> list[Any]:
    try:
        plan = pretraining.plan(ctx, _choice(given))
        needs = view.render_budget(pretraining.budget(ctx, plan.text))
    except CodexError as error:
        off = gr.Button(interactive=False)
        return [view.render_refused(error), "", "", off, "", off, ""]
    on = gr.Button(interactive=True)
    return [view.render_dial(plan.dial), needs, plan.text, on, "", on, ""]


def _look(ctx: Context, row: int, given: tuple[Any, ...]) -> str:
    try:
        choice = _choice(given)
        plan = pretraining.plan(ctx, choice)
        return view.render_look(pretraining.look(ctx, choice, plan.dial.block_size, row))
    except CodexError as error:
        return view.render_refused(error)


def _measure(ctx: Context, text: str) -> tuple[Any, str]:
    try:
        here = probe.measure(ctx, text)
        others = pretraining.budget(ctx, text)[1:]
    except CodexError as error:
        return gr.skip(), render_notice("bad", "Not measured", message_of(error))
    return view.render_budget([here, *others]), view.render_measured(here)


def _start(ctx: Context, text: str) -> str:
    try:
        run = runs.submit_once(ctx, text)
    except CodexError as error:
        return render_notice("bad", "Not started", message_of(error))
    link = f"<a class=cs-link href='#runs/{escape(run.id)}'>Watch it on Runs</a>"
    return render_notice("good", f"{run.name} is in the queue", link)


def _choice(given: tuple[Any, ...]) -> pretraining.Choice:
    depth, style, ratio, tokenizer, datasets, shares = given
    return pretraining.Choice(
        int(depth), style, float(ratio), str(tokenizer or ""), tuple(datasets or ()), shares or ""
    )
