"""The Train tab's short form: its components, and how they meet a recipe's `Form`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from codex_space.core.architectures import list_architectures
from codex_space.core.errors import HubError
from codex_space.core.paths import share_dir
from codex_space.core.quants import QUANTS
from codex_space.core.recipe import DPO_LOSSES, KTO_LOSSES
from codex_space.services import datasets, jobs, models, runs
from codex_space.services.context import Context
from codex_space.ui.views.form import BYTE_BPE, EPOCHS, FULL, HERE, LORA, QLORA, STEPS, Form, read_form

_COMMON = ("Q4_K_M", "Q8_0", "Q5_K_M", "F16")
_METHODS = [("LoRA", LORA), ("QLoRA, 4 bits", QLORA), ("All weights", FULL)]
_TOKENIZERS = [
    ("byte-level BPE: any text, the usual one", BYTE_BPE),
    ("SentencePiece BPE", "sentencepiece_bpe"),
    ("SentencePiece unigram", "sentencepiece_unigram"),
    ("whole words, for teaching: loses what it does not know", "whitespace"),
]
_UNITS = [("passes over the rows", EPOCHS), ("optimizer steps", STEPS)]
_TUNING, _PRETRAIN, _TOKENIZER = {"sft", "dpo", "kto", "orpo", "reward"}, {"pretrain"}, {"tokenizer"}
_TRAINING = _TUNING | _PRETRAIN
# Which kinds show which field; a field not named here is shown for all.
_KINDS = {
    "base": _TUNING, "method": _TUNING, "lora_r": _TUNING, "beta": {"dpo", "kto", "orpo"}, "loss_type": {"dpo", "kto"},
    "architecture": _PRETRAIN, "tokenizer": _PRETRAIN, "vocab_size": _TOKENIZER, "tokenizer_method": _TOKENIZER,
    "length": _TRAINING, "length_unit": _TRAINING, "learning_rate": _TRAINING, "batch": _TRAINING, "accumulation": _TRAINING,
    "max_length": _TRAINING, "holdout_percent": _TRAINING, "every_steps": _TRAINING, "keep_last": _TRAINING,
    "keep_best": _TRAINING, "patience": _TRAINING, "repo_id": _TRAINING, "private": _TRAINING, "keep_rows": _TRAINING,
    "where": _TRAINING, "export_types": _TRAINING - {"reward"},
}  # fmt: skip


@dataclass(frozen=True)
class FormFields:
    """One component for each field of `Form` but its kind, under the same names."""

    name: gr.Textbox
    base: gr.Dropdown
    architecture: gr.Dropdown
    tokenizer: gr.Dropdown
    vocab_size: gr.Number
    tokenizer_method: gr.Dropdown
    datasets: gr.Dropdown
    weights: gr.Textbox
    method: gr.Radio
    lora_r: gr.Number
    beta: gr.Number
    loss_type: gr.Dropdown
    length_unit: gr.Radio
    length: gr.Number
    learning_rate: gr.Textbox
    batch: gr.Number
    accumulation: gr.Number
    max_length: gr.Number
    holdout_percent: gr.Number
    every_steps: gr.Number
    keep_last: gr.Number
    keep_best: gr.Number
    patience: gr.Number
    repo_id: gr.Textbox
    private: gr.Checkbox
    keep_rows: gr.Checkbox
    where: gr.Dropdown
    export_types: gr.Dropdown

    @property
    def components(self) -> list[Any]:
        """All of them, in the order of the names."""
        return [getattr(self, known.name) for known in fields(self)]


def layout_form(ctx: Context, text: str) -> FormFields:
    """Lay out the fields as the recipe text has them."""
    made: dict[str, Any] = {}
    form = read_form(text)

    def show(name: str) -> dict[str, Any]:
        return {
            "value": getattr(form, name),
            "visible": _is_visible(name, form),
            "elem_id": f"train-{name.replace('_', '-')}",
        }

    made["name"] = gr.Textbox(label="Name", info="How the run is called in lists.", **show("name"))
    made["base"] = gr.Dropdown(
        _base_choices(ctx),
        label="Base model",
        allow_custom_value=True,
        info="What is tuned: a run of yours, a Hub id, or a folder. Type three letters to search the Hub.",
        **show("base"),
    )
    with gr.Row():
        made["architecture"] = gr.Dropdown(
            list_architectures(), label="Architecture", info="Shape and size of the new model.", **show("architecture")
        )
        made["tokenizer"] = gr.Dropdown(
            tokenizer_choices(ctx),
            label="Tokenizer",
            allow_custom_value=True,
            info="A tokenizer run of yours, a Hub id, or a folder.",
            **show("tokenizer"),
        )
        made["vocab_size"] = gr.Number(
            label="Entries",
            precision=0,
            minimum=300,
            info="Pieces the tokenizer learns, special ones included.",
            **show("vocab_size"),
        )
        made["tokenizer_method"] = gr.Dropdown(
            _TOKENIZERS,
            label="Method",
            info="Only the first two can become a GGUF later.",
            **show("tokenizer_method"),
        )
    made["datasets"] = gr.Dropdown(
        dataset_choices(ctx),
        label="Datasets",
        multiselect=True,
        allow_custom_value=True,
        info="Yours, a sample, the standard library's source, or a Hub id.",
        **show("datasets"),
    )
    made["weights"] = gr.Textbox(
        label="Shares",
        placeholder="0.7, 0.3",
        info="Share of each dataset in the order above; empty takes all rows.",
        **show("weights"),
    )
    with gr.Row():
        made["method"] = gr.Radio(
            _METHODS,
            label="What is trained",
            info="LoRA trains small adapters; QLoRA also holds the base in 4 bits.",
            **show("method"),
        )
        made["lora_r"] = gr.Number(
            label="LoRA rank",
            precision=0,
            minimum=1,
            maximum=1024,
            min_width=120,
            info="Size of the adapters.",
            **show("lora_r"),
        )
    with gr.Row():
        made["beta"] = gr.Number(
            label="Beta",
            minimum=0,
            min_width=120,
            info="How closely the model keeps to what it was (ORPO: weight of the preference).",
            **show("beta"),
        )
        made["loss_type"] = gr.Dropdown(
            _losses(form.kind),
            label="Loss",
            allow_custom_value=True,
            info="What is minimised; several with commas between, such as sigmoid, sft.",
            **show("loss_type"),
        )
    with gr.Row():
        made["length"] = gr.Number(
            label="Length", min_width=120, minimum=0, info="How long to train.", **show("length")
        )
        made["length_unit"] = gr.Radio(
            _UNITS, label="Counted in", info="A step is one change of the weights.", **show("length_unit")
        )
    with gr.Row():
        made["learning_rate"] = gr.Textbox(
            label="Learning rate", min_width=120, info="Size of each change, such as 2e-4.", **show("learning_rate")
        )
        made["batch"] = gr.Number(
            label="Batch, rows",
            precision=0,
            minimum=1,
            min_width=120,
            info="Rows at once; less needs less memory.",
            **show("batch"),
        )
        made["accumulation"] = gr.Number(
            label="Accumulation",
            precision=0,
            minimum=1,
            min_width=120,
            info="Batches added up in one step.",
            **show("accumulation"),
        )
        made["max_length"] = gr.Number(
            label="Longest row, tokens",
            precision=0,
            minimum=8,
            min_width=120,
            info="Longer rows are cut.",
            **show("max_length"),
        )
    with gr.Row():
        made["holdout_percent"] = gr.Number(
            label="Held out, %",
            minimum=0,
            maximum=50,
            min_width=120,
            info="Rows kept to measure the validation loss.",
            **show("holdout_percent"),
        )
        made["every_steps"] = gr.Number(
            label="Checkpoint every, steps",
            precision=0,
            minimum=1,
            min_width=120,
            info="Empty: ten over the run.",
            **show("every_steps"),
        )
        made["keep_last"] = gr.Number(
            label="Keep newest",
            precision=0,
            minimum=1,
            min_width=120,
            info="Checkpoints left on disk.",
            **show("keep_last"),
        )
        made["keep_best"] = gr.Number(
            label="Keep best",
            precision=0,
            minimum=0,
            min_width=120,
            info="By validation loss, beside them.",
            **show("keep_best"),
        )
        made["patience"] = gr.Number(
            label="End early after",
            precision=0,
            minimum=1,
            min_width=120,
            info="Checkpoints without a better one; empty: never.",
            **show("patience"),
        )
    made["repo_id"] = gr.Textbox(
        label="Push to",
        placeholder="owner/name",
        info="Hub repository for every checkpoint; empty keeps them on this machine.",
        **show("repo_id"),
    )
    with gr.Row():
        made["private"] = gr.Checkbox(
            label="Private repository", info="Only you and its members can see it.", **show("private")
        )
        made["keep_rows"] = gr.Checkbox(
            label="Keep the rows on the Hub too",
            info="Lets the run go on when this machine is gone.",
            **show("keep_rows"),
        )
    made["export_types"] = gr.Dropdown(
        export_choices(),
        label="Then export",
        multiselect=True,
        allow_custom_value=True,
        info="GGUF files for Ollama, LM Studio and llama.cpp, made of the best checkpoint once the run has succeeded; empty: "
        "none. Q8_0 and Q4_K_M are the usual ones.",
        **show("export_types"),
    )
    made["where"] = gr.Dropdown(
        where_choices(ctx),
        label="Where it trains",
        allow_custom_value=True,
        info="Here, or on a machine rented from Hugging Face for this run alone, paid by the minute. That needs a repository to "
        "push to, and the rows kept on the Hub.",
        **show("where"),
    )
    return FormFields(**made)


def read_edits(text: str, shown: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return what a person changed in the components since they were filled from `shown`, and `text` has a place for.

    Only that may go into the text: the rest of the form is older than a text that was changed meanwhile.

    Raises:
        RecipeError: The text is not YAML.
    """
    before, kind = read_form(shown), read_form(text).kind
    edits = {}
    for known, value in zip(fields(FormFields), values, strict=True):
        given = (value or "").strip() if known.name in {"name", "weights", "repo_id"} else value
        if known.name == "export_types":
            given = list(value or [])
        both = _is_shown(known.name, before.kind) and _is_shown(known.name, kind)
        if both and given != getattr(before, known.name):
            edits[known.name] = given
    return edits


