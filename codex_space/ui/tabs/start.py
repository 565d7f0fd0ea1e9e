"""The Start tab: the first model by one press, what a real base model needs, and ways to make one's own."""

from dataclasses import dataclass

import gradio as gr

from codex_space.core.errors import CodexError
from codex_space.core.presets import list_presets
from codex_space.hub.records import Account
from codex_space.services import datasets, first_model, models
from codex_space.services.account import own_account
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views import start as view

_DURATION = {
    "stdlib": "about five minutes on two processor cores",
    "tiny": "a few seconds, since this page was started for a trial",
}
_OWN = (
    "<p class=cs-lead>Start from random weights: choose the text, the size and the tokenizer.</p>"
    "<ul class=cs-links>"
    "<li><a class=cs-link href='#train/recipe/tokenizer/stdlib'>Learn a tokenizer</a>"
    "<span class=cs-faint>under a minute</span></li>"
    "<li><a class=cs-link href='#pretrain'>Pretrain a base model</a>"
    "<span class=cs-faint>one dial: size, text, cost</span></li>"
    "<li><a class=cs-link href='#train/recipe/sft/first-chat-cpu'>Tune it to chat</a>"
    "<span class=cs-faint>one to two minutes</span></li></ul>"
)


@dataclass(frozen=True)
class StartTab:
    """The tab's components."""

    train: gr.Button
    why: gr.HTML
    steps: gr.HTML
    checks: gr.HTML


def layout(ctx: Context) -> StartTab:
    """Lay out three cards and the newest run."""
    found, here = first_model.status(ctx), models.machine(ctx)
    gpu_bytes = max((gpu.memory_bytes for gpu in here.gpus), default=0)
    real = [preset for preset in list_presets("sft") if preset.name.startswith("sft/qwen")]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320, elem_classes="cs-card"):
            make_html(
                "<h2>Train your first model</h2><p class=cs-lead>A small model of your own, from nothing: it learns "
                "Python from the code on this machine, then to answer requests. No account, no GPU, no network; "
                f"{_DURATION[ctx.settings.first_model]}.</p>"
            )
            train = gr.Button(
                view.button_label(found),
                variant="primary",
                size="lg",
                interactive=not view.is_busy(found),
                elem_id="start-train",
            )
            why = make_html(_why(ctx), elem_id="start-why")
            steps = make_html(html_template="", js_on_load=widget("start-steps", "change"), elem_id="start-steps")
        with gr.Column(scale=2, min_width=320):
            with gr.Column(elem_classes="cs-card"):
                make_html(
                    "<h3>Tune a real model</h3><p class=cs-lead>LoRA on Qwen2.5-Coder, your data, your repository.</p>"
                )
                checks = make_html(_checks(ctx, None), elem_id="start-checks")
                make_html(view.render_real_models(real, gpu_bytes), elem_id="start-models")
            with gr.Column(elem_classes="cs-card"):
                make_html(f"<h3>Make your own</h3>{_OWN}", elem_id="start-own")
    make_html(html_template="", js_on_load=widget("start-newest"), elem_id="start-newest")
    return StartTab(train, why, steps, checks)


def wire(tab: StartTab, demo: gr.Blocks, ctx: Context) -> None:
    """Connect the button, and what changes when a run ends."""

    @shows_errors
    def press() -> tuple[gr.Button, str]:
        found = first_model.status(ctx)
        if not view.is_busy(found):
            first_model.start(ctx, view.press_key(found))
        return show()

    @looks
    def show() -> tuple[gr.Button, str]:
        found = first_model.status(ctx)
        return gr.Button(view.button_label(found), interactive=not view.is_busy(found)), _why(ctx)

    outputs = [tab.train, tab.why]
    tab.train.click(press, None, outputs, show_progress="hidden", api_visibility="private")
    tab.steps.change(show, None, outputs, show_progress="hidden", api_visibility="private")
    demo.load(show, None, outputs, show_progress="hidden", api_visibility="private")
    demo.load(
        lambda: _checks(ctx, _ask_account(ctx)), None, tab.checks, show_progress="hidden", api_visibility="private"
    )


def _why(ctx: Context) -> str:
    found = first_model.status(ctx)
    if view.is_busy(found):
        return "<p class=cs-note>It is being trained now. You can close this page; it goes on.</p>"
    if found:
        return "<p class=cs-note>Trains a new one from the beginning; the earlier one stays.</p>"
    return "<p class=cs-note>You can watch, or close the page: it goes on without you.</p>"


def _checks(ctx: Context, account: Account | CodexError | None) -> str:
    return view.render_tune_checks(models.machine(ctx), account, len(datasets.list_datasets(ctx)))


def _ask_account(ctx: Context) -> Account | CodexError:
    try:
        return own_account(ctx)
    except CodexError as error:
        return error
