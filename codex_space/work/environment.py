"""Write env.json: what a run was made with, so that it can be made again."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.data.prepare import PREPARED
from codex_space.work import processes
from codex_space.work.attempt import Attempt

_HASHES = ("train_sha256", "validation_sha256")
_ROOT = Path(__file__).parent.parent.parent


def write(attempt: Attempt) -> None:
    """Write packages, hardware, commit and, as soon as the rows are prepared, their hashes."""
    if not processes.is_main():
        return
    prepared = durable.read_json(attempt.job.rows / PREPARED) or {}
    packages = {found.name.lower(): found.version for found in metadata.distributions()}
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": dict(sorted(packages.items())),
        "commit": _commit(),
        "gpus": _gpus(),
        "data": {name: prepared[name] for name in _HASHES if name in prepared},
        "num_threads": attempt.num_threads,
        "num_processes": processes.count(),
        "attempt": attempt.number,
    }
    durable.write_json(attempt.job.env, facts)


def _commit() -> str | None:
    """Return the commit of the checkout this program runs from (a Space's image holds one), None where there is none."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        found = _git("rev-parse", "HEAD")
        changed = _git("diff", "--quiet", "HEAD", "--", "codex_space", "configs").returncode
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = found.stdout.strip()
    return f"{commit}-dirty" if commit and changed else commit or None


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


def _gpus() -> list[dict[str, str]]:
    """Return name, driver and CUDA version of the GPUs this process sees, none before torch was imported."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    import pynvml

    pynvml.nvmlInit()
    driver = str(pynvml.nvmlSystemGetDriverVersion())
    names = (torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return [{"name": name, "driver": driver, "cuda": str(torch.version.cuda)} for name in names]
