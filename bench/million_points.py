"""(d) A run with 1,000,000 logged points: how long its curve takes to answer over HTTP."""

import tempfile
import time
import urllib.request
from pathlib import Path

from bench.measure import quartiles, served_page, write_result
from codex_space.core.paths import Workspace, new_run_id
from codex_space.store import metrics, runs
from codex_space.store.db import Database

POINTS = 1_000_000
ASKED = 9


def main() -> dict[str, object]:
    """Fill a workspace, open the page on it, ask for the curve as a newly opened tab does."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder)).make()
        run_id, filled_s = _fill(workspace)
        seconds, size_bytes = [], 0
        for _ in range(ASKED):
            with served_page(workspace.root) as (address, _, _):
                started = time.monotonic()
                with urllib.request.urlopen(f"{address}/api/runs/{run_id}/live?after=0", timeout=30) as answer:
                    size_bytes = len(answer.read())
                seconds.append(time.monotonic() - started)
    figures = {
        "points": POINTS,
        "first_answer_s": quartiles(seconds),
        "answer_bytes": size_bytes,
        "write_points_per_s": round(POINTS / filled_s),
        "goal": {"first_answer_s": 0.5},
    }
    write_result("million_points", figures)
    return figures


def _fill(workspace: Workspace) -> tuple[str, float]:
    db = Database.open(workspace.database)
    run_id = new_run_id("sft", time.time())
    workspace.job(run_id).root.mkdir()
    recipe = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
    workspace.job(run_id).recipe.write_text(recipe)
    runs.insert_run(db, id=run_id, name="million", kind="sft", recipe=recipe, repo_id=None, now=time.time())
    runs.change_state(db, run_id, "stopped", now=time.time())
    started = time.monotonic()
    for first in range(0, POINTS, 10_000):
        steps = range(first, first + 10_000)
        metrics.add_points(db, run_id, (("loss", step, 3.0 / (1 + step / 1e4), float(step)) for step in steps))
    took_s = time.monotonic() - started
    db.close()
    return run_id, took_s
