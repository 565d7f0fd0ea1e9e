"""The Playground tab: talk to any checkpoint, streamed and stoppable."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from codex_space.core.errors import CodexError, ModelError
from codex_space.services.chat import AT_ONCE, MAX_NEW_TOKENS, Chat, ChatSource
from codex_space.ui.errors import message_of
from codex_space.ui.theme import make_html
from codex_space.ui.views.markup import render_empty
from codex_space.ui.views.playground import render_answer, render_speed

Messages = list[dict[str, str]]

_NO_MODEL = render_empty(
    "No model to talk to yet",
    "Train one first; each of its checkpoints appears here.",
    "#start",
    "Train your first model",
)
_PLACEHOLDER = "### Ask for a piece of code\nFor example: *Write a function that adds two numbers.*"


@dataclass(frozen=True)
class PlaygroundTab:
    """The tab's components."""

    tab: gr.Tab
    empty: gr.HTML
    body: gr.Column
    source: gr.Dropdown
    log: gr.Chatbot
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button
    max_new_tokens: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    history: gr.State


def layout(tab: gr.Tab, chat: Chat) -> PlaygroundTab:
    """Lay out the model chooser, the conversation and the sampling drawer."""
    found = chat.sources(files=True)
    empty = make_html(_NO_MODEL, visible=not found, elem_id="chat-empty")
    history = gr.State([])
    with gr.Column(visible=bool(found), elem_classes="cs-card") as body:
        source = gr.Dropdown(
            choices_of(found), value=found[0].ref if found else None, label="Model", elem_id="chat-source",
            info="A run's checkpoint; it is loaded with the first question, which takes a few seconds.", allow_custom_value=True,
        )  # fmt: skip
        log = gr.Chatbot(
            label="Conversation", show_label=False, height=460, layout="panel", placeholder=_PLACEHOLDER, buttons=["copy"], elem_id="chat-log",
            feedback_options=None, latex_delimiters=[],
        )  # fmt: skip
        with gr.Row(equal_height=False):
            text = gr.Textbox(
                label="Message", lines=1, max_lines=8, scale=6, min_width=240, elem_id="chat-input",
                info="Enter sends, Shift+Enter starts a new line.", placeholder="Write a function that adds two numbers.",
            )  # fmt: skip
            with gr.Column(scale=1, min_width=130):
                send = gr.Button("Send", variant="primary", elem_id="chat-send")
                stop = gr.Button("Stop", interactive=False, elem_id="chat-stop")
                clear = gr.Button("Start over", size="sm", elem_id="chat-clear")
        with gr.Accordion("Sampling", open=False, elem_id="chat-sampling"):
            with gr.Row():
                most = gr.Slider(
                    16,
                    MAX_NEW_TOKENS,
                    256,
                    step=16,
                    label="Longest answer, tokens",
                    info="The answer is cut there.",
                    elem_id="chat-max-tokens",
                )
                heat = gr.Slider(
                    0,
                    1.5,
                    0.2,
                    step=0.05,
                    label="Temperature",
                    info="0 always takes the likeliest token; higher varies more.",
                    elem_id="chat-temperature",
                )
                top_p = gr.Slider(
                    0.05,
                    1,
                    0.95,
                    step=0.05,
                    label="Top p",
                    info="Only the likeliest tokens up to this share are drawn from.",
                    elem_id="chat-top-p",
                )
    return PlaygroundTab(tab, empty, body, source, log, text, send, stop, clear, most, heat, top_p, history)


def wire(tab: PlaygroundTab, chat: Chat) -> None:
    """Connect sending, stopping and the list of models."""

    def answer(  # noqa: PLR0913  # the inputs in their order
        ref: str | None,
        text: str,
        history: Messages,
        max_new_tokens: float,
        temperature: float,
        top_p: float,
        request: gr.Request,
    ) -> Iterator[list[object]]:
        if not text.strip():
            yield [gr.skip() for _ in range(5)]
            return
        asked = [*history, {"role": "user", "content": text.strip()}]
        before = [{"role": each["role"], "content": render_answer(each["content"])} for each in asked]
        yield [[*before, _said("*Waiting for the model.*")], "", history, *_busy(True)]
        parts: list[str] = []
        foot = ""
        try:
            if not ref:
                raise ModelError("no model is chosen", cure="Choose one above.")
            for delta in chat.stream(
                ref,
                asked,
                asker=request.session_hash or "",
                max_new_tokens=int(max_new_tokens),
                temperature=temperature,
                top_p=top_p,
            ):
                parts.append(delta.text)
                if delta.done:
                    foot = render_speed(delta.num_tokens, delta.tokens_per_s)
                yield [
                    [*before, _said(render_answer("".join(parts), foot))],
                    gr.skip(),
                    gr.skip(),
                    gr.skip(),
                    gr.skip(),
                ]
        except CodexError as error:
            shown = [*before, _said(f"**Not answered.** {message_of(error).replace('![', '&#33;[')}")]
            yield [shown, gr.skip(), history, *_busy(False)]
            return
        yield [
            [*before, _said(render_answer("".join(parts), foot))],
            gr.skip(),
            [*asked, _said("".join(parts))],
            *_busy(False),
        ]

    def stop(request: gr.Request) -> None:
        chat.stop(request.session_hash or "")

    def list_models(chosen: str | None) -> list[object]:
        found = chat.sources(files=True)
        if found:
            chat.prepare()
        known = [source.ref for source in found]
        # A known choice is left alone: a link may be setting it at this moment.
        keep = chosen in known or not known
        menu = gr.Dropdown(choices_of(found)) if keep else gr.Dropdown(choices_of(found), value=known[0])
        return [gr.HTML(visible=not found), gr.Column(visible=bool(found)), menu]

    inputs = [tab.source, tab.text, tab.history, tab.max_new_tokens, tab.temperature, tab.top_p]
    outputs = [tab.log, tab.text, tab.history, tab.send, tab.stop]
    gr.on(
        [tab.send.click, tab.text.submit],
        answer,
        inputs,
        outputs,
        show_progress="hidden",
        concurrency_limit=AT_ONCE,
        api_visibility="private",
    )
    tab.stop.click(stop, None, None, show_progress="hidden", concurrency_limit=None, api_visibility="private")
    gr.on(
        [tab.clear.click, tab.log.clear, tab.source.input],
        lambda: ([], []),
        None,
        [tab.log, tab.history],
        show_progress="hidden",
        api_visibility="private",
    )
    tab.tab.select(
        list_models, tab.source, [tab.empty, tab.body, tab.source], show_progress="hidden", api_visibility="private"
    )


def choices_of(found: list[ChatSource]) -> list[tuple[str, str]]:
    """Return (label, ref) for the menu."""
    return [(source.label, source.ref) for source in found]


def newest_of(found: list[ChatSource], ref: str) -> str:
    """Return the ref itself, or of `run:ID` its newest checkpoint."""
    return next((source.ref for source in found if source.ref == ref or source.ref.startswith(f"{ref}@")), ref)


def _said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _busy(busy: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button("Answering" if busy else "Send", interactive=not busy), gr.Button(interactive=busy)
