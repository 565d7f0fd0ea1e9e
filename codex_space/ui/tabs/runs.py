"""The Runs tab: live curves, checkpoints and log of the chosen run, and everything that can be done to it."""

from dataclasses import dataclass

import gradio as gr

from codex_space.core.errors import CodexError, RunError
from codex_space.services import from_hub, money, runs
from codex_space.services.bring_back import bring_back
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.theme import make_html, widget
from codex_space.ui.views import runs as view
from codex_space.ui.views.markup import escape, render_empty

_NO_OTHER = render_empty("Nothing to compare with", "Choose another run above to see where the recipes differ.")


@dataclass(frozen=True)
class RunsTab:
    """The tab's components; the value of `chosen` is the id of the chosen run."""

    chosen: gr.HTML
    save: gr.Button
    stop: gr.Button
    cancel: gr.Button
    resume: gr.Button
    why: gr.HTML
    checkpoints: gr.HTML
    search: gr.Textbox
    found: gr.HTML
    recipe: gr.Textbox
    other: gr.Dropdown
    difference: gr.HTML
    name: gr.Textbox
    rename: gr.Button
    clone: gr.Button
    sure: gr.Checkbox
    delete: gr.Button
    repo: gr.Textbox
    fetch: gr.Button

    @property
    def buttons(self) -> list[gr.components.Component]:
        """What follows the run's state."""
        return [self.save, self.stop, self.cancel, self.resume, self.why, self.delete, self.sure]

    @property
    def facts(self) -> list[gr.components.Component]:
        """What changes when another run is chosen."""
        return [self.recipe, self.name, self.other, self.difference, self.found, self.search]


