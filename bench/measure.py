"""What every measurement shares: machine and versions, quartiles, the result file, a page to measure."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
REPO = Path(__file__).parent.parent
PACKAGES = ("torch", "transformers", "trl", "peft", "gradio", "huggingface_hub")


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Write bench/results/NAME.json with the machine, versions and date beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"name": name, **figures, **_circumstances()}, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def quartiles(values: list[float]) -> dict[str, float]:
    """Return median and quartiles, rounded."""
    q1, median, q3 = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"q1": round(q1, 4), "median": round(median, 4), "q3": round(q3, 4), "n": len(values)}


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ() -> dict[str, str]:
    """Return the environment without what would let a measurement leave this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "CODEX_SPACE", "GRADIO_", "SPACE_"))}
    return {**kept, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False", "OMP_WAIT_POLICY": "PASSIVE"}


@contextlib.contextmanager
def served_page(
    workspace: Path, *, environ: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[tuple[str, psutil.Process, float]]:
    """Yield (address, process, seconds until the page answered) of a page on that workspace.

    Args:
        workspace: Made where it is not there.
        environ: What its environment holds beside `clean_environ`.
        log: Takes what it says; a pipe that nobody reads would stop it.
    """
    port = free_port()
    command = [sys.executable, "-m", "codex_space", "serve", "--port", str(port), "--workspace", str(workspace)]
    started = time.monotonic()
    with (log or Path(os.devnull)).open("ab") as said:
        process = subprocess.Popen(
            command, env={**clean_environ(), **(environ or {})}, stdout=said, stderr=said, cwd=REPO
        )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the page ended with code {process.returncode}")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/", timeout=5) as answer:
                answer.read()
                break
            time.sleep(0.01)
        yield address, psutil.Process(process.pid), time.monotonic() - started
    finally:
        process.terminate()
        process.wait(20)


def _circumstances() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)},
        },
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
