"""The Train tab: a recipe as a short form, as every setting there is, and as text; all three say the same."""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from codex_space.core.errors import CodexError, RecipeError
from codex_space.core.estimate import Estimate
from codex_space.core.presets import list_presets, read_recipe_text
from codex_space.core.recipe import parse_recipe
from codex_space.core.sweep import expand
from codex_space.core.yaml_text import parse_yaml
from codex_space.data.formats import ACCEPTED
from codex_space.services import commands, datasets, estimate, forecast, leaving, runs
from codex_space.services.checks import readiness
from codex_space.services.context import Context
from codex_space.services.preflight import check_tokens
from codex_space.services.tokens import TokenView
from codex_space.store.runs import FINAL, Run
from codex_space.ui.errors import message_of, shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.tabs import train_take, train_tokens
from codex_space.ui.tabs.train_form import (
    FormFields,
    form_values,
    layout_form,
    read_edits,
    search_choices,
    where_choices,
)
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views import estimate as estimate_view
from codex_space.ui.views import form as form_view
from codex_space.ui.views import settings as settings_view
from codex_space.ui.views import train as view
from codex_space.ui.views.markup import escape, render_check, render_checks, render_notice

FIRST_PRESET = "sft/tiny-cpu"
AT_ONCE = 4
"""Presses that are looked into beside each other: a Hub that is slow to answer one person holds nobody else up."""
HUB_WAIT_S = 2.0
"""For the Space's sleep time, on the way to what a run needs."""


@dataclass(frozen=True)
class TrainTab:
    """The tab's components; `text` is the recipe that all others show, `form_text` the one the form has got to."""

    tab: gr.Tab
    preset: gr.Dropdown
    form: FormFields
    form_text: gr.Textbox
    batch_note: gr.HTML
    settings: gr.HTML
    text: gr.Textbox
    verdict: gr.HTML
    hardware: gr.Dropdown
    needs: gr.HTML
    awake: gr.Button
    check: gr.Button
    tokens: gr.HTML
    go: gr.Button
    look: train_tokens.Look
    result: gr.HTML
    command: gr.HTML
    taken: tuple[dict[str, gr.Button], gr.File]
    request_key: gr.State

    @property
    def described(self) -> list[gr.components.Component]:
        """What follows from the text."""
        return [
            self.verdict,
            self.go,
            self.command,
            self.batch_note,
            self.settings,
            self.tokens,
            self.result,
        ]


def layout(tab: gr.Tab, ctx: Context) -> TrainTab:
    """Lay out the form on the left and the card that stays in sight on the right."""
    text_now = read_recipe_text(FIRST_PRESET)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            with gr.Column(elem_classes="cs-card"):
                preset = gr.Dropdown(
                    view.preset_choices(list_presets()), value=FIRST_PRESET, label="Recipe", elem_id="train-recipe",
                    info="A tried starting point; choosing one replaces everything below.",
                )  # fmt: skip
                form = layout_form(ctx, text_now)
                form_text = gr.Textbox(text_now, visible=False)
                batch_note = make_html(view.render_batch(form_view.read_form(text_now)), elem_id="train-batch-note")
            with gr.Accordion("All settings", open=False, elem_id="train-all", elem_classes="cs-card"):
                settings = make_html(
                    value="", html_template="", state=_settings_state(text_now, FIRST_PRESET),
                    js_on_load=widget("train-settings", "input"), elem_id="train-settings",
                )  # fmt: skip
        with gr.Column(scale=2, min_width=320, elem_id="train-side"):
            with gr.Column(elem_classes="cs-card", elem_id="train-card"):
                verdict = make_html(
                    render_checks([render_check(None, "Recipe", "is being checked")]), elem_id="train-ready"
                )
                needs = make_html(elem_id="train-estimate")
                awake = gr.Button("Keep awake while runs train", visible=False, elem_id="train-awake")
                hardware = gr.Dropdown(
                    estimate_view.hardware_choices(), value=estimate.THIS_MACHINE, label="Estimated for",
                    elem_id="train-hardware", info="Only the estimate follows it; where the run trains is the last field of the form.",
                )  # fmt: skip
                with gr.Row():
                    check = gr.Button("Check the tokens", elem_id="train-check", min_width=140)
                    go = gr.Button("Train", variant="primary", elem_id="train-go", min_width=140)
                look = gr.Button("Look at the tokens", elem_id="train-look")
                make_html(
                    "<p class=cs-note>Look shows any row as the tokens the trainer sees. Check reads the rows with the model's tokenizer and counts what would be trained. "
                    "Train puts the run in the queue.</p>"
                )
                tokens = make_html(elem_id="train-tokens")
                result = make_html(elem_id="train-result")
                with gr.Accordion("Recipe as text", open=True, elem_id="train-text"):
                    text = gr.Textbox(
                        text_now, label="YAML", lines=14, max_lines=26, elem_id="train-yaml", elem_classes="cs-mono",
                        info="The whole recipe; what you change here shows in the form, and the other way round.",
                    )  # fmt: skip
                make_html("<p class=cs-note>The same from a terminal:</p>")
                command = make_html(elem_id="train-command")
                taken = train_take.layout()
    looked = train_tokens.layout(look)
    key = gr.State("")
    return TrainTab(
        tab,
        preset,
        form,
        form_text,
        batch_note,
        settings,
        text,
        verdict,
        hardware,
        needs,
        awake,
        check,
        tokens,
        go,
        looked,
        result,
        command,
        taken,
        key,
    )


