"""(e) 200 people polling one live run: time of an update, and how much slower the training gets (interleaved pairs)."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.crowd import Watched, watching
from bench.measure import REPO, clean_environ, percentile, quartiles, served_page, write_result
from bench.training import make_base, median_step_seconds, recipe_text, training_seconds, write_rows

VIEWERS = 200
PAIRS = int(os.environ.get("BENCH_PAIRS", "8"))


def main() -> dict[str, object]:
    """Train with and without viewers in turn, each on the same open page."""
    ratios, step_ratios, alone_s, latencies_ms = [], [], [], []
    page_share, viewers_share = {0: [], VIEWERS: []}, []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        base = make_base(Path(folder) / "base")
        rows = write_rows(Path(folder) / "rows.jsonl")
        with served_page(workspace) as (address, page, _):
            for pair in range(PAIRS):
                order = (0, VIEWERS) if pair % 2 == 0 else (VIEWERS, 0)
                took, step_s = {}, {}
                for count in order:
                    before_s = sum(page.cpu_times()[:2])
                    took[count], step_s[count], measured, their_cpu_s = _train(
                        workspace, address, recipe_text(base, rows, f"{count} viewers"), count
                    )
                    latencies_ms += measured
                    page_share[count].append((sum(page.cpu_times()[:2]) - before_s) / took[count])
                    if count:
                        viewers_share.append(their_cpu_s / took[count])
                ratios.append(took[VIEWERS] / took[0])
                step_ratios.append(step_s[VIEWERS] / step_s[0])
                alone_s.append(took[0])
    figures = {
        "viewers": VIEWERS,
        "update_ms": {
            "median": round(percentile(latencies_ms, 0.5), 1),
            "p95": round(percentile(latencies_ms, 0.95), 1),
            "n": len(latencies_ms),
        },
        "training_alone_s": quartiles(alone_s),
        "training_with_viewers_ratio": quartiles(ratios),
        "median_step_with_viewers_ratio": quartiles(step_ratios),
        # the viewers are on this machine's cores too, which those of a real page are not
        "cores_used": {
            "page_alone": quartiles(page_share[0]),
            "page_with_viewers": quartiles(page_share[VIEWERS]),
            "the_viewers_themselves": quartiles(viewers_share),
        },
        "goal": {"update_p95_ms": 50, "training_ratio": 1.03},
    }
    write_result("viewers", figures)
    return figures


def _train(workspace: Path, address: str, recipe: str, viewers: int) -> tuple[float, float, list[float], float]:
    command = [sys.executable, "-m", "codex_space", "train", "-", "--json", "--workspace", str(workspace)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environ(), cwd=REPO
    )
    assert process.stdin is not None
    process.stdin.write(recipe.encode())
    process.stdin.close()
    run_id = _running_id(workspace)
    watched = Watched([], 0.0, 0)
    if viewers:
        with watching(address, (f"/api/runs/{run_id}/live",), viewers) as watcher:
            _wait(process)
            watcher.send("stop")
            watched = watcher.recv()
    else:
        _wait(process)
    job = workspace / "runs" / run_id
    return training_seconds(job), median_step_seconds(job), watched.latencies_ms, watched.cpu_s


def _wait(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    process.wait()
    if summary["status"] != "succeeded":
        raise RuntimeError(f"the run is {summary['status']}: {summary['reason']}")


def _running_id(workspace: Path) -> str:
    """Return the newest run once its worker has said that it is ready."""
    while True:
        folders = sorted(path for path in (workspace / "runs").glob("*-sft-*"))
        if (
            folders
            and b'"ready"' in _read(folders[-1] / "events.jsonl")
            and b'"done"' not in _read(folders[-1] / "events.jsonl")
        ):
            return folders[-1].name
        time.sleep(0.05)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
