"""Start a run as a Hugging Face Job: its rows prepared here and pushed, its recipe beside them, then the Job itself.

Covered: the token goes into the Job by `secrets` alone; a crash between the Hub's yes and our note of it starts no
second Job, since the first is found by its labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_space.core import sources
from codex_space.core.errors import HubError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import parse_recipe, render_recipe, validate
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.data.sources import fetch_key, is_hub_id
from codex_space.hub import parents
from codex_space.hub.client import Hub
from codex_space.hub.fetch import fetch_dataset_files, push_rows
from codex_space.hub.jobs import ATTEMPT_LABEL, RUN_LABEL, JobRequest, JobsHub, JobState
from codex_space.hub.licences import read_source
from codex_space.hub.push import RECIPE
from codex_space.jobs.launch import READ_TOKEN
from codex_space.jobs.parents import find_on_hub, find_tokenizers
from codex_space.store.db import Database
from codex_space.store.hub_jobs import TERMINAL
from codex_space.store.runs import Run

IMAGE_CURE = (
    "Set CODEX_SPACE_JOB_IMAGE to the image of a Space that runs this program, such as hf.co/spaces/OWNER/NAME; "
    "on a Space it is that Space's own."
)
JOB_FLAVOR = "CODEX_SPACE_JOB_FLAVOR"
"""Tells the owner in a Job what it runs on, whose price makes the cost on its cards."""
_PASSED_ON = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY")


@dataclass(frozen=True)
class Renting:
    """With what Jobs are started.

    Attributes:
        hub: Makes a client with the token that writes.
        token: The same, for the owner inside the Job.
        image: What a Job runs; empty where it is not known.
        environ: This process's own, from which a Job gets the Hub's address and the read token.
    """

    hub: Callable[[], JobsHub]
    token: str
    image: str
    environ: Mapping[str, str] = field(repr=False)
    most_at_once: int = 8


def send_rows(hub: JobsHub, db: Database, workspace: Workspace, run: Run) -> None:
    """Prepare the run's rows, once, and push them to the private dataset, with its recipe and where what it builds on lies.

    Raises:
        DataError: A source cannot be read.
        ModelError: What it builds on is not on the Hub, or a tokenizer not on this machine.
        HubError: The dataset cannot be written, or is public.
    """
    recipe, job = _recipe(run), workspace.job(run.id)
    prepare_here(hub, workspace, job, recipe)
    assert recipe.hub is not None  # noqa: S101  # the recipe's own check
    built_on = parents.render(find_on_hub(db, hub, recipe))  # none, too: an earlier run's note lies in the dataset
    beside: dict[str, str | Path] = {RECIPE: recipe_elsewhere(recipe), parents.FILE: built_on}
    for checkpoint in find_tokenizers(db, workspace, recipe):
        beside |= parents.tokenizer_files(checkpoint)
    push_rows(hub, job.rows, repo_id=recipe.hub.repo_id, run_id=run.id, beside=beside)


def prepare_here(hub: Hub, workspace: Workspace, job: JobDir, recipe: BaseRecipe) -> None:
    """Write a run's rows into its folder, once, as its worker would.

    Raises:
        DataError: A source cannot be read.
        HubError: A Hub dataset cannot be fetched.
    """
    from codex_space.data.prepare import PREPARED, prepare_rows  # noqa: PLC0415  # pyarrow is slow to import

    fetched = {}
    if not (job.rows / PREPARED).is_file():
        sources.note_local(job, recipe.sources)
        for number, each in enumerate(section for section in recipe.sources if is_hub_id(section.path)):
            into = job.root / "cache" / f"source-{number}"
            key, source = fetch_key(each), read_source(hub, each.path, each.revision, "dataset")
            fetched[key] = fetch_dataset_files(hub, each.path, each.name, each.split, source.revision, into)
            sources.note(job, datasets=[source])
    prepare_rows(recipe, workspace.root, job.rows, fetched)


def recipe_elsewhere(recipe: BaseRecipe) -> str:
    """Return the recipe as another machine trains it: there, with no path of this one."""
    values = recipe.model_dump(by_alias=True, exclude_defaults=True)
    ours = ("where", "flavor", "timeout", "namespace")
    launch = {name: value for name, value in values.pop("launch", {}).items() if name not in ours}
    kind = str(getattr(recipe, "kind", ""))
    return share_recipe(render_recipe(validate({**values, "kind": kind, **({"launch": launch} if launch else {})})))


def start_job(hub: JobsHub, renting: Renting, run: Run) -> JobState:
    """Return the Job of the run's present attempt, started unless an owner before this one has done so.

    Raises:
        HubError: The Hub refuses, no image is known, or an earlier attempt's Job still trains the run.
        HubBusyError: Worth another try.
    """
    recipe = _recipe(run)
    if not renting.image:
        raise HubError("it is not known which image a Job is to run", where="launch.where", cure=IMAGE_CURE)
    namespace = recipe.launch.namespace or hub.whoami().name
    labels = {RUN_LABEL: run.id, ATTEMPT_LABEL: str(run.attempt)}
    if found := hub.find_job(namespace, labels):
        return found
    earlier = hub.find_job(namespace, {RUN_LABEL: run.id})
    if earlier is not None and earlier.stage not in TERMINAL:  # followed by another owner, or by none
        cure = f"Let it end, or cancel it at {earlier.url}, then resume the run."
        raise HubError("a Job of an earlier attempt still trains this run", where=earlier.job_id, cure=cure)
    return hub.run_job(
        JobRequest(
            image=renting.image,
            command=["python", "-m", "codex_space", "job", str(run.repo_id), run.id, "--attempt", str(run.attempt)],
            environment={
                **{name: renting.environ[name] for name in _PASSED_ON if renting.environ.get(name)},
                JOB_FLAVOR: recipe.launch.flavor,
            },
            secrets=_secrets(renting),
            labels={**labels, "name": f"codex-space {run.name}"[:60]},
            flavor=recipe.launch.flavor,
            timeout_s=recipe.launch.timeout_s,
            namespace=namespace,
        )
    )


def _secrets(renting: Renting) -> dict[str, str]:
    read_token = renting.environ.get(READ_TOKEN, "")
    return {"HF_TOKEN": renting.token, **({READ_TOKEN: read_token} if read_token else {})}


def _recipe(run: Run) -> TrainingRecipe:
    recipe = parse_recipe(run.recipe)
    if not isinstance(recipe, TrainingRecipe) or recipe.hub is None:
        raise HubError("this run cannot train as a Job", where=run.id, cure="Submit it again.")
    return recipe


def log_size(job: JobDir) -> int:
    """Return how many bytes of log earlier attempts have left."""
    return job.log.stat().st_size if job.log.is_file() else 0
