"""Find what an export's card says of where its model comes from: the run's own folder, or the model's own card."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.licences import judge
from codex_space.core.origin import Graded, Origin
from codex_space.core.paths import JobDir
from codex_space.core.sources import Source
from codex_space.grade.origin import read_origin
from codex_space.hub.licences import read_folder


def read(source: Path, base: Path, where: str, revision: str = "", graded: Iterable[Graded] = ()) -> Origin:
    """Return what is known of a model: `source` is its folder, `base` that of the weights it was tuned from.

    `revision` is the commit of one that is the Hub's, `graded` the evaluations of one that is a run's.
    """
    job, licence = JobDir(source.parent), read_folder(base)
    if where.startswith("run:") and job.recipe.is_file():
        step = int(source.name.rpartition("-")[2]) if source.name.startswith("checkpoint-") else 0
        found = read_origin(job, step, graded)
        return found if found.model is None or found.model.licence else _with_licence(found, licence)
    name = where if looks_like_repo_id(where) or where.startswith("run:") else Path(where).name
    model = Source(name, revision=revision, licence=licence[0], licence_name=licence[1])
    if where.startswith("fresh:"):
        return Origin()
    return Origin(model=model, licence=judge(model.stated, ()))


def _with_licence(origin: Origin, licence: tuple[str, str]) -> Origin:
    """Return it with the licence that the base's own folder states, where the run has not written one down."""
    if origin.model is None:
        return origin
    model = replace(origin.model, licence=licence[0], licence_name=licence[1])
    return replace(origin, model=model, licence=judge(model.stated, (each.stated for each in origin.datasets)))