def layout() -> RunsTab:
    """Lay out the list on the left and the chosen run on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300, elem_classes="cs-card"):
            chosen = make_html(
                value="",
                html_template="",
                js_on_load=widget("runs-list", "select", "change"),
                elem_id="runs-list",
            )
        with gr.Column(scale=3, min_width=320, elem_id="runs-detail"):
            with gr.Column(elem_classes="cs-card"):
                make_html(html_template="", js_on_load=widget("runs-head"), elem_id="runs-head")
                with gr.Row():
                    save = gr.Button("Save now", size="md", interactive=False, min_width=110, elem_id="runs-save")
                    stop = gr.Button("Stop and keep", size="md", interactive=False, min_width=130, elem_id="runs-stop")
                    cancel = gr.Button("Cancel", size="md", interactive=False, min_width=110, elem_id="runs-cancel")
                    resume = gr.Button("Resume", size="md", interactive=False, min_width=110, elem_id="runs-resume")
                why = make_html(view.render_why(view.NO_RUN), elem_id="runs-why")
                make_html(html_template="", js_on_load=widget("runs-alerts"), elem_id="runs-alerts")
                make_html(html_template="", js_on_load=widget("runs-chart"), elem_id="runs-chart")
                make_html(html_template="", js_on_load=widget("runs-scores"), elem_id="runs-scores")
                make_html(html_template="", js_on_load=widget("runs-table"), elem_id="runs-table")
            with (
                gr.Column(elem_classes="cs-card"),
                gr.Tabs(elem_classes="cs-sub", overflow_behavior="wrap", elem_id="runs-views"),
            ):
                with gr.Tab("Checkpoints", id="checkpoints"):
                    checkpoints = make_html(
                        value="",
                        html_template="",
                        js_on_load=widget("runs-checkpoints", "select"),
                        elem_id="runs-checkpoints",
                    )
                with gr.Tab("Samples", id="samples"):
                    make_html(html_template="", js_on_load=widget("runs-samples"), elem_id="runs-samples")
                with gr.Tab("Log", id="log"):
                    search = gr.Textbox(
                        label="Find in the log",
                        info="Enter shows the last 200 lines that hold it; empty shows the live end.",
                        elem_id="runs-log-search",
                    )
                    found = make_html(elem_id="runs-log-found", visible=False)
                    make_html(html_template="", js_on_load=widget("runs-log"), elem_id="runs-log")
                recipe, other, difference = _layout_recipe()
                name, rename, clone, sure, delete, repo, fetch = _layout_manage()
    return RunsTab(chosen, save, stop, cancel, resume, why, checkpoints, search, found, recipe, other, difference, name, rename, clone, sure, delete, repo, fetch)  # fmt: skip


def _layout_recipe() -> tuple[gr.Textbox, gr.Dropdown, gr.HTML]:
    with gr.Tab("Recipe", id="recipe"):
        other = gr.Dropdown(
            [], label="Compare with", info="Shows only the keys in which the two recipes differ.", elem_id="runs-other"
        )
        difference = make_html(_NO_OTHER, elem_id="runs-difference")
        recipe = gr.Textbox(
            label="Recipe as it was submitted",
            info="To change and train it again, clone it on Manage.",
            interactive=False,
            lines=12,
            max_lines=40,
            buttons=["copy"],
            elem_id="runs-recipe",
            elem_classes="cs-mono",
        )
    return recipe, other, difference


def _layout_manage() -> tuple[gr.Textbox, gr.Button, gr.Button, gr.Checkbox, gr.Button, gr.Textbox, gr.Button]:
    with gr.Tab("Manage", id="manage"):
        with gr.Row(equal_height=False):
            name = gr.Textbox(
                label="Name",
                info="1 to 80 letters, digits, spaces, . + - or _",
                scale=3,
                min_width=200,
                elem_id="runs-name",
            )
            rename = gr.Button("Rename", scale=1, min_width=110, elem_id="runs-rename")
            clone = gr.Button("Clone on Train", scale=1, min_width=130, elem_id="runs-clone")
        sure = gr.Checkbox(
            label="Yes, delete this run",
            info="Its curves and its checkpoints on this machine go; those on the Hub stay.",
            interactive=False,
            elem_id="runs-delete-sure",
        )
        delete = gr.Button("Delete", size="md", interactive=False, elem_id="runs-delete")
        with gr.Accordion("Take up a run from the Hub", open=False, elem_id="runs-from-hub"):
            repo = gr.Textbox(
                label="Repository",
                info="owner/name of a run that was submitted with keep_rows; it goes on from its newest checkpoint.",
                elem_id="runs-repo",
            )
            fetch = gr.Button("Fetch and resume", elem_id="runs-fetch")
    return name, rename, clone, sure, delete, repo, fetch


def wire(tab: RunsTab, ctx: Context, text: gr.Textbox) -> None:
    """Connect the buttons; `text` is the Train tab's recipe, where a clone goes."""
    _wire_buttons(tab, ctx)

    @looks
    def choose(run_id: str) -> list[object]:
        return [*_buttons(ctx, run_id), *_facts(ctx, run_id)]

    tab.chosen.select(choose, tab.chosen, [*tab.buttons, *tab.facts], show_progress="hidden", api_visibility="private")
    tab.chosen.change(
        looks(lambda run_id: _buttons(ctx, run_id)),
        tab.chosen,
        tab.buttons,
        show_progress="hidden",
        api_visibility="private",
    )

    @shows_errors
    def act(run_id: str, asked: str) -> list[object]:
        verb, _, step = asked.rpartition(" ")
        number = int(step) if step.isascii() and step.isdigit() and len(step) < 16 else -1
        if verb != "fetch":
            runs.retry_upload(ctx, run_id, number)
            return _buttons(ctx, run_id)
        gr.Info(f"Step {number:,} is on its way from the Hub.", duration=4)
        told = bring_back(ctx, run_id, number)
        gr.Info(f"Step {told['step']:,} is on this machine again.", duration=6)
        return _buttons(ctx, run_id)

    @looks
    @shows_errors
    def find(run_id: str, search: str) -> gr.HTML:
        if not search.strip():
            return gr.HTML(visible=False)
        lines = runs.log_tail(ctx, run_id, lines=200, search=search.strip())
        return gr.HTML(f"<pre class=cs-log tabindex=0>{escape(lines) or 'No line holds this.'}</pre>", visible=True)

    @looks
    @shows_errors
    def differ(run_id: str, other: str | None) -> str:
        if not other:
            return _NO_OTHER
        here, there = runs.show(ctx, run_id), runs.show(ctx, other)
        return view.render_differences(runs.differences(ctx, run_id, other), here.name, there.name)

    @shows_errors
    def rename(run_id: str, name: str) -> None:
        runs.rename(ctx, run_id, name)
        gr.Info("Renamed.", duration=3)

    @shows_errors
    def fetch(repo_id: str) -> None:
        run = from_hub.resume_from_hub(ctx, repo_id.strip())
        gr.Info(f"{escape(run.name)} is queued and goes on from the Hub's checkpoint.")

    tab.checkpoints.select(
        act, [tab.chosen, tab.checkpoints], tab.buttons, show_progress="hidden", api_visibility="private"
    )
    tab.search.submit(find, [tab.chosen, tab.search], tab.found, show_progress="hidden", api_visibility="private")
    tab.other.input(differ, [tab.chosen, tab.other], tab.difference, show_progress="hidden", api_visibility="private")
    tab.rename.click(rename, [tab.chosen, tab.name], None, show_progress="hidden", api_visibility="private")
    cloned = tab.clone.click(
        shows_errors(lambda run_id: runs.clone_text(ctx, run_id)),
        tab.chosen,
        text,
        show_progress="hidden",
        api_visibility="private",
    )
    cloned.success(None, None, None, js="() => { location.hash = '#train'; }", api_visibility="private")
    tab.sure.input(
        lambda sure: gr.Button(interactive=sure), tab.sure, tab.delete, show_progress="hidden", api_visibility="private"
    )
    tab.fetch.click(fetch, tab.repo, None, show_progress_on=tab.fetch, api_visibility="private")


