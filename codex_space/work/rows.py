"""Bring a recipe's rows into the job folder, once: fetched from the Hub where they lie there, mixed and split."""

from pathlib import Path

from codex_space.core import sources
from codex_space.core.settings import read_settings
from codex_space.core.shared_recipe import BaseRecipe
from codex_space.data.prepare import PREPARED, Prepared, prepare_rows
from codex_space.data.sources import fetch_key, is_hub_id
from codex_space.work.attempt import Attempt


def prepare(attempt: Attempt) -> Prepared:
    """Return the rows to train on; a resumed run gets the very same ones, hashes verified.

    Raises:
        DataError: A source cannot be read, or the rows were changed since the run began.
        HubError: A Hub dataset cannot be fetched.
    """
    job = attempt.job
    if not (job.rows / PREPARED).is_file():
        attempt.say("phase", phase="data", detail="reading and splitting the rows")
        sources.note_local(job, attempt.recipe.sources)
    return prepare_rows(attempt.recipe, attempt.workspace, job.rows, fetch(attempt, attempt.recipe))


def fetch(attempt: Attempt, recipe: BaseRecipe) -> dict[str, list[Path]]:
    """Return the downloaded files of a recipe's Hub datasets, by `fetch_key`; none where the rows are prepared already."""
    job = attempt.job
    wanted = [section for section in recipe.sources if is_hub_id(section.path)]
    if not wanted or (job.rows / PREPARED).is_file():
        return {}
    from codex_space.hub.client import Hub
    from codex_space.hub.dataset_files import fetch_dataset_files
    from codex_space.hub.licences import read_source

    token = read_settings().hf_token
    hub = Hub(token.reveal() if token else None)
    fetched: dict[str, list[Path]] = {}
    for number, each in enumerate(wanted):
        attempt.say("phase", phase="data", detail=f"downloading {each.path}")
        into, source = job.root / "cache" / f"source-{number}", read_source(hub, each.path, each.revision, "dataset")
        fetched[fetch_key(each)] = fetch_dataset_files(hub, each.path, each.name, each.split, source.revision, into)
        sources.note(job, datasets=[source])
    return fetched