def wire(tab: TrainTab, demo: gr.Blocks, ctx: Context, tokens: TokenView) -> None:
    """Connect form, settings and text to each other, and the two buttons."""
    form = tab.form.components

    @looks
    def fill_form(text: str, form_text: str) -> list[object]:
        try:
            before = form_view.read_form(form_text) if form_text else None
            return [text, *form_values(ctx, form_view.read_form(text), before)]
        except RecipeError:  # half-typed YAML; the card says what is wrong
            return [gr.skip() for _ in [tab.form_text, *form]]

    def describe(text: str, preset: str) -> list[object]:
        return _describe(ctx, text, preset)

    opened = [demo.load, tab.tab.select]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    all_of_it = [tab.text, tab.form_text, *form]

    def merged(*shown: Any) -> str:  # noqa: ANN401  # as the browser sends them
        """Return the text with what was changed in the form since it was filled; the very text where nothing was.

        The fields are read here: Gradio would hand each to a thread of its own, which takes seconds beside many people.
        """
        read: list[Any] = [one.preprocess(value) for one, value in zip(all_of_it, shown, strict=True)]
        text, form_text, *values = read
        edits = read_edits(text, form_text, values)
        return form_view.write_form(text, replace(form_view.read_form(text), **edits)) if edits else text

    def from_form(*shown: Any) -> object:  # noqa: ANN401  # as the browser sends them
        now = merged(*shown)
        return gr.skip() if now == shown[0] else now

    tab.preset.input(looks(read_recipe_text), tab.preset, tab.text, **quiet)
    tab.settings.input(shows_errors(_from_settings), [tab.text, tab.preset, tab.settings], tab.text, **quiet)
    # One listener for all fields: a second change waits for the answer to the first, then builds on its text.
    gr.on(
        [one.blur if isinstance(one, gr.Textbox) else one.input for one in form],
        shows_errors(from_form),
        all_of_it,
        tab.text,
        trigger_mode="always_last",
        preprocess=False,
        **quiet,
    )
    filled = [tab.form_text, *form]
    reads: dict[str, Any] = {**quiet, "trigger_mode": "always_last", "concurrency_limit": AT_ONCE}
    tab.text.change(fill_form, [tab.text, tab.form_text], filled, **reads)
    # A page that opens fills every field: Gradio shows a number field without a value as 0 until it is told.
    gr.on(opened, looks(lambda text: fill_form(text, "")), tab.text, filled, **reads)
    gr.on([tab.text.change, *opened], describe, [tab.text, tab.preset], tab.described, **reads)
    seen = [tab.needs, tab.awake, tab.go]
    gr.on(
        [tab.text.change, tab.hardware.input, *opened],
        lambda text, hardware: _estimate(ctx, text, hardware),
        [tab.text, tab.hardware],
        seen,
        **reads,
    )

    tab.awake.click(
        shows_errors(lambda text, hardware: _keep_awake(ctx, text, hardware)), [tab.text, tab.hardware], seen, **quiet
    )

    def search(typed: gr.KeyUpData) -> object:
        return search_choices(ctx, typed)

    # not always_last: gradio 6.31 then repeats the first key's text for all that follow
    tab.form.base.key_up(search, None, tab.form.base, trigger_mode="multiple", concurrency_limit=4, **quiet)
    tab.form.where.focus(
        lambda: gr.update(choices=where_choices(ctx, ask=True)), None, tab.form.where, concurrency_limit=2, **quiet
    )
    train_tokens.wire(tab.look, tab.text, tokens)
    train_take.wire(*tab.taken, tab.text, ctx)
    demo.load(looks(lambda: secrets.token_hex(8)), None, tab.request_key, **quiet)
    # What was typed last may not have reached the text when a button is pressed, so the buttons read the form too.
    tab.check.click(
        shows_errors(lambda *shown: _check(ctx, merged(*shown))),
        all_of_it,
        tab.tokens,
        show_progress_on=tab.tokens,
        preprocess=False,
        api_visibility="private",
    )
    tab.go.click(
        lambda key, *shown: _train(ctx, key, lambda: merged(*shown)),
        [tab.request_key, *all_of_it],
        tab.result,
        show_progress_on=tab.result,
        concurrency_limit=AT_ONCE,
        api_visibility="private",
        preprocess=False,
    )


def _from_settings(text: str, preset: str, payload: str) -> str:
    asked = json.loads(payload)
    if asked["reset"]:
        return settings_view.reset_setting(text, read_recipe_text(preset), asked["path"])
    return settings_view.put_setting(text, asked["path"], asked["value"])


