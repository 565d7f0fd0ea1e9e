"""What must be true before a run starts, as a checklist with cures and as refusals."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codex_space.core import scrub
from codex_space.core.errors import (
    CodexError,
    DataError,
    EvaluationError,
    HubAuthError,
    HubBusyError,
    HubError,
    HubGatedError,
    ModelError,
    RecipeError,
    RunError,
    nearest,
)
from codex_space.core.export_tools import require_converter
from codex_space.core.hardware import list_hardware
from codex_space.core.paths import share_dir
from codex_space.core.recipe import EvaluateRecipe, ExportRecipe, PretrainRecipe, parse_recipe
from codex_space.core.sections import HubSection
from codex_space.core.settings import Secret
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.core.sweep import expand
from codex_space.data import catalog
from codex_space.data.formats import require_kind
from codex_space.data.sources import is_hub_id, peek_format
from codex_space.grade import library
from codex_space.grade.endpoint import Endpoint
from codex_space.hub.fetch import make_rows_repo
from codex_space.hub.parents import Parent
from codex_space.jobs import references
from codex_space.jobs.hf_start import IMAGE_CURE
from codex_space.jobs.parents import find_on_hub, find_tokenizers
from codex_space.services import export_plan, licences
from codex_space.services.account import own_account
from codex_space.services.context import Context, renting
from codex_space.store import runs as run_rows

MIN_FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Check:
    """One line of the checklist: `ok` is None where it cannot be known yet."""

    ok: bool | None
    label: str
    detail: str
    cure: str = ""


def readiness(ctx: Context, text: str) -> list[Check]:
    """Return the checklist for a recipe; nothing is changed anywhere."""
    try:
        texts = expand(text)
        recipe = parse_recipe(texts[0])
    except CodexError as error:
        return [Check(False, "Recipe", f"{error.where}: {error.what}" if error.where else error.what, error.cure)]
    lines = [Check(True, "Recipe", f"kind {getattr(recipe, 'kind', '')}, no unknown keys")]
    if len(texts) > 1:
        is_local = recipe.launch.where == "local"
        how = "one after another" if is_local else f"{ctx.settings.max_jobs} Jobs at a time, a repository each"
        lines.append(Check(True, "Sweep", f"{len(texts)} runs, {how}; what follows is of the first"))
    if recipe.datasets:
        lines.append(_line("Data", lambda: _describe_sources(ctx, recipe)))
    for name in references.benchmarks_of(recipe):
        lines.append(_line("Benchmark", lambda name=name: library.find(name).about))
    lines += [_line("Base model", lambda ref=ref: _describe_model(ctx, ref)) for ref in _models_of(recipe)]
    if isinstance(recipe, EvaluateRecipe) and recipe.endpoint:
        lines.append(_line("Server", lambda: _describe_endpoint(ctx, recipe)))
    if isinstance(recipe, TrainingRecipe):
        lines += _licence_lines(ctx, recipe)
    if isinstance(recipe, TrainingRecipe | ExportRecipe):
        lines.append(_hub_line(ctx, recipe))
    if isinstance(recipe, TrainingRecipe) and recipe.after:
        lines.append(_after_line(ctx, recipe))
    lines.append(_disk_line(ctx))
    if recipe.launch.where == "local":
        lines.append(_queue_line(ctx))
    else:
        lines.append(_line("Job", lambda: _describe_job(ctx, recipe)))
    return lines


def require_sources(ctx: Context, recipe: BaseRecipe) -> None:
    """Refuse a recipe whose rows or parent runs are not there.

    Raises:
        DataError: A dataset is missing.
        RunError: A parent run is missing.
        ModelError: A local base model is missing.
    """
    for run_id in references.dependencies(recipe):
        run_rows.read_run(ctx.db, run_id)
    _describe_sources(ctx, recipe)
    if isinstance(recipe, ExportRecipe):
        require_converter()
    for name in references.benchmarks_of(recipe):
        library.find(name)
    for ref in _models_of(recipe):
        if not is_hub_id(ref):
            _describe_model(ctx, ref)


def require_hub(ctx: Context, recipe: BaseRecipe) -> None:
    """Prove read access to a Hub base model, and write access to the target, which is made if missing.

    Raises:
        HubError: With what to do.
        ModelError: The export that is to come after it could never come.
    """
    for ref in _models_of(recipe):
        if is_hub_id(ref):
            _describe_model(ctx, ref)
    if isinstance(recipe, TrainingRecipe | ExportRecipe) and recipe.hub:
        hub = ctx.hub()
        hub.check_writable(recipe.hub.repo_id, private=recipe.hub.private)
        if recipe.hub.keep_rows:
            make_rows_repo(hub, recipe.hub.repo_id)
    if isinstance(recipe, TrainingRecipe):
        export_plan.require(ctx, recipe)


def require_endpoint(ctx: Context, recipe: EvaluateRecipe, key: Secret | None) -> None:
    """Refuse a server that may not be asked from here, and a key that would not reach the worker.

    Raises:
        EvaluationError: With what to do.
    """
    if recipe.endpoint:
        _describe_endpoint(ctx, recipe, key)
    if (recipe.endpoint is not None and recipe.endpoint.has_key) != (key is not None):
        what = "a key goes with an endpoint that says has_key: true, and the other way round"
        raise EvaluationError(what, where="endpoint", cure="Start it on the Evaluate tab, which asks for the key.")
    if key is not None and ctx.owner is None:
        what = "another process runs what is queued here, and a key is never written down for it to read"
        raise EvaluationError(what, where="endpoint", cure="Start it on the page, or by `evaluate --endpoint`.")
    if key is not None:
        scrub.learn_one(key.reveal())


def _describe_endpoint(ctx: Context, recipe: EvaluateRecipe, key: Secret | None = None) -> str:
    assert recipe.endpoint is not None  # noqa: S101  # narrows the type
    on_space = ctx.settings.space_id is not None
    endpoint = Endpoint(recipe.endpoint.url, recipe.model.model_name_or_path, key, public_only=on_space)
    return f"{endpoint.model} at {endpoint.locate().host}"


def _models_of(recipe: BaseRecipe) -> list[str]:
    """Return the models that have to be here or on the Hub; a pretraining recipe's tokenizer has its own check."""
    return [] if isinstance(recipe, PretrainRecipe) else references.model_references(recipe)