def form_values(ctx: Context, form: Form, before: Form | None) -> list[Any]:
    """Return an update for each component: choices read anew, the value only where it is another than before.

    A field that the text did not change is left alone, because somebody may be typing in it; None fills all.
    """
    # not `where`: its own focus asks for prices, and an answer begun before that one would put the old ones back
    choices = {"base": _base_choices, "tokenizer": tokenizer_choices, "datasets": dataset_choices}
    updates: list[Any] = []
    for known in fields(FormFields):
        update: dict[str, Any] = {}
        value, visible = getattr(form, known.name), _is_visible(known.name, form)
        if before is None or (value, visible) != (getattr(before, known.name), _is_visible(known.name, before)):
            update = {"value": value, "visible": visible}
        if known.name in choices:
            update["choices"] = choices[known.name](ctx)
        elif known.name == "loss_type" and update:
            update["choices"] = _losses(form.kind)
        updates.append(gr.update(**update) if update else gr.skip())
    return updates


def _is_visible(name: str, form: Form) -> bool:
    return _is_shown(name, form.kind) and (name != "weights" or len(form.datasets) > 1)


def _is_shown(name: str, kind: str) -> bool:
    return name not in _KINDS or kind in _KINDS[name]


def _losses(kind: str) -> list[str]:
    return list({"dpo": DPO_LOSSES, "kto": KTO_LOSSES}.get(kind, ()))


