"""The part of the Train tab that hands the recipe out for plain TRL: YAML or a Python script, as one zip."""

import tempfile
from pathlib import Path

import gradio as gr

from codex_space.services import portable
from codex_space.services.context import Context
from codex_space.ui.errors import shows_errors
from codex_space.ui.theme import make_html

_LABELS = {"trl": "For the trl command", "python": "As a Python script"}


def layout() -> tuple[dict[str, gr.Button], gr.File]:
    """Lay out a button for each form, and the file that appears with the first press."""
    make_html("<p class=cs-note>For TRL without this program, with rows and model beside it:</p>")
    with gr.Row():
        buttons = {
            form: gr.Button(label, size="sm", min_width=140, elem_id=f"train-take-{form}")
            for form, label in _LABELS.items()
        }
    file = gr.File(
        visible=False, interactive=False, label="Unpack it; the first lines say how to run it", elem_id="train-taken"
    )
    return buttons, file


def wire(buttons: dict[str, gr.Button], file: gr.File, text: gr.Textbox, ctx: Context) -> None:
    """Connect each button to its file."""
    # Until the page ends: Gradio copies out of it after the handler has returned.
    folder = tempfile.TemporaryDirectory()

    def pack(recipe: str, form: str) -> gr.File:
        return gr.File(str(portable.pack(ctx, recipe, form, Path(folder.name))), visible=True)

    for form, button in buttons.items():
        button.click(
            shows_errors(lambda recipe, form=form: pack(recipe, form)),
            text,
            file,
            show_progress_on=[button],
            api_visibility="private",
        )
