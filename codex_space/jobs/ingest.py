"""Read what a worker wrote to events.jsonl into the store; a worker is not trusted to write sense."""

import math
import re
from typing import Any, get_args

from codex_space.core import scrub
from codex_space.core.events import Event, read_events
from codex_space.core.job_lines import OWN
from codex_space.core.paths import JobDir
from codex_space.jobs.hf_ending import END
from codex_space.jobs.references import target_of
from codex_space.store import checkpoints, evaluations, metrics, runs
from codex_space.store.db import Database
from codex_space.store.metrics import Point
from codex_space.store.runs import Run

MAX_STEP = 1 << 53  # whole numbers up to here are exact in the page's JavaScript too
MAX_NAME = 80
MAX_TEXT = 2000
MAX_SCORES = 40
_BENCHMARK = re.compile(r"[a-z0-9][a-z0-9+._-]{0,60}")  # it becomes a folder's name


def read_new_events(db: Database, job: JobDir, run: Run, *, now: float, to_end: bool) -> Run:
    """Store what is new, each chunk together with its offset, and return the run as it is then.

    With `to_end` until there is no more (the worker has ended); else one chunk, so that nothing else waits long.
    """
    while True:
        events, offset = read_events(job.events, run.events_offset)
        if offset == run.events_offset:
            return run
        with db.transaction():
            _store(db, run, events, now)
            runs.update_progress(db, run.id, events_offset=offset)
            checkpoints.set_on_disk(db, run.id, job.checkpoint_steps())
            run = runs.read_run(db, run.id)
        if not to_end:
            return run


def _store(db: Database, run: Run, events: list[Event], now: float) -> None:
    points: list[Point] = []
    for event in events:
        if event["e"] == "attempt":
            metrics.add_points(db, run.id, points)
            points = []
        if event["e"] not in OWN:
            points += _store_one(db, run, event, now)
        elif run.place != "local":
            _store_of_job(db, run, event, now)
    metrics.add_points(db, run.id, points)


def _store_one(db: Database, run: Run, event: Event, now: float) -> list[Point]:
    """Store one event, and return its points, which are stored together."""
    step = _whole(event.get("step"))
    match event["e"]:
        case "attempt":
            resumed = _whole(event.get("resumed_from_step")) or 0
            metrics.truncate_after(db, run.id, resumed)
            runs.update_progress(db, run.id, step=resumed, verdict="", reason="")
        case "phase":
            runs.update_progress(db, run.id, phase=_join(": ", event.get("phase"), event.get("detail")))
        case "ready":
            runs.update_progress(db, run.id, max_steps=_whole(event.get("max_steps")), phase="")
            if runs.read_run(db, run.id).state == "preflight":
                runs.change_state(db, run.id, "running", now=now)
        case "log" if step is not None:
            runs.update_progress(db, run.id, step=step)
            return _points(event, step, now)
        case "checkpoint" if step is not None:
            _add_checkpoint(db, run, event, step, now)
        case "samples" if step is not None:
            _start_evaluation(db, run, event, step, now)
        case "failed":
            where, what, cure = (_text(event.get(key)) for key in ("where", "what", "cure"))
            sentence = f"{_join(': ', where, what or 'the worker failed').rstrip('.')}."
            runs.update_progress(db, run.id, verdict="failed", reason=_join(" ", sentence, cure))
        case "done":
            verdict = "stopped" if event.get("stopped") is True else "done"
            runs.update_progress(db, run.id, step=step, verdict=verdict, reason=_text(event.get("reason")))
    return []


def _points(event: Event, step: int, now: float) -> list[Point]:
    values = event.get("metrics")
    t = _number(event.get("t"))
    if not isinstance(values, dict):
        return []
    named = ((_encodable(str(name))[:MAX_NAME], _number(value)) for name, value in values.items())
    return [(name, step, value, now if t is None else t) for name, value in named if value is not None]