def search_choices(ctx: Context, typed: gr.KeyUpData) -> object:
    """Offer what the Hub has by that name beside the models known here; without a Hub, these alone."""
    try:
        hits = models.search_bases(ctx, typed.input_value)
    except HubError:
        return gr.skip()
    known = models.list_bases(ctx)
    found = [hit for hit in hits if hit.ref not in {base.ref for base in known}]
    # at the end: gradio 6.31 remembers what is chosen by its place in the list
    return gr.update(choices=_as_choices([*known, *found])) if found else gr.skip()


def _base_choices(ctx: Context) -> list[tuple[str, str]]:
    return _as_choices(models.list_bases(ctx))


def _as_choices(bases: list[models.Base]) -> list[tuple[str, str]]:
    return [(f"{base.label} ({base.note})", base.ref) for base in bases]


def tokenizer_choices(ctx: Context) -> list[tuple[str, str]]:
    """Return (label, reference) of those trained here, newest first, then of those made on the spot."""
    fresh = [("learnt from the same rows", "fresh:bpe"), ("single bytes, nothing to learn", "fresh:bytes")]
    made = [run for run in runs.list_runs(ctx, limit=200) if run.kind == "tokenizer" and run.state == "succeeded"]
    return [*[(f"{run.name} (trained here)", f"run:{run.id}") for run in made], *fresh]


def export_choices() -> list[tuple[str, str]]:
    """Return (label, type) of the GGUF files that need no importance matrix, the usual ones first."""
    plain = [name for name, quant in QUANTS.items() if not quant.needs_imatrix]
    names = [*_COMMON, *(name for name in plain if name not in _COMMON)]
    return [(f"{name}: {QUANTS[name].about}", name) for name in names]


def where_choices(ctx: Context, *, ask: bool = False) -> list[tuple[str, str]]:
    """Return (label, value) of this machine and of the machines that Jobs run on, with their prices."""
    rented = [
        (f"HF Jobs: {one.label}, ${one.usd_per_hour:.2f} an hour", one.name) for one in jobs.list_flavors(ctx, ask=ask)
    ]
    return [("this machine", HERE), *rented]


def dataset_choices(ctx: Context) -> list[tuple[str, str]]:
    """Return (label, reference) of a person's datasets, of the sample sets and of the standard library."""
    own = [(f"{info.name}, {info.num_rows:,} rows", f"dataset:{info.name}") for info in datasets.list_datasets(ctx)]
    samples = [(f"sample: {path.stem}", f"sample:{path.stem}") for path in sorted(share_dir("data").glob("*.jsonl"))]
    return [*own, *samples, ("the Python standard library's source", "builtin:python-stdlib")]
