"""The Data tab: add a file or a Hub dataset, look at its rows, delete it."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from codex_space.core.errors import CodexError, DataError
from codex_space.services import datasets
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.guard import looks
from codex_space.ui.theme import make_html, widget
from codex_space.ui.uploads import Uploads
from codex_space.ui.views import data as view
from codex_space.ui.views.markup import render_empty

PAGE_ROWS = 10
AT_ONCE = 4
"""Files that are checked beside each other: one of gigabytes holds nobody else up."""
_ENDINGS = [".jsonl", ".json", ".csv", ".parquet", ".txt", ".md", ".gz"]
_NOTHING = render_empty(
    "No dataset is chosen",
    "Its rows, columns and source are shown here. To try the program without data of your own, train on the sample set.",
    "#train",
    "Go to Train",
)


@dataclass(frozen=True)
class DataTab:
    """The tab's components."""

    upload: gr.File
    repo: gr.Textbox
    config: gr.Textbox
    split: gr.Textbox
    revision: gr.Textbox
    fetch: gr.Button
    result: gr.HTML
    dismiss: gr.Button
    listing: gr.HTML
    offset: gr.State
    title: gr.HTML
    views: gr.Column
    rows: gr.HTML
    earlier: gr.Button
    page: gr.HTML
    later: gr.Button
    about: gr.HTML
    sure: gr.Checkbox
    delete: gr.Button

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What changes when another dataset is chosen."""
        return [self.listing, self.title, self.views, self.offset, self.rows, self.page, self.earlier, self.later, self.about, self.sure, self.delete]  # fmt: skip


def layout() -> DataTab:
    """Lay out adding and list on the left, the chosen dataset on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            with gr.Column(elem_classes="cs-card"):
                make_html(
                    "<h3>Add a dataset</h3><p class=cs-note>JSONL, JSON, CSV, Parquet or text, also as .gz. Rows of text, of prompt "
                    "and completion, of chat messages, of chosen and rejected answers, or of answers labelled good or bad are "
                    "recognised; every row is checked before anything is kept.</p>"
                )
                upload = gr.File(
                    label="Drop a file here, or click",
                    file_types=_ENDINGS,
                    type="filepath",
                    height=140,
                    show_label=False,
                    elem_id="data-upload",
                )
                with gr.Accordion("From the Hub", open=False, elem_id="data-hub"):
                    repo = gr.Textbox(
                        label="Dataset",
                        info="Its id on the Hub, owner/name.",
                        placeholder="owner/name",
                        elem_id="data-repo",
                    )
                    with gr.Row():
                        config = gr.Textbox(
                            label="Configuration",
                            info="Empty for the default one.",
                            min_width=120,
                            elem_id="data-config",
                        )
                        split = gr.Textbox(
                            "train", label="Split", info="Which part to take.", min_width=120, elem_id="data-split"
                        )
                    revision = gr.Textbox(
                        label="Revision", info="Branch, tag or commit; empty for the newest.", elem_id="data-revision"
                    )
                    fetch = gr.Button("Fetch it", elem_id="data-fetch")
                result = make_html(elem_id="data-result", visible=False)
                dismiss = gr.Button("Dismiss", size="sm", visible=False, elem_id="data-dismiss")
            with gr.Column(elem_classes="cs-card"):
                listing = make_html(
                    value="", html_template="", js_on_load=widget("data-list", "select"), elem_id="data-list"
                )
        with gr.Column(scale=5, min_width=320, elem_classes="cs-card"):
            title = make_html(_NOTHING, elem_id="data-title")
            offset = gr.State(0)
            with (
                gr.Column(visible=False) as views,
                gr.Tabs(elem_classes="cs-sub", overflow_behavior="wrap", elem_id="data-views"),
            ):
                with gr.Tab("Rows", id="rows"):
                    rows = make_html(elem_id="data-rows")
                    with gr.Row():
                        earlier = gr.Button("Earlier rows", size="sm", interactive=False, elem_id="data-earlier")
                        page = make_html(elem_id="data-page")
                        later = gr.Button("Later rows", size="sm", interactive=False, elem_id="data-later")
                with gr.Tab("About", id="about"):
                    about = make_html(elem_id="data-about")
                    sure = gr.Checkbox(
                        label="Yes, delete this dataset",
                        info="Runs that used it keep their own copy of the rows.",
                        elem_id="data-delete-sure",
                    )
                    delete = gr.Button("Delete", size="sm", interactive=False, elem_id="data-delete")
    return DataTab(
        upload, repo, config, split, revision, fetch, result, dismiss, listing, offset, title, views, rows, earlier, page, later, about, sure, delete
    )  # fmt: skip


