"""The Evaluate tab: put a model to a benchmark, and read what came of it problem by problem."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from codex_space.core.errors import CodexError, ModelError
from codex_space.core.recipe import MEASURED
from codex_space.core.settings import Secret
from codex_space.services import evaluations, runs
from codex_space.services.chat import Chat
from codex_space.services.context import Context
from codex_space.ui.errors import message_of, shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.tabs.playground import choices_of
from codex_space.ui.tabs.train_form import dataset_choices
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views import evaluate as view
from codex_space.ui.views.markup import render_notice

MAX_SAMPLES, MAX_NEW_TOKENS = 200, 4096


@dataclass(frozen=True)
class Server:
    """The fields that name a model on a server."""

    card: gr.Column
    url: gr.Textbox
    model: gr.Textbox
    key: gr.Textbox


@dataclass(frozen=True)
class EvaluateTab:
    """The tab's components; the value of `listing` is the run whose evaluation is to be shown next."""

    tab: gr.Tab
    where: gr.Radio
    source: gr.Dropdown
    server: "Server"
    benchmark: gr.Dropdown
    about: gr.HTML
    data: gr.Dropdown
    metrics: gr.Dropdown
    mode: gr.Radio
    limit: gr.Textbox
    prompt_form: gr.Dropdown
    num_samples: gr.Number
    temperature: gr.Slider
    max_new_tokens: gr.Number
    go: gr.Button
    result: gr.HTML
    listing: gr.HTML
    shown: gr.HTML

    @property
    def asked(self) -> list[gr.components.Component]:
        """What a person decides before the press."""
        return [
            self.where,
            self.server.url,
            self.server.model,
            self.server.key,
            self.source,
            self.benchmark,
            self.data,
            self.metrics,
            self.mode,
            self.limit,
            self.prompt_form,
            self.num_samples,
            self.temperature,
            self.max_new_tokens,
        ]


def layout(tab: gr.Tab, chat: Chat, *, on_space: bool) -> EvaluateTab:
    """Lay out the choice and the list on the left, the chosen evaluation on the right."""
    models, known = choices_of(chat.sources(files=True)), evaluations.benchmarks()
    first = known[0]["name"] if known else None
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            with gr.Column(elem_classes="cs-card"):
                where = gr.Radio(
                    view.PLACES, value="here", label="Where the model is", elem_id="evaluate-where",
                    info="A server answers by OpenAI's protocol: llama.cpp, vLLM, Ollama, or a service.",
                )  # fmt: skip
                source = gr.Dropdown(
                    models, value=models[0][1] if models else None, label="Model", elem_id="evaluate-source", allow_custom_value=True,
                    info="A run's checkpoint, or the id of a model on the Hub (owner/name).",
                )  # fmt: skip
                server = _layout_server(on_space=on_space)
                benchmark = gr.Dropdown(
                    view.choices_of(known), value=first, label="Benchmark", elem_id="evaluate-benchmark",
                    info="The problems; each answer is run against its tests in the sandbox.",
                )  # fmt: skip
                about = make_html(view.render_about(known, first), elem_id="evaluate-about")
                data = gr.Dropdown(
                    [], label="Rows to measure", allow_custom_value=True, visible=False, elem_id="evaluate-data",
                    info="A dataset of yours, a sample set, a file on this machine or a Hub dataset.",
                )  # fmt: skip
                metrics = gr.Dropdown(
                    view.METRICS, value=view.USUAL_METRICS, multiselect=True, label="Compared by", visible=False, elem_id="evaluate-metrics",
                    info="How answers are compared with the completions beside the prompts; each gets its 95 % interval.",
                )  # fmt: skip
                mode = gr.Radio(
                    view.MODES, value="auto", label="Prompt", elem_id="evaluate-mode",
                    info="Chat asks through the model's chat template, completion lets it go on with the code; auto takes chat where there is a template.",
                )  # fmt: skip
                limit = gr.Textbox(
                    view.ALL, label="Problems", info="all, or how many for a quicker and rougher look.", elem_id="evaluate-limit",
                )  # fmt: skip
                form, samples, heat, most = _layout_details()
                go = gr.Button("Evaluate", variant="primary", elem_id="evaluate-go")
                result = make_html(elem_id="evaluate-message")
            with gr.Column(elem_classes="cs-card"):
                make_html("<h3>Evaluations</h3>")
                listing = make_html(
                    value="", html_template="", js_on_load=widget("evaluate-list"), elem_id="evaluate-list"
                )
        with gr.Column(scale=5, min_width=320, elem_id="evaluate-detail"):
            with gr.Column(elem_classes="cs-card"):
                shown = make_html(
                    value="",
                    html_template="",
                    js_on_load=widget("evaluate-result", "select"),
                    elem_id="evaluate-result",
                )
                make_html(html_template="", js_on_load=widget("evaluate-against"), elem_id="evaluate-against")
            with gr.Column(elem_classes="cs-card", elem_id="evaluate-problems-card"):
                make_html(html_template="", js_on_load=widget("evaluate-problems"), elem_id="evaluate-problems")
    return EvaluateTab(
        tab, where, source, server, benchmark, about, data, metrics, mode, limit, form, samples, heat, most, go, result, listing, shown
    )  # fmt: skip


