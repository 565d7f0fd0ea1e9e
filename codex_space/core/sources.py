"""Which very commits a run was made from and what licence each stated; kept with its rows, so that it travels with them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.licences import Stated
from codex_space.core.paths import MANIFEST, JobDir
from codex_space.core.sections import DatasetSection
from codex_space.core.sharing import last_part

FILE = "sources.json"
OURS = "apache-2.0"
"""Of the sample sets, which we wrote."""
_STDLIB = "python-2.0"


@dataclass(frozen=True)
class Source:
    """One model or dataset.

    Attributes:
        id: On the Hub, or as the recipe names it.
        asked: The revision the recipe asks for, empty for the newest.
        revision: The commit that was read, empty for what is not on the Hub.
        licence: The Hub's short name for what its card states, empty where it states none; `licence_name` is the card's own.
    """

    id: str
    asked: str = ""
    revision: str = ""
    licence: str = ""
    licence_name: str = ""

    @property
    def stated(self) -> Stated:
        """What it says of its licence."""
        return Stated(self.id, self.licence, self.licence_name)


@dataclass(frozen=True)
class Sources:
    """What a run was made from."""

    model: Source | None = None
    datasets: tuple[Source, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def read(job: JobDir) -> Sources:
    """Return what is written down of a run, also in its newest checkpoint, where another machine trained it before."""
    kept = _parse(durable.read_json(job.rows / FILE))
    if kept.model is not None:
        return kept
    steps = job.checkpoint_steps()
    manifest = (durable.read_json(job.checkpoint(steps[-1]) / MANIFEST) or {}) if steps else {}
    found = manifest.get("sources")
    older = _parse(found if isinstance(found, dict) else None)
    return Sources(older.model, kept.datasets or older.datasets)


def note(job: JobDir, *, model: Source | None = None, datasets: Iterable[Source] = ()) -> None:
    """Add to what is written down of a run."""
    known = read(job)
    merged = {each.id: each for each in (*known.datasets, *datasets)}
    changed = replace(known, model=model or known.model, datasets=tuple(merged.values()))
    if changed != known or not (job.rows / FILE).is_file():
        job.rows.mkdir(exist_ok=True)
        durable.write_json(job.rows / FILE, changed.as_dict())


def note_local(job: JobDir, sections: Iterable[DatasetSection]) -> None:
    """Write down the rows that are not the Hub's; those that are, are noted with the commit that was read."""
    note(
        job,
        datasets=[of_path(each.path, last_part(each.path)) for each in sections if not looks_like_repo_id(each.path)],
    )


def inherit(job: JobDir, parent: JobDir, reference: str) -> None:
    """Write down what the run was made from that this one goes on from."""
    known = read(parent)
    is_known = known != Sources() or (parent.rows / FILE).is_file()
    note(job, model=known.model if is_known else Source(reference), datasets=known.datasets)


def base_revision(adapter: Path) -> str | None:
    """Return the commit of its base that an adapter was trained on, None where neither it nor its run tells.

    The Hub's newest may be another model by now.
    """
    config = durable.read_json(adapter / "adapter_config.json") or {}
    if isinstance(config.get("revision"), str) and config["revision"]:
        return config["revision"]
    told = (durable.read_json(adapter / MANIFEST) or {}).get("sources")
    known = _parse(told if isinstance(told, dict) else None).model or read(JobDir(adapter.parent)).model
    is_of_base = known is not None and known.id == config.get("base_model_name_or_path")
    return known.revision or None if known is not None and is_of_base else None


def of_path(path: str, name: str) -> Source:
    """Return what is known of rows that are not on the Hub; `name` is what may be told of them."""
    if path.startswith("sample:"):
        return Source(name, licence=OURS)
    if path == "builtin:python-stdlib":
        return Source(name, licence=_STDLIB)
    return Source(name)


def _parse(value: dict[str, Any] | None) -> Sources:
    """Read it with care: a manifest also comes from the Hub."""
    if not value:
        return Sources()
    rows = value.get("datasets")
    found = tuple(filter(None, map(_source, rows if isinstance(rows, list) else [])))
    return Sources(_source(value.get("model")), found)


def _source(value: Any) -> Source | None:  # noqa: ANN401  # any JSON value
    if not isinstance(value, dict) or not value.get("id"):
        return None
    names = ("id", "asked", "revision", "licence", "licence_name")
    return Source(**{name: str(value.get(name) or "")[:200] for name in names})