def _estimate(ctx: Context, text: str, hardware: str) -> tuple[str, object, object]:
    """Return what it needs on the machine looked at; whether staying awake is offered; Train, with what it will cost."""
    try:
        texts = expand(text)
        launch = parse_recipe(texts[0]).launch
    except RecipeError:  # what is wrong with it the checklist says
        return "", gr.Button(visible=False), gr.Button("Train")
    found = _try_estimate(ctx, texts[0], hardware)
    shown = estimate_view.render_estimate(found) if isinstance(found, Estimate) else ""
    goes_to = estimate.THIS_MACHINE if launch.where == "local" else launch.flavor
    if isinstance(found, CodexError) and not isinstance(found, RecipeError):  # not asked again: the Hub may be slow
        shown = estimate_view.render_unknown(found)
    elif hardware != goes_to:
        found = _try_estimate(ctx, texts[0], goes_to)
    foreseen = forecast.weigh(ctx, texts, found if isinstance(found, Estimate) else None)
    warned = forecast.warnings(ctx, foreseen, wait_s=HUB_WAIT_S)
    offered = leaving.can_keep_awake(ctx) and any(line.label == "Sleep" for line in warned)
    shown += estimate_view.render_warnings(warned)
    return shown, gr.Button(visible=offered), gr.Button(estimate_view.train_label(foreseen))


def _try_estimate(ctx: Context, text: str, hardware: str) -> Estimate | CodexError:
    try:
        return estimate.estimate(ctx, text, hardware=hardware)
    except CodexError as error:
        return error


def _keep_awake(ctx: Context, text: str, hardware: str) -> tuple[str, object, object]:
    leaving.keep_awake(ctx, on=True)
    gr.Info("The Space stays awake while runs train; its sleep time comes back after.", duration=6)
    return _estimate(ctx, text, hardware)


def _check(ctx: Context, text: str) -> str:
    line = check_tokens(ctx, expand(text)[0])
    return render_checks([render_check(line.ok, line.label, line.detail, line.cure)])


def _train(ctx: Context, page_key: str, read: Callable[[], str]) -> str:
    """Queue the recipe that `read` returns; pressed again while its run is not over, it is the same run."""
    try:
        text = read()
        key = f"{page_key}-{hashlib.sha256(text.encode()).hexdigest()}" if page_key else None
        queued = [_submit(ctx, each, f"{key}-{number}" if key else None) for number, each in enumerate(expand(text))]
    except CodexError as error:
        return render_notice("bad", "Not started", message_of(error))
    run, num = queued[0], len(queued)
    note = "Pressing Train again while it is not over changes nothing; change a field to train another one."
    link = f"<a class=cs-link href='#runs/{escape(run.id)}'>Watch it on Runs</a>"
    title = f"{run.name} is in the queue" if num == 1 else f"{num} runs are in the queue"
    return render_notice("good", title, f"{note}<br>{link}")


def _submit(ctx: Context, text: str, key: str | None) -> Run:
    run = runs.submit(ctx, text, request_key=key)
    while key and run.state in FINAL:
        key = f"{key}+"
        run = runs.submit(ctx, text, request_key=key)
    return run


def linked_text(ctx: Context, rest: str, text: str) -> tuple[str | None, str]:
    """Return the preset and the recipe text that `#train/recipe/NAME` or `#train/dataset/NAME` leads to.

    A dataset the shown kind cannot learn from leads to the smallest recipe of one that can.

    Raises:
        RecipeError: There is no such recipe.
    """
    what, _, name = rest.partition("/")
    if what == "recipe":
        return name, read_recipe_text(name)
    preset, values = None, parse_yaml(text)
    format_ = next((info.format for info in datasets.list_datasets(ctx) if info.name == name), None)
    if format_ and format_ not in ACCEPTED.get(str(values.get("kind")), ()):
        kind = next(kind for kind, formats in ACCEPTED.items() if format_ in formats)
        preset = f"{kind}/tiny-cpu"
        values = parse_yaml(read_recipe_text(preset))
    values["datasets"] = [{"path": f"dataset:{name}"}]
    return preset, form_view.dump(values)


def _describe(ctx: Context, text: str, preset: str) -> list[object]:
    """Return values for `TrainTab.described`."""
    try:
        lines, note = readiness(ctx, text), view.render_batch(form_view.read_form(text))
        state = _settings_state(text, preset)
    except RecipeError as error:
        lines, note, state = view.blocked_by(error), "", gr.skip()
    ready = view.is_ready(lines)
    try:
        command = f"<pre class=cs-command tabindex=0>{escape(commands.command_line(text))}</pre>" if ready else ""
    except CodexError:
        command = ""
    settings = gr.HTML(state=state) if isinstance(state, dict) else state
    return [
        view.render_readiness(lines),
        gr.Button(interactive=ready),
        command,
        note,
        settings,
        "",
        "",
    ]


def _settings_state(text: str, preset: str) -> dict[str, object]:
    kind = str(parse_yaml(text).get("kind", ""))
    return {
        "settings": settings_view.settings_of(kind),
        "values": settings_view.values_of(text),
        "changed": settings_view.changed_settings(text, read_recipe_text(preset)),
    }