def _layout_server(*, on_space: bool) -> Server:
    with gr.Column(visible=False, elem_id="evaluate-server") as card:
        url = gr.Textbox(
            label="Address", placeholder="https://HOST/v1", max_lines=1, elem_id="evaluate-url", info=view.what_is_asked(on_space=on_space),
        )  # fmt: skip
        model = gr.Textbox(
            label="Model", placeholder="what that server calls it", max_lines=1, elem_id="evaluate-served", info="The name its requests carry.",
        )  # fmt: skip
        key = gr.Textbox(
            label="Key", type="password", max_lines=1, elem_id="evaluate-key", html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            info="Empty for a server without one. It is held in memory until the run starts, goes to that address alone, and is neither stored nor shown again.",
        )  # fmt: skip
    return Server(card, url, model, key)


def _layout_details() -> tuple[gr.Dropdown, gr.Number, gr.Slider, gr.Number]:
    with gr.Accordion("Prompt form and sampling", open=False, elem_id="evaluate-sampling"):
        form = gr.Dropdown(
            view.FORMS, value="auto", label="Prompt form", elem_id="evaluate-form",
            info="The same model scores otherwise in another form; the protocol beside a score names it.",
        )  # fmt: skip
        samples = gr.Number(
            1, precision=0, minimum=1, maximum=MAX_SAMPLES, label="Samples per problem", elem_id="evaluate-samples",
            info="1 is greedy pass@1. More need a temperature above 0 and give pass@k.",
        )  # fmt: skip
        heat = gr.Slider(
            0, 1.5, 0, step=0.05, label="Temperature", elem_id="evaluate-temperature",
            info="0 always takes the likeliest token; 0.2 is usual for pass@1, 0.8 for pass@10.",
        )  # fmt: skip
        most = gr.Number(
            512, precision=0, minimum=16, maximum=MAX_NEW_TOKENS, label="Longest answer, tokens", elem_id="evaluate-max-tokens",
            info="The answer is cut there; one that is cut mostly fails.",
        )  # fmt: skip
    return form, samples, heat, most


def wire(tab: EvaluateTab, ctx: Context, chat: Chat) -> None:
    """Connect the press, stopping and the list of models; all that moves by itself is polled."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def list_models(chosen: str | None, where: str) -> gr.Dropdown:
        found = choices_of(chat.sources(files=True))
        # A choice is left alone: it may be a Hub id, or a link may be setting it at this moment.
        keep = chosen or not found or where == "server"
        return gr.Dropdown(found) if keep else gr.Dropdown(found, value=found[0][1])

    @looks
    def place(chosen: str) -> tuple[gr.Dropdown, gr.Column]:
        return gr.Dropdown(visible=chosen == "here"), gr.Column(visible=chosen == "server")

    @looks
    def follow_link(where: str) -> tuple[object, object, object]:
        """A hidden choice of a model changes by a link alone."""
        return ("here", *place("here")) if where == "server" else (gr.skip(),) * 3

    tab.where.input(place, tab.where, [tab.source, tab.server.card], **quiet)
    tab.source.change(follow_link, tab.where, [tab.where, tab.source, tab.server.card], **quiet)

    @shows_errors
    def stop(run_id: str) -> None:
        runs.stop(ctx, run_id)

    tab.tab.select(list_models, [tab.source, tab.where], tab.source, **quiet)

    @looks
    def show_about(name: str) -> tuple[str, gr.Dropdown, gr.Dropdown]:
        about = view.render_about(evaluations.benchmarks(), name)
        rows = gr.Dropdown(dataset_choices(ctx), visible=name in MEASURED)
        return about, rows, gr.Dropdown(visible=name == "answers")

    tab.benchmark.input(show_about, tab.benchmark, [tab.about, tab.data, tab.metrics], **quiet)
    tab.go.click(
        lambda *asked: _evaluate(ctx, *asked),
        tab.asked,
        [tab.result, tab.listing, tab.server.key],
        show_progress_on=tab.result,
        api_visibility="private",
    )
    tab.shown.select(stop, tab.shown, None, **quiet)


def _evaluate(ctx: Context, *asked: Any) -> tuple[str, object, str]:  # noqa: ANN401  # as Gradio gives EvaluateTab.asked
    """Return the message, the run to show where there is one, and an empty key: it is asked for again."""
    (
        where,
        url,
        served,
        key,
        ref,
        benchmark,
        data,
        metrics,
        mode,
        limit,
        form,
        num_samples,
        temperature,
        max_new_tokens,
    ) = asked
    try:
        is_served, key = where == "server", (key or "").strip()
        if is_served:
            ref = view.read_served(url, served)
        if not (ref or "").strip():
            raise ModelError("no model is chosen", cure="Choose a checkpoint, or write a Hub id.")
        text = evaluations.recipe_text(
            str(ref).strip(),
            benchmark,
            datasets=[data.strip()] if data and benchmark in MEASURED else [],
            metrics=metrics or [] if benchmark == "answers" else [],
            mode=mode,
            prompt_form=form,
            limit=view.read_limit(limit or ""),
            num_samples=int(num_samples or 1),
            temperature=float(temperature or 0.0),
            max_new_tokens=int(max_new_tokens or 512),
            endpoint={"url": url.strip(), "has_key": bool(key)} if is_served else None,
        )
        run = runs.submit_once(ctx, text, Secret(key) if is_served and key else None)
    except CodexError as error:
        return render_notice("bad", "Not started", message_of(error)), gr.skip(), ""
    return view.render_started(run), run.id, ""