def wire(tab: DataTab, ctx: Context, uploads: Uploads) -> None:
    """Connect adding, choosing, paging and deleting.

    The list is polled, and asks for the dataset it chose: no event at the page's start writes here, which a slow
    machine could apply after the upload that followed it.
    """

    def add_file(path: str | None, chosen: str) -> list[object]:
        if not path:
            return _keep(tab)
        try:
            return [
                *_added(view.render_kept(info := _import(ctx, uploads, Path(path)))),
                None,
                *show(ctx, info.name, 0),
            ]
        except Refused as refused:
            return [*_added(refused.html), None, *show(ctx, chosen, 0)]

    def add_hub(repo: str, config: str, split: str, revision: str, chosen: str) -> list[object]:
        try:
            if not repo.strip():
                raise DataError("no dataset is named", cure="Give its id on the Hub, owner/name.")
            info = datasets.import_hub(
                ctx, repo.strip(), config.strip() or None, split.strip() or "train", revision.strip() or None
            )
            return [*_added(view.render_kept(info)), None, *show(ctx, info.name, 0)]
        except CodexError as error:
            return [*_added(view.render_refused(error)), None, *show(ctx, chosen, 0)]

    @shows_errors
    def turn(chosen: str, offset: int, step: int) -> list[object]:
        return show(ctx, chosen, max(0, offset + step * PAGE_ROWS))

    @shows_errors
    def remove(chosen: str) -> list[object]:
        datasets.delete(ctx, chosen)
        return show(ctx, "", 0)

    added = [tab.result, tab.dismiss, tab.upload, *tab.shown]
    tab.upload.upload(
        add_file,
        [tab.upload, tab.listing],
        added,
        show_progress_on=tab.upload,
        concurrency_limit=AT_ONCE,
        api_visibility="private",
    )
    tab.fetch.click(
        add_hub,
        [tab.repo, tab.config, tab.split, tab.revision, tab.listing],
        added,
        show_progress_on=tab.fetch,
        api_visibility="private",
    )
    tab.dismiss.click(
        looks(lambda: (gr.HTML("", visible=False), gr.Button(visible=False))),
        None,
        [tab.result, tab.dismiss],
        show_progress="hidden",
        api_visibility="private",
    )
    tab.listing.select(
        looks(shows_errors(lambda name: show(ctx, name, 0))),
        tab.listing,
        tab.shown,
        show_progress="hidden",
        api_visibility="private",
    )
    tab.earlier.click(
        looks(lambda c, o: turn(c, o, -1)),
        [tab.listing, tab.offset],
        tab.shown,
        show_progress="hidden",
        api_visibility="private",
    )
    tab.later.click(
        looks(lambda c, o: turn(c, o, 1)),
        [tab.listing, tab.offset],
        tab.shown,
        show_progress="hidden",
        api_visibility="private",
    )
    tab.sure.input(
        lambda sure: gr.Button(interactive=sure), tab.sure, tab.delete, show_progress="hidden", api_visibility="private"
    )
    tab.delete.click(remove, tab.listing, tab.shown, show_progress="hidden", api_visibility="private")


class Refused(Exception):  # noqa: N818  # an outcome to show, not a fault
    """A file that was not taken, with the HTML that says why."""

    def __init__(self, html: str) -> None:
        super().__init__(html)
        self.html = html


def _import(ctx: Context, uploads: Uploads, path: Path) -> datasets.DatasetInfo:
    """Check the uploaded file, keep it as a dataset, and let go of the upload either way."""
    try:
        found = datasets.inspect(path)
        if not found.is_good:
            raise Refused(view.render_problems(path.name, found))
        return datasets.import_file(ctx, path)
    except CodexError as error:
        raise Refused(view.render_refused(error)) from error
    finally:
        uploads.read(path)


def _added(html: str) -> list[object]:
    return [gr.HTML(html, visible=True), gr.Button(visible=True)]


def _keep(tab: DataTab) -> list[object]:
    return [gr.skip() for _ in [tab.result, tab.dismiss, tab.upload, *tab.shown]]


def show(ctx: Context, chosen: str, offset: int) -> list[object]:
    """Return values for `DataTab.shown`: one dataset from a row on, or the empty state."""
    info = next((info for info in datasets.list_datasets(ctx) if info.name == chosen), None)
    if info is None:
        skipped = [gr.skip() for _ in range(8)]
        return ["", _NOTHING, gr.Column(visible=False), *skipped]
    start = min(offset, max(0, info.num_rows - 1) // PAGE_ROWS * PAGE_ROWS)
    rows = datasets.preview(ctx, info.name, start, PAGE_ROWS)
    return [
        info.name,
        view.render_title(info.name),
        gr.Column(visible=True),
        start,
        view.render_rows(rows, start, info.num_rows),
        f"<p class='cs-note cs-center'>{view.page_label(start, len(rows), info.num_rows)}</p>",
        gr.Button(interactive=start > 0),
        gr.Button(interactive=start + len(rows) < info.num_rows),
        view.render_about(info),
        gr.Checkbox(value=False),
        gr.Button(interactive=False),
    ]
