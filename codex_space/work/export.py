"""Make a model into GGUF files, and offer each only after it was compared with the model.

Order: merge an adapter, write down what the model gives, convert once to 16 bits, quantise from that, measure each file
in a child process. Whatever is finished stays when a later step fails, and the next attempt goes on from there.
"""

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from transformers import PreTrainedTokenizerBase

from codex_space.core import durable, quants, sources
from codex_space.core.errors import ModelError, TrainingError
from codex_space.core.export_tools import FAMILIES, require_converter
from codex_space.core.origin import Origin
from codex_space.core.quants import ADAPTER, EXACT, QUANTS
from codex_space.core.recipe import ExportRecipe
from codex_space.hub import ollama
from codex_space.hub.card_parts import CURVES, render_curves
from codex_space.hub.gguf_cards import CARD, render_gguf_card
from codex_space.work import bases, checkpoint, children, importance, merge, models, origin, reference, templates
from codex_space.work.attempt import Attempt
from codex_space.work.gguf_model import TOKENIZER

log = logging.getLogger(__name__)

RESULTS = "export.json"
IMATRIX = "imatrix.npz"
PUSHED_AS = 1
"""The step under which the uploader knows an export's files."""
_SPARE_BYTES = 256 << 20
_ADAPTER_LIMIT = 2e-2
SURE_BY = 0.5
"""Where the model's best token was ahead of the next by more, a file of 16 bits may not take another one."""


@dataclass
class Export:
    """One export under way; `results` is what export.json holds."""

    attempt: Attempt
    recipe: ExportRecipe
    converter: Path
    name: str
    folder: Path
    results: dict[str, Any]
    origin: Origin
    threads: int = 1
    done_bytes: int = 0
    total_bytes: int = 1
    said_percent: int = field(default=-1)

    def file(self, kind: str) -> Path:
        """Return the file of a type, named as Ollama's and the Hub's tags expect it."""
        return self.folder / f"{self.name}-{kind}.gguf"

    def keep(self) -> None:
        """Write down what is finished."""
        durable.write_json(self.folder / RESULTS, self.results)

    def say_progress(self, under_way_bytes: int = 0) -> None:
        """Say how far it is, in percent of what is written and compared."""
        percent = min(99, int(100 * (self.done_bytes + under_way_bytes) / self.total_bytes))
        if percent != self.said_percent:
            self.said_percent = percent
            self.attempt.say("log", step=percent, metrics={})


def run(attempt: Attempt) -> None:
    """Make the files the recipe asks for.

    Raises:
        CodexError: Why it cannot start or go on.
    """
    recipe = attempt.recipe
    assert isinstance(recipe, ExportRecipe)  # noqa: S101  # narrows the type
    converter = require_converter()
    attempt.say("phase", phase="model", detail=f"reading {recipe.model.model_name_or_path}")
    source, where = _locate(attempt, recipe)
    adapter = Path(source) if models.is_adapter(source) else None
    base = _local(attempt, models.base_of(adapter), sources.base_revision(adapter)) if adapter else Path(source)
    if adapter and models.is_adapter(str(base)):
        cure = "Export the run on the machine that trained it, or train it here."
        raise ModelError("this adapter lies on a merged model that is not on this machine", where=where, cure=cure)
    _require_family(base)
    models.require_whole(str(base))
    weights = quants.read_weights(base)
    noted = sources.read(attempt.job).model
    revision = noted.revision if noted and noted.id == where else ""
    told = origin.read(Path(source), base, where, revision, attempt.graded)
    if attempt.cost:
        told = replace(told, facts=(*told.facts, ("Cost of the training", attempt.cost)))
    export = _begin(attempt, recipe, converter, where, told)
    _require_room(export, weights, merges=adapter is not None)
    attempt.say("ready", max_steps=100)
    if attempt.check_only:
        return
    attempt.stop.is_training = True
    try:
        _make(export, base if adapter is None else _merge(export, adapter, base), adapter, base)
    except children.StoppedError:
        attempt.say("done", step=max(export.said_percent, 0), summary={}, stopped=True)
        return
    passed = [row["type"] for row in export.results["files"] if row["passed"]]
    if not passed:
        reasons = "; ".join(f"{row['type']}: {row['why']}" for row in export.results["files"])
        raise ModelError(
            f"no file passed the comparison with the model ({reasons})", where="export", cure="No file is offered."
        )
    if recipe.hub:
        _hand_over(export, where)
    attempt.say("log", step=100, metrics={})
    attempt.say("done", step=100, summary={})


