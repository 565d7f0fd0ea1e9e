"""Ask a server a benchmark from the command line, grade its answers in the sandbox while the rest is asked, and keep both as files."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.grade import library, reference
from codex_space.grade.endpoint import Endpoint, answers, protocol_of
from codex_space.grade.library import PROTOCOL, RESULTS, SAMPLES, SCORES, VERDICTS
from codex_space.grade.samples import Sample
from codex_space.grade.sandbox import Sandbox, Verdict
from codex_space.grade.score import Report, jobs_of, run_canaries
from codex_space.grade.statistics import pass_rate
from codex_space.jobs.result_table import render_table


def evaluate(  # noqa: PLR0913  # the options of one evaluation, by keyword
    workspace: Workspace,
    endpoint: Endpoint,
    benchmark: str,
    *,
    now: float,
    problems: Path | None = None,
    limit: int | None = None,
    num_samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = 512,
    wait: Callable[[float], object] | None = None,
    said: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Ask, grade and return {benchmark, model, protocol, scores, problems, folder}; `said` hears (graded, total).

    Raises:
        EvaluationError: The server refuses, or does not answer.
        GradeError: The problems cannot be read, or this machine cannot grade.
    """
    entry = library.find(benchmark)
    path = problems or library.fetch(entry, workspace.benchmarks, lambda each: _download(workspace, each))
    loaded = library.load(benchmark, path, limit)
    drawn = {"num_samples": num_samples, "temperature": temperature}
    protocol = protocol_of(endpoint, entry, loaded, max_new_tokens, drawn)
    folder = workspace.root / "endpoints" / f"{_file_name(endpoint.model)}-{benchmark}-{int(now)}"
    folder.mkdir(parents=True)
    (folder / PROTOCOL).write_text(json.dumps(protocol.as_dict(), indent=1), encoding="utf-8")
    with Sandbox() as sandbox:
        known = reference.references(loaded.problems, sandbox, workspace.benchmarks)
        run_canaries(loaded.problems, known, sandbox)
        verdicts: dict[str, Verdict] = {}
        asked = answers(endpoint, protocol, loaded, folder / SAMPLES, wait=wait)
        task_ids: dict[str, str] = {}
        rows = []
        with (folder / VERDICTS).open("w", encoding="utf-8") as file:
            for verdict in sandbox.grade(jobs_of(loaded.problems, _noted(asked, task_ids), known)):
                verdicts[verdict.job_id] = verdict
                rows.append(_row(verdict, task_ids[verdict.job_id]))
                file.write(json.dumps(rows[-1]) + "\n")
                said(len(verdicts), len(loaded.problems) * num_samples)
    report = Report(loaded.benchmark, task_ids, verdicts)
    scores = {}
    for name, suite in loaded.benchmark.scores.items():
        found = pass_rate(report.passed(suite))
        interval = [found.interval.low, found.interval.high] if found.interval else None
        scores[name] = {"pass@1": round(found.value, 4), "interval": interval}
    last = list(loaded.benchmark.scores.values())[-1]
    told = {
        "benchmark": benchmark,
        "model": endpoint.model,
        "protocol": protocol.line(),
        "scores": scores,
        "problems": report.passed(last),
        "folder": str(folder),
    }
    table = ({**row, "passed": all(row["passed"].values())} for row in rows)
    (folder / RESULTS).write_text(
        render_table(("task_id", "sample", "passed", "status", "why"), table), encoding="utf-8"
    )
    (folder / SCORES).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return told


def _noted(samples: Iterator[Sample], task_ids: dict[str, str]) -> Iterator[Sample]:
    for sample in samples:
        task_ids[sample.sample_id] = sample.task_id
        yield sample


def _row(verdict: Verdict, task_id: str) -> dict[str, Any]:
    last = list(verdict.outcomes.values())[-1]
    passed = {name: outcome.status == "pass" for name, outcome in verdict.outcomes.items()}
    return {"task_id": task_id, "sample": verdict.job_id, "passed": passed, "status": last.status, "why": last.why}


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:60].strip(".-") or "model"


def _download(workspace: Workspace, entry: library.Entry) -> list[library.Row]:
    from codex_space.data.read import iter_rows  # noqa: PLC0415  # with what they import, only where needed
    from codex_space.hub.client import Hub  # noqa: PLC0415
    from codex_space.hub.dataset_files import fetch_dataset_files  # noqa: PLC0415

    token = read_settings(workspace=workspace.root).hf_token
    hub = Hub(token.reveal() if token else None)
    into = workspace.benchmarks / "downloads" / entry.name
    files = fetch_dataset_files(hub, entry.repo_id, entry.config, entry.split, None, into)
    return [row for path in files for _, row in iter_rows(path)]