def _add_checkpoint(db: Database, run: Run, event: Event, step: int, now: float) -> None:
    metrics_given = event.get("metrics")
    given = metrics_given if isinstance(metrics_given, dict) else {}
    numbers = {_encodable(str(name))[:MAX_NAME]: _number(value) for name, value in given.items()}
    checkpoints.add_checkpoint(
        db,
        run.id,
        step,
        created_at=_number(event.get("t")) or now,
        size_bytes=_whole(event.get("size_bytes")) or 0,
        metrics={name: value for name, value in numbers.items() if value is not None},
        upload="queued" if run.repo_id and run.place == "local" else "none",  # a Job uploads its own
    )


def _store_of_job(db: Database, run: Run, event: Event, now: float) -> None:
    """Store what the owner inside a Job says; a worker of this machine has no such word."""
    step = _whole(event.get("step"))
    match event["e"]:
        case "upload" if step is not None and event.get("upload") in get_args(checkpoints.Upload):
            upload: checkpoints.Upload = event["upload"]
            if upload in {"queued", "uploading"}:  # this owner is to upload nothing of it
                upload = "none"
            commit_id = _text(event.get("commit_id")) or None
            error = _text(event.get("error"))
            checkpoints.set_upload(db, run.id, step, upload, error=error, commit_id=commit_id)
        case "evaluation" if step is not None and _text(event.get("state")) in {"done", "failed"}:
            _store_evaluation(db, run, event, step, now)
        case "end" if _text(event.get("state")) in runs.FINAL:
            runs.update_progress(db, run.id, verdict=END + _text(event["state"]), reason=_text(event.get("reason")))


def _store_evaluation(db: Database, run: Run, event: Event, step: int, now: float) -> None:
    _start_evaluation(db, run, event, step, now)
    row = evaluations.read_evaluation(db, run.id, step, _text(event.get("benchmark")))
    if row is None:
        return
    if event["state"] == "failed":
        evaluations.fail(db, row, _text(event.get("reason")))
        return
    given = event.get("scores")
    scores = [_score(each) for each in (given if isinstance(given, list) else []) if isinstance(each, dict)]
    evaluations.finish(db, row, [score for score in scores if score][:MAX_SCORES])


def _score(given: dict[str, Any]) -> dict[str, Any]:
    """Return a score with the fields that pages read, empty where one of its numbers is none."""
    numbers = {name: _number(given.get(name)) for name in ("value", "low", "high")}
    if None in numbers.values():
        return {}
    unit = {"unit": _text(given["unit"])} if given.get("unit") else {}
    return {"name": _encodable(str(given.get("name") or ""))[:MAX_NAME], **numbers, **unit}


def _start_evaluation(db: Database, run: Run, event: Event, step: int, now: float) -> None:
    benchmark, num_samples = _text(event.get("benchmark")), _whole(event.get("num_samples"))
    if _BENCHMARK.fullmatch(benchmark) and num_samples:
        evaluations.start(
            db, run.id, step, benchmark,
            target=target_of(run, step),
            num_samples=num_samples,
            protocol=_text(event.get("protocol")),
            now=_number(event.get("t")) or now,
        )  # fmt: skip


def _whole(value: Any) -> int | None:  # noqa: ANN401  # any JSON value
    number = _number(value)
    return int(number) if number is not None and 0 <= number <= MAX_STEP else None


def _number(value: Any) -> float | None:  # noqa: ANN401  # any JSON value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:  # noqa: ANN401  # any JSON value
    return scrub.clean(_encodable(value))[:MAX_TEXT].strip() if isinstance(value, str) else ""


def _encodable(text: str) -> str:
    """Replace half characters, which JSON can hold and the database cannot."""
    return text.encode("utf-8", "replace").decode()


def _join(between: str, *parts: Any) -> str:  # noqa: ANN401  # any JSON value
    return between.join(text for part in parts if (text := _text(part)))
