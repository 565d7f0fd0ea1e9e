"""Find the model that a recipe names: on the Hub, in a folder, in an earlier run, or made on the spot.

What another run made is brought into the run's own folder, so that it survives that run's deletion.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers.utils.peft_utils import find_adapter_config_file

from codex_space.core import durable, sources
from codex_space.core.errors import ModelError
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.sections import ModelSection
from codex_space.core.settings import read_settings
from codex_space.data.sources import is_hub_id
from codex_space.work import fresh, models
from codex_space.work.attempt import Attempt
from codex_space.work.checkpoint import is_for_resume
from codex_space.work.models import Source


def locate(attempt: Attempt, section: ModelSection, *, merge: bool = True) -> Source:
    """Return the folder or Hub id a recipe's model stands for; a fresh one is made on the spot.

    An adapter is merged into its base, in the run's own folder, or kept there to be trained on where the recipe says
    `lora.continue_adapter`; without `merge` its folder is returned.

    Raises:
        ModelError: It is not there.
        HubError: The Hub refuses it (unknown, gated, no connection).
    """
    ref = section.model_name_or_path
    if ref.startswith("fresh:"):
        if ref != fresh.TINY:
            raise ModelError(f"{ref!r} is not known", where="model.model_name_or_path", cure=f"Write {fresh.TINY}.")
        fresh.make_tiny(attempt.job.base, attempt.recipe.seed)
        return Source(str(attempt.job.base), ref)
    if ref.startswith("run:"):
        return _keep_parent(attempt, ref)
    if Path(ref).is_dir():
        sources.note(attempt.job, model=_of_folder(Path(ref)))
        return _keep_adapter(attempt, ref, ref) if merge and models.is_adapter(ref) else Source(ref, ref)
    if ref.count("/") > 1 or ref.startswith((".", "/", "~")):
        raise ModelError("there is no such model folder", where=ref, cure="Check the path, or give a Hub id.")
    revision = _pin(attempt, section)
    if find_adapter_config_file(ref, revision=revision, local_files_only=attempt.offline):
        folder = _fetch_adapter(attempt, ref, revision)
        return _keep_adapter(attempt, folder, ref) if merge else Source(folder, ref)
    return Source(ref, ref, revision)


def _of_folder(folder: Path) -> sources.Source:
    """Return what a folder's own card says of its licence; of where the folder lies only its name is told."""
    from codex_space.hub.licences import read_folder

    licence, name = read_folder(folder)
    return sources.Source(folder.name, licence=licence, licence_name=name)


def _fetch_adapter(attempt: Attempt, ref: str, revision: str | None) -> str:
    """Return a folder of the adapter's files as such: the Hub's own cache holds links."""
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    found = snapshot_download(ref, revision=revision, local_files_only=attempt.offline, allow_patterns=wanted)
    folder = attempt.job.root / "cache" / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(found, folder)
    return str(folder)


def locate_tokenizer(attempt: Attempt, section: ModelSection) -> Source:
    """Return where the tokenizer of a recipe's model lies; of the Hub only its files will be fetched.

    Raises:
        ModelError: It is not there.
        HubError: The Hub refuses it.
    """
    ref = section.model_name_or_path
    if ref in attempt.references:
        return Source(attempt.references[ref], ref)
    if is_hub_id(ref) and not Path(ref).is_dir():
        return Source(ref, ref, _pin(attempt, section))
    return locate(attempt, section, merge=False)


def _keep_parent(attempt: Attempt, ref: str) -> Source:
    """Bring the checkpoint of an earlier run into this run's own folder, so that it survives that run's deletion.

    Weights are hard-linked; an adapter is merged into its base, which is what is trained on.
    """
    if kept := _kept(attempt):
        return kept
    parent = Path(attempt.references.get(ref, ""))
    if ref not in attempt.references or not parent.is_dir():
        raise ModelError("that run's checkpoint is not on this machine", where=ref, cure="Train it first.")
    reference = f"{ref.partition('@')[0]}@{parent.name.replace('checkpoint', 'step')}"
    sources.inherit(attempt.job, JobDir(parent.parent), reference)
    if models.is_adapter(str(parent)):
        return _keep_adapter(attempt, str(parent), reference)
    _link_files(parent, attempt.job.base)
    return _pin_base(attempt, reference)


def _kept(attempt: Attempt) -> Source | None:
    """Return what an earlier attempt of this run brought into its folder."""
    known = durable.read_json(attempt.job.root / "base.json")
    return Source(str(attempt.job.root / known.get("folder", "base")), known["reference"]) if known else None


def _keep_adapter(attempt: Attempt, adapter: str, reference: str) -> Source:
    """Merge an adapter into its base, in this run's own folder: what is trained on, and what DPO compares with.

    With `lora.continue_adapter` it is the adapter that lies there, beside its base where that is a run's own.
    """
    if kept := _kept(attempt):
        return kept
    if getattr(getattr(attempt.recipe, "lora", None), "continue_adapter", False):
        config = durable.read_json(Path(adapter) / "adapter_config.json") or {}
        base = Path(models.base_of(Path(adapter)))
        if base.is_dir() and base.parent == Path(adapter).parent:
            _link_files(base, attempt.job.base)
        _link_files(Path(adapter), attempt.job.root / "adapter")
        return _pin_base(attempt, str(config["base_model_name_or_path"]), "adapter")
    temporary = _empty(attempt.job.base)
    scores = (durable.read_json(Path(adapter) / "adapter_config.json") or {}).get("task_type") == "SEQ_CLS"
    models.load_model(adapter, dtype=torch.float32, scores=scores).save_pretrained(temporary)
    models.load_tokenizer(adapter).save_pretrained(temporary)
    _fill(attempt.job.base, temporary)
    return _pin_base(attempt, reference)


def _link_files(source: Path, target: Path) -> None:
    """Make a folder of a model's files, hard-linked; whole or absent."""
    temporary = _empty(target)
    for path in source.iterdir():
        if path.is_file() and path.name != MANIFEST and not is_for_resume(path.name):
            _link(path, temporary / path.name)
    _fill(target, temporary)


def _empty(target: Path) -> Path:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def _fill(target: Path, temporary: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def _pin_base(attempt: Attempt, reference: str, folder: str = "base") -> Source:
    durable.write_json(attempt.job.root / "base.json", {"reference": reference, "folder": folder})
    return Source(str(attempt.job.root / folder), reference)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def _pin(attempt: Attempt, section: ModelSection) -> str | None:
    """Ask the Hub first: its refusals are clear, and the commit cannot change under the run, nor between its attempts."""
    ref, asked, known = section.model_name_or_path, section.revision or "", sources.read(attempt.job).model
    is_known = known is not None and (known.id, known.asked) == (ref, asked) and bool(known.revision)
    wanted = known.revision if known is not None and is_known else section.revision
    if attempt.offline:
        return wanted
    from codex_space.hub.client import Hub
    from codex_space.hub.licences import read_source

    token = read_settings().hf_token
    hub = Hub(token.reveal() if token else None)
    commit = hub.model_info(ref, wanted).sha
    if not is_known:
        sources.note(attempt.job, model=replace(read_source(hub, ref, commit, "model"), asked=asked))
    return commit