def _hand_over(export: Export, where: str) -> None:
    """Leave the files for the uploader as it takes checkpoints: hard-linked, with a manifest of their hashes."""
    job, attempt = export.attempt.job, export.attempt
    folder = job.checkpoint(PUSHED_AS)
    shutil.rmtree(folder, ignore_errors=True)
    attempt.say("phase", phase="push", detail="hashing the files")
    shutil.copytree(
        export.folder, folder, copy_function=os.link, ignore=shutil.ignore_patterns(RESULTS, TOKENIZER, "*.part")
    )
    size_bytes = checkpoint.complete(folder, {}, run_id=job.root.name, step=PUSHED_AS, kind="export", base_model=where)
    checkpoint.spool(job, PUSHED_AS)
    attempt.say("checkpoint", step=PUSHED_AS, size_bytes=size_bytes, metrics={})


def _locate(attempt: Attempt, recipe: ExportRecipe) -> tuple[str, str]:
    """Return the folder of what is exported (an adapter's own), and the name of it that means the same elsewhere."""
    ref = recipe.model.model_name_or_path
    if ref in attempt.references:
        return attempt.references[ref], ref
    found = bases.locate(attempt, recipe.model, merge=False)
    return str(_local(attempt, found.path, found.revision)), found.reference


def _local(attempt: Attempt, path: str, revision: str | None = None) -> Path:
    """Return a folder with a model's files, brought from the Hub where it has to be."""
    if Path(path).is_dir():
        return Path(path)
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md"]
    try:
        return Path(snapshot_download(path, revision=revision, local_files_only=attempt.offline, allow_patterns=wanted))
    except OSError as error:
        raise ModelError(
            "the model is not on this machine", where=path, cure="Connect to the Hub, or name a folder."
        ) from error


def _require_family(base: Path) -> None:
    config = durable.read_json(base / "config.json") or {}
    family = config.get("model_type")
    if any("SequenceClassification" in name for name in config.get("architectures") or []):
        raise ModelError("this is a reward model: it writes no text", where=base.name, cure="Export a language model.")
    if family not in FAMILIES:
        raise ModelError(
            f"models of type {family!r} are not exported: their files were never proven equal here",
            where=base.name,
            cure=f"Known: {', '.join(FAMILIES)}.",
        )


def _begin(attempt: Attempt, recipe: ExportRecipe, converter: Path, where: str, origin: Origin) -> Export:
    folder = attempt.job.export
    folder.mkdir(exist_ok=True)
    for half in folder.glob("*.part"):
        half.unlink()
    known = durable.read_json(folder / RESULTS) or {}
    name = re.sub(r"[^\w.-]+", "-", recipe.name or where.rpartition("/")[2]).strip("-.")[:60] or "model"
    results = {"name": name, "source": where, "reference": {}, "files": [], **known}
    results["files"] = [row for row in results["files"] if (folder / str(row["path"])).is_file()]
    return Export(
        attempt, recipe, converter, str(results["name"]), folder, results, origin, threads=attempt.num_threads
    )


def _require_room(export: Export, weights: quants.Weights, *, merges: bool) -> None:
    """Refuse before the first byte where the disk cannot hold what is asked for."""
    sizes = {kind: quants.predict_bytes(weights, kind) for kind in quants.written(export.recipe.gguf)}
    left = sum(size for kind, size in sizes.items() if not export.file(kind).is_file())
    left += quants.predict_bytes(weights, "F32") if merges and not export.attempt.job.merged.is_dir() else 0
    free = shutil.disk_usage(export.folder).free
    if left + _SPARE_BYTES > free:
        raise TrainingError(
            f"about {left / 1e9:.1f} GB will be written and {free / 1e9:.1f} GB are free",
            where="disk",
            cure="Free some space, or ask for fewer types.",
        )
    export.total_bytes = sum(2 * size for size in sizes.values())