def require_job(ctx: Context, recipe: BaseRecipe) -> None:
    """Refuse a Job that could not run: no image, a base model that is on this machine alone, a repository in use.

    Raises:
        ModelError: The Job cannot read what it would start from.
        HubError: There is no image, or the Hub has no such flavor.
        RunError: Another run that has not ended pushes to the same repository.
        RecipeError: The machine has fewer GPUs than the recipe's processes want.
    """
    if recipe.launch.where == "local":
        return
    if not ctx.settings.job_image:
        raise HubError("it is not known which image a Job is to run", where="launch.where", cure=IMAGE_CURE)
    require_portable_model(ctx, recipe)
    repo_id = recipe.hub.repo_id if isinstance(recipe, TrainingRecipe) and recipe.hub else ""
    for other in run_rows.list_runs(ctx.db, limit=1000, states=("queued", *sorted(run_rows.ACTIVE))):
        if other.repo_id == repo_id:
            cure = "Let it end, or set another hub.repo_id."
            raise RunError(f"{other.name!r} pushes to {repo_id} too and has not ended", where=other.id, cure=cure)
    _require_flavor(ctx, recipe.launch.flavor)
    machine, wanted = list_hardware().get(recipe.launch.flavor), recipe.launch.num_processes
    if machine and machine.gpu and wanted > machine.num_gpus:
        what = f"{wanted} processes want {wanted} GPUs, and {machine.label} has {machine.num_gpus}"
        raise RecipeError(
            what, where="launch.num_processes", cure="Take a launch.flavor with more, or fewer processes."
        )


def require_portable_model(ctx: Context, recipe: BaseRecipe) -> list[Parent]:
    """Return the checkpoints on the Hub that a recipe builds on; refuse a model or tokenizer that no other machine could read.

    Raises:
        ModelError: It is a folder of this one, a run's checkpoint that is not on the Hub, or a tokenizer that is not here.
        HubError: The Hub does not give it.
    """
    for ref in references.model_references(recipe):
        if not ref.startswith(("fresh:", "run:")) and not is_hub_id(ref):
            cure = "Name it by its id on the Hub, or train it here."
            raise ModelError("another machine cannot read a model that is on this one alone", where=ref, cure=cure)
    find_tokenizers(ctx.db, ctx.workspace, recipe)
    return find_on_hub(ctx.db, ctx.hub(), recipe)


def _require_flavor(ctx: Context, flavor: str) -> None:
    try:
        known = list(renting(ctx.settings).hub().job_prices())
    except HubBusyError:  # it is asked again when the Job is started
        return
    if flavor not in known:
        raise HubError(f"the Hub has no flavor {flavor!r} for Jobs", where="launch.flavor", cure=nearest(flavor, known))


def _line(label: str, describe: Callable[[], str]) -> Check:
    try:
        return Check(True, label, describe())
    except HubBusyError as error:
        return Check(None, label, error.what, error.cure)
    except CodexError as error:
        return Check(False, label, error.what, error.cure)


def _describe_sources(ctx: Context, recipe: BaseRecipe) -> str:
    kind = str(getattr(recipe, "kind", ""))
    told = []
    for section in recipe.sources:
        told.append(_describe_source(ctx, section.path))
        if not is_hub_id(section.path) and (format_ := peek_format(section, ctx.workspace.root)):
            require_kind(kind, format_, section.path)
    return ", ".join(told)