def _wire_buttons(tab: RunsTab, ctx: Context) -> None:
    verbs = (
        (tab.save, runs.save_now),
        (tab.stop, runs.stop),
        (tab.cancel, runs.cancel),
        (tab.resume, runs.resume),
        (tab.delete, runs.delete),
    )
    for button, verb in verbs:

        def act(run_id: str, verb=verb) -> list[object]:  # noqa: ANN001  # the loop's value, bound early
            if not run_id:
                raise RunError("no run is chosen", cure="Choose one in the list.")
            verb(ctx, run_id)
            return _buttons(ctx, run_id)

        button.click(shows_errors(act), tab.chosen, tab.buttons, show_progress="hidden", api_visibility="private")


def _buttons(ctx: Context, run_id: str) -> list[object]:
    """Return values for `RunsTab.buttons`."""
    try:
        run = runs.show(ctx, run_id)
        actions = view.actions_of(
            run, resume_blocked=runs.resume_blocked(ctx, run.id), resume_step=runs.resume_point(ctx, run.id)
        )
    except CodexError:  # deleted in another window
        actions = view.NO_RUN
    four = (actions.save, actions.stop, actions.cancel, actions.resume)
    sure = gr.Checkbox(value=False, interactive=actions.delete.enabled)
    return [
        *[gr.Button(interactive=action.enabled) for action in four],
        view.render_why(actions),
        gr.Button(interactive=False),
        sure,
    ]


def _facts(ctx: Context, run_id: str) -> list[object]:
    """Return values for `RunsTab.facts`."""
    try:
        run = runs.show(ctx, run_id)
    except CodexError:
        return ["", "", gr.Dropdown([], value=None), _NO_OTHER, gr.HTML(visible=False), ""]
    others = view.choices_of(runs.list_runs(ctx, limit=200), leave_out=run.id)
    recipe = run.recipe if money.is_shown(ctx) else money.hide(run.recipe)
    return [recipe, run.name, gr.Dropdown(others, value=None), _NO_OTHER, gr.HTML(visible=False), ""]