def _merge(export: Export, adapter: Path, base: Path) -> Path:
    attempt = export.attempt
    if not attempt.job.merged.is_dir():
        attempt.say("phase", phase="merging", detail="the adapter into its base")
        merge.merge(
            adapter, base, attempt.job.merged, lambda detail: attempt.say("phase", phase="merging", detail=detail)
        )
    return attempt.job.merged


def _make(export: Export, model: Path, adapter: Path | None, base: Path) -> None:
    attempt, recipe = export.attempt, export.recipe
    tokenizer = models.load_tokenizer(str(model))
    folder = attempt.job.root / "cache" / "reference"
    if not export.results["reference"]:
        attempt.say("phase", phase="reference", detail="asking the model itself")
        export.results["reference"] = _write_reference(export, model, tokenizer, folder, adapter)
        export.keep()
    if attempt.is_stop_asked():
        raise children.StoppedError
    for kind in quants.conversions(recipe.gguf):
        _finish(export, kind, folder, lambda part, kind=kind: _convert(export, model, tokenizer, kind, part))
    whole = export.file(quants.conversions(recipe.gguf)[0])
    for kind in recipe.gguf:
        if kind not in EXACT:
            _finish(export, kind, folder, lambda part, kind=kind: _quantise(export, model, whole, kind, part))
    if adapter is not None and recipe.adapter:
        _finish_adapter(export, adapter, base, tokenizer, folder)
    export.results["files"].sort(key=lambda row: -row["bytes"])
    _offer(export, tokenizer)
    shutil.rmtree(attempt.job.merged, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _write_reference(
    export: Export, folder: Path, tokenizer: PreTrainedTokenizerBase, target: Path, adapter: Path | None
) -> dict[str, Any]:
    dtype = reference.choose_dtype(quants.read_weights(folder).total, models.stored_dtype(folder))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = cast("Any", models.load_model(str(folder), dtype=dtype)).to(device).eval()
    facts = reference.write(model, tokenizer, target)
    facts["dtype"] = str(dtype).removeprefix("torch.")
    if export.recipe.imatrix:
        export.attempt.say("phase", phase="reference", detail="measuring which weights matter")
        facts["imatrix_tokens"] = importance.write(export.attempt, model, tokenizer, target / IMATRIX)
    if adapter is not None:
        del model
        active = cast("Any", models.load_adapter(str(adapter), dtype=dtype)).to(device).eval()
        facts["adapter_kl"] = reference.compare(active, target)
        if facts["adapter_kl"] > _ADAPTER_LIMIT:
            raise ModelError(
                f"the merged model differs from the model with its adapter (KL {facts['adapter_kl']:.2g})",
                where="merge",
                cure="Nothing is exported. Please report this with the run's recipe.",
            )
        facts["trained_in_4bit"] = models.trained_in_4bit(adapter)
        if facts["trained_in_4bit"]:
            del active
            facts["kl_as_trained"] = _compare_as_trained(adapter, target)
    return facts


def _compare_as_trained(adapter: Path, target: Path) -> float | None:
    """Return how far the model with its base in 4 bits is from the merged one, None where it cannot be held so here."""
    try:
        held: dict[str, Any] = {
            "dtype": torch.bfloat16,
            "quantization_config": models.in_4bit(),
            "device_map": models.device_map(),
        }
        return reference.compare(cast("Any", models.load_adapter(str(adapter), **held)).eval(), target)
    except ModelError as error:
        log.info("the model is not compared with its base in 4 bits: %s", error)
        return None


def _finish(export: Export, kind: str, folder: Path, make: Callable[[Path], None]) -> None:
    """Make and measure one file, unless an earlier attempt did; it has its name only once it is whole."""
    attempt, path = export.attempt, export.file(kind)
    rows = export.results["files"]
    if not path.is_file():
        attempt.say("phase", phase="writing", detail=path.name)
        part = path.with_name(f"{path.name}.part")
        try:
            make(part)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
    export.done_bytes += path.stat().st_size
    export.say_progress()
    if not any(row["type"] == kind for row in rows):
        attempt.say("phase", phase="comparing", detail=f"{path.name} with the model")
        rows.append(
            {"path": path.name, "type": kind, "bytes": path.stat().st_size, **_measure(export, kind, path, folder)}
        )
        export.keep()
    export.done_bytes += path.stat().st_size
    export.say_progress()


def _finish_adapter(
    export: Export, adapter: Path, base: Path, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Make the adapter's own file, and measure it on its base, which is converted for that alone."""
    path = export.file(ADAPTER)
    if any(row["type"] == ADAPTER for row in export.results["files"]):
        return
    plain = export.attempt.job.root / "cache" / "base.gguf"
    export.attempt.say("phase", phase="writing", detail=path.name)
    try:
        with tempfile.TemporaryDirectory(dir=plain.parent) as name:
            shown = merge.as_plain_lora(adapter, Path(name))
            asked = {
                "converter": str(export.converter),
                "model": str(base),
                "adapter": str(shown),
                "outfile": str(path),
            }
            told = {**asked, "outtype": "f16", "template": None, "add_bos": False, "add_eos": False, "stop_id": None}
            _run(export, ["codex_space.work.convert", json.dumps(told)], "llama.cpp's converter", None)
        _convert(export, base, tokenizer, "F16", plain)
        found = _measure(export, ADAPTER, plain, folder, str(path))
    finally:
        plain.unlink(missing_ok=True)
    export.results["files"].append({"path": path.name, "type": ADAPTER, "bytes": path.stat().st_size, **found})
    export.keep()


def _convert(export: Export, model: Path, tokenizer: PreTrainedTokenizerBase, kind: str, part: Path) -> None:
    template = tokenizer.chat_template
    begins, ends = reference.adds(tokenizer)
    asked = {
        "converter": str(export.converter),
        "model": str(model),
        "outfile": str(part),
        "outtype": kind.lower(),
        "name": export.name,
        "template": templates.without_marks(str(template)) if template else None,
        "add_bos": begins,
        "add_eos": ends,
        "stop_id": templates.stop_id(tokenizer) if template else None,
    }
    try:
        _run(export, ["codex_space.work.convert", json.dumps(asked)], "llama.cpp's converter", part)
    except TrainingError as error:
        if "pre-tokenizer was not recognized" in str(error) or "get_vocab_base_pre" in str(error):
            raise ModelError(
                "llama.cpp cuts text in none of the ways this tokenizer does",
                where="tokenizer.json",
                cure="Tokenizers that split as GPT-2, StarCoder, Qwen2 or Llama 3 do can be exported.",
            ) from error
        raise


def _quantise(export: Export, model: Path, source: Path, kind: str, part: Path) -> None:
    asked = ["quantize", str(source), str(part), str(QUANTS[kind].ftype), str(export.threads)]
    config = durable.read_json(model / "config.json") or {}
    if export.recipe.imatrix:
        weighed = export.attempt.job.root / "cache" / "reference" / IMATRIX
        layers = config.get("num_hidden_layers") or config.get("n_layer")
        asked += [str(weighed), str(export.converter), str(config["model_type"]), str(layers)]
    _run(export, ["codex_space.work.gguf", *asked], f"quantising to {kind}", part)


def _measure(export: Export, kind: str, path: Path, folder: Path, *adapter: str) -> dict[str, Any]:
    """Return what was found of a file, whether it may be offered, and why not."""
    try:
        asked = ["measure", str(path), str(folder), str(export.threads), *adapter]
        told = _run(export, ["codex_space.work.gguf", *asked], f"llama.cpp on {kind}", None)
        found: dict[str, Any] = json.loads(told.splitlines()[-1])
    except TrainingError as error:
        return {"kl": None, "top1": None, "tokens_equal": False, "passed": False, "why": error.what}
    whole = next((row for row in export.results["files"] if row["type"] in EXACT), None)
    why = judge(found, kind)
    if not why and not adapter and whole and not whole["passed"]:
        why = f"it is made from {whole['type']}, which failed"
    return {
        "kl": found["kl"],
        "top1": found["top1"],
        "tokens_equal": found["num_wrong"] == 0,
        "num_strings": found["num_strings"],
        "tokens_per_s": found["tokens_per_s"],
        "answers_equal": f"{found['num_same']} of {found['num_answers']}",
        "margin": found["margin"],
        "stops": found["stops"],
        "passed": not why,
        "why": why,
    }


def judge(found: Mapping[str, Any], kind: str) -> str:
    """Return why a file may not be offered, empty where it may."""
    limit, exact = QUANTS["F16" if kind == ADAPTER else kind].max_kl, kind in (*EXACT, ADAPTER)
    faults = (
        (found["num_wrong"], "{num_wrong} of {num_strings} strings are cut into other tokens: {wrong}"),
        (found["template"], "its chat template is another one: {template}"),
        (found["stop_known"] is False, "the token that ends an answer is not marked as an end: chats would not stop"),
        # Said this way round it holds also where the divergence is no number.
        (not found["kl"] <= limit, f"it differs too much from the model: KL {{kl:.2g}} nats a token, at most {limit:g} for {kind}"),
        (exact and found["margin"] > SURE_BY, "its greedy answers are not the model's"),
        (exact and found["stops"] is False, "a chat does not stop where the model stops"),
    )  # fmt: skip
    return next((text.format(**found) for is_so, text in faults if is_so), "")


def _run(export: Export, arguments: list[str], what: str, part: Path | None) -> str:
    def watch() -> None:
        export.say_progress(part.stat().st_size if part and part.is_file() else 0)

    return children.run(export.attempt, arguments, what, watch)


def _offer(export: Export, tokenizer: PreTrainedTokenizerBase) -> None:
    """Take away what was only made on the way or failed, and write the files that go beside the rest."""
    wanted = {*export.recipe.gguf, ADAPTER}
    for row in list(export.results["files"]):
        if row["type"] not in wanted:
            export.file(row["type"]).unlink(missing_ok=True)
            export.results["files"].remove(row)
        elif not row["passed"]:
            export.file(row["type"]).unlink(missing_ok=True)
    offered = [row for row in export.results["files"] if row["passed"] and row["type"] != ADAPTER]
    if offered:
        _write_companions(export, tokenizer, offered)
    export.keep()


def _write_companions(export: Export, tokenizer: PreTrainedTokenizerBase, offered: list[dict[str, Any]]) -> None:
    recipe, turns = export.recipe, templates.take_apart(tokenizer) if tokenizer.chat_template else None
    if turns and reference.adds(tokenizer)[0]:
        turns = turns.without_begin(str(tokenizer.bos_token))
    stop = (
        tokenizer.convert_ids_to_tokens(templates.stop_id(tokenizer))
        if tokenizer.chat_template
        else tokenizer.eos_token
    )
    beside = ollama.Companions(
        template=ollama.go_template(turns) if turns else "",
        stops=(str(stop),),
        num_ctx=recipe.num_ctx or min(ollama.NUM_CTX, int(export.results["reference"]["positions"])),
        system=recipe.system,
    )
    usual = next((row for row in offered if row["type"] == "Q4_K_M"), offered[-1])
    export.results |= {"card": CARD, "ollama": bool(beside.template), "usual": usual["path"]}
    files = beside.files(str(usual["path"]))
    files["codex_model.json"] = ollama.registry_entry(export.name, str(usual["path"]))
    files[CURVES] = render_curves(export.origin.losses, export.origin.eval_losses)
    files[CARD] = render_gguf_card(export.results, export.origin, repo_id=recipe.hub.repo_id if recipe.hub else "")
    tokenizer.save_pretrained(export.folder / TOKENIZER)
    for name, text in files.items():
        if text:
            durable.write_text(export.folder / name, text)
