"""Holds what people were told against the database: every act is there once, by its person, and nothing else is."""

import collections
from collections.abc import Iterable
from pathlib import Path

from bench.people_acts import Deed, Ledger
from codex_space.services import datasets, runs
from codex_space.services.context import Context
from codex_space.store import audit
from codex_space.store.runs import FINAL, Run

MOST_ROWS = 100_000
GOOD_ENDS = ("stopped", "succeeded")


def find_wrong(ctx: Context, ledger: Ledger, ours: Iterable[str]) -> list[str]:
    """Return what was lost, doubled or done by somebody else, as sentences; `ours` are runs that no person started."""
    written: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for row in audit.read(ctx.db, limit=MOST_ROWS):
        written[row.verb, row.what].append(row.who)
    found = {run.id: run for run in runs.list_runs(ctx, limit=MOST_ROWS)}
    for run_id in ours:
        found.pop(run_id, None)
    return [
        *_wrong_uploads(ctx, ledger, written),
        *_wrong_starts(ledger, written, found),
        *_wrong_stops(ledger, written, found),
        *[f"the folder {name} belongs to no run" for name in _strays(ctx.workspace.runs, {*found, *ours})],
    ]


def _wrong_uploads(ctx: Context, ledger: Ledger, written: dict[tuple[str, str], list[str]]) -> list[str]:
    wrong = []
    known = {info.name: info for info in datasets.list_datasets(ctx)}
    told = _by_what(ledger.of("upload"))
    for name, deeds in told.items():
        info = known.pop(name, None)
        facts = {(deed.num_rows, deed.sha256) for deed in deeds}
        if info is None or {(info.num_rows, info.sha256)} != facts:
            wrong.append(f"the dataset {name} is not what was uploaded: {info}")
        wrong += _compare(f"uploads of {name}", deeds, written["add a dataset", name])
    return [*wrong, *(f"the dataset {name} was uploaded by nobody" for name in known)]


def _wrong_starts(ledger: Ledger, written: dict[tuple[str, str], list[str]], found: dict[str, Run]) -> list[str]:
    wrong = []
    told = _by_what(ledger.of("start"))
    for run_id, deeds in told.items():
        (deed, *more) = deeds
        run = found.get(run_id)
        if more:
            wrong.append(f"{run_id} was given for {len(deeds)} starts")
        if run is None or not deed.how.endswith(f" of {run.name}"):
            wrong.append(f"{run_id}, {deed.how}, is not in the database under that name: {run and run.name}")
        if written["submit", run_id] != [deed.who]:
            wrong.append(f"{run_id} of {deed.who} is in the audit log as of {written['submit', run_id]}")
    names = collections.Counter(run.name for run in found.values())
    wrong += [f"{num} runs are called {name}" for name, num in names.items() if num > 1]
    return [*wrong, *(f"nobody was told of the run {run_id}" for run_id in found.keys() - told.keys())]


def _wrong_stops(ledger: Ledger, written: dict[tuple[str, str], list[str]], found: dict[str, Run]) -> list[str]:
    wrong = []
    stopped = _by_what(ledger.of("stop"))
    for run_id, deeds in stopped.items():
        wrong += _compare(f"stops of {run_id}", deeds, [*written["stop", run_id], *written["cancel", run_id]])
    for run_id, run in found.items():
        if run.state not in GOOD_ENDS:
            wrong.append(f"{run_id} is {run.state} at the end: {run.reason}")
        elif run.state == "stopped" and run_id not in stopped:
            wrong.append(f"{run_id} was stopped and nobody asked for it")
    late = _by_what(ledger.of("stop too late"))
    return [*wrong, *(f"{run_id} had not ended, as was said" for run_id in late if not _has_ended(found.get(run_id)))]


def _has_ended(run: Run | None) -> bool:
    return run is not None and run.state in FINAL


def _compare(what: str, deeds: list[Deed], written: list[str]) -> list[str]:
    """Every press that was said yes to is one row of the audit log, by whoever pressed."""
    told = collections.Counter(deed.who for deed in deeds for _ in range(deed.presses))
    return [] if told == collections.Counter(written) else [f"{what}: told {dict(told)}, written down {written}"]


def _by_what(deeds: list[Deed]) -> dict[str, list[Deed]]:
    grouped: dict[str, list[Deed]] = collections.defaultdict(list)
    for deed in deeds:
        grouped[deed.what].append(deed)
    return grouped


def _strays(folder: Path, known: set[str]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in known)