def _describe_source(ctx: Context, path: str) -> str:
    scheme, _, name = path.partition(":")
    if scheme == "dataset":
        info = catalog.read_dataset(ctx.workspace, name)
        return f"{info.name}: {info.num_rows:,} rows, {info.format}"
    if scheme == "sample":
        if not (share_dir("data") / f"{name}.jsonl").is_file():
            known = ", ".join(sorted(file.stem for file in share_dir("data").glob("*.jsonl")))
            raise DataError(f"there is no sample set {name!r}", where=path, cure=f"Known: {known}.")
        return f"sample set {name}"
    if path == "builtin:python-stdlib":
        return "the Python standard library's source on this machine"
    if Path(path).is_file():
        return f"{Path(path).name}, {Path(path).stat().st_size:,} bytes"
    if is_hub_id(path):
        return f"{path} on the Hub, read when the run starts"
    raise DataError(
        "there is no such file or dataset", where=path, cure="Upload it on the Data tab, or check the path."
    )


def _describe_model(ctx: Context, ref: str) -> str:
    if ref.startswith("run:"):
        run_id = ref.removeprefix("run:").partition("@")[0]
        return f"result of {run_rows.read_run(ctx.db, run_id).name}"
    if ref.startswith(references.GGUF):
        return f"exported file {Path(references.resolve_model(ctx.workspace, ref)).name}"
    if ref.startswith("fresh:"):
        return "a small untrained model made on the spot"
    if Path(ref).is_dir():
        if not (Path(ref) / "config.json").is_file() and not (Path(ref) / "adapter_config.json").is_file():
            raise ModelError("the folder holds no config.json", where=ref, cure="Name a folder saved by transformers.")
        return f"local folder {Path(ref).name}"
    if not is_hub_id(ref):
        raise ModelError(
            "there is no such model folder", where=ref, cure="Give a Hub id such as Qwen/Qwen2.5-Coder-0.5B."
        )
    info = ctx.hub().model_info(ref, None)
    if (info.gated or info.private) and ctx.settings.read_token is None:
        raise HubGatedError(
            f"this model is {'gated' if info.gated else 'private'} and workers have no token to read it with",
            where=ref,
            cure="Set HF_READ_TOKEN to a token with read scope; the one that writes is never given to a worker.",
        )
    return f"{ref} on the Hub"


def _hub_line(ctx: Context, recipe: TrainingRecipe | ExportRecipe) -> Check:
    hub = recipe.hub
    if hub is None:
        return Check(
            None, "Hub", "not pushed: what is made stays on this machine", "Add hub.repo_id to keep them safe."
        )
    return _line("Hub", lambda: _describe_target(ctx, hub))


def _describe_target(ctx: Context, hub: HubSection) -> str:
    account = own_account(ctx)
    owner = hub.repo_id.partition("/")[0]
    if not account.can_write:
        raise HubAuthError(f"the token of {account.name} cannot write", cure="Make a token with write scope.")
    if owner != account.name and owner not in account.orgs:
        raise HubAuthError(f"{account.name} is not a member of {owner}", cure="Choose another owner for hub.repo_id.")
    return f"pushes to {hub.repo_id} ({'private' if hub.private else 'public'}) as {account.name}"


def _licence_lines(ctx: Context, recipe: TrainingRecipe) -> list[Check]:
    """A question of licences keeps no run from training: it is said, and a person decides."""
    try:
        told, cure = licences.describe(licences.judge_recipe(ctx, recipe))
    except CodexError as error:
        return [Check(None, "Licence", error.what, error.cure)]
    return [Check(None if cure else True, "Licence", told, cure)] if told else []


def _after_line(ctx: Context, recipe: TrainingRecipe) -> Check:
    """Nothing here but a model that is never exported, or a repository that cannot be written, keeps a run from training."""
    wanted = recipe.export_after
    if wanted is None:
        return Check(True, "Afterwards", "nothing")
    try:
        detail, cure = export_plan.describe(ctx, recipe, wanted)
    except CodexError as error:
        return Check(False, "Afterwards", error.what, error.cure)
    return Check(None if cure else True, "Afterwards", detail, cure)


def _disk_line(ctx: Context) -> Check:
    free_bytes = shutil.disk_usage(ctx.workspace.root).free
    detail = f"{free_bytes / 1e9:,.0f} GB free"
    if free_bytes < MIN_FREE_BYTES:
        return Check(False, "Disk", detail, "Clean up on Space, or by `codex-space workspace clean`.")
    return Check(True, "Disk", detail)


def _describe_job(ctx: Context, recipe: BaseRecipe) -> str:
    require_job(ctx, recipe)
    launch = recipe.launch
    return f"{launch.flavor} of Hugging Face for at most {launch.timeout}, paid by {launch.namespace or 'your account'}"


def _queue_line(ctx: Context) -> Check:
    states = ("queued", *sorted(run_rows.ACTIVE))
    ahead = run_rows.list_runs(ctx.db, limit=1000, states=states, place="local")
    if not ahead:
        return Check(True, "Queue", "starts at once")
    return Check(True, "Queue", f"starts after {len(ahead)} other run{'s' if len(ahead) > 1 else ''}")
