"""Start one worker under its shim, with launch.json beside the recipe and an environment that holds no secret.

Covered: only the variables named here (or with these beginnings) reach a worker, none whose name speaks of a token,
password or key; a recipe that reads from the Hub takes the read token along, never the one that writes; the token file
of `hf auth login` is not looked at; files in the job folder cannot stand in for Python modules. Not covered: a worker shares the user's files.
"""

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_space.core import durable
from codex_space.core.errors import TrainingError
from codex_space.core.paths import JobDir, Workspace, share_dir
from codex_space.core.settings import read_settings
from codex_space.core.shared_recipe import BaseRecipe, TrainingRecipe
from codex_space.jobs import references, resume_point, shim
from codex_space.jobs.process import Handle, adopt, read_identity

START_TIMEOUT_S = 30.0
READ_TOKEN = "HF_READ_TOKEN"  # noqa: S105  # a variable's name
"""Of a token with read scope, for workers that fetch a gated or private repository; the write token never goes to one."""
SHARDED = ("fsdp1", "fsdp2", "zero3")
"""Values of `launch.config` whose processes hold a part of the model each, by a file in configs/accelerate."""
PACKAGE_PARENT = Path(__file__).parent.parent.parent

_ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TZ|LANG|LC_ALL|LC_CTYPE|TMPDIR|LD_LIBRARY_PATH|CC|CXX|VIRTUAL_ENV|PYTHONPATH"
    r"|XDG_CACHE_HOME|HF_HOME|HF_HUB_CACHE|HF_ENDPOINT|HF_HUB_DISABLE_XET|HF_HUB_OFFLINE"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|COVERAGE_(PROCESS_START|PROCESS_CONFIG|FILE|RCFILE)"
    r"|(CUDA|NVIDIA|NCCL|PYTORCH|TORCH|TORCHINDUCTOR|TRITON)_\w+"
)
_PROXY = re.compile(r"(HTTP|HTTPS|NO)_PROXY", re.IGNORECASE)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY|OAUTH", re.IGNORECASE)


def worker_command(job: JobDir) -> list[str]:
    """Return the command that trains what the job folder says.

    Several processes do it together under torchrun, or under accelerate where they share the model.
    """
    worker = ["-m", "codex_space.work", str(job.root)]
    facts = durable.read_json(job.launch) or {}
    several, config = int(facts.get("num_processes", 1)), facts.get("config", "ddp")
    if several > 1 and config in SHARDED:
        file = share_dir("configs") / "accelerate" / f"{config}.yaml"
        options = ["--config_file", str(file), "--num_processes", str(several), "--main_process_port", "0"]
        return [sys.executable, "-m", "accelerate.commands.launch", *options, *worker]
    if several > 1:
        worker = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={several}", *worker]
    return [sys.executable, *worker]


def _require_installed(config: str) -> None:
    if config == "zero3" and importlib.util.find_spec("deepspeed") is None:
        raise TrainingError(
            "DeepSpeed is not installed on this machine",
            where="launch.config",
            cure="Install it (pip install deepspeed), or take fsdp2, which needs nothing more.",
        )


def launch_facts(
    recipe: BaseRecipe, workspace: Workspace, job: JobDir, *, attempt: int, num_cores: int | None = None
) -> dict[str, Any]:
    """Return what launch.json holds; the thread count of an earlier attempt is kept, since an exact resume needs it.

    Raises:
        ModelError: A checkpoint that the recipe builds on is not there.
        RunError: A run id in the recipe is not one.
        TrainingError: What `launch.config` needs is not installed, or the newest checkpoint is on the Hub only.
    """
    _require_installed(recipe.launch.config)
    earlier = (durable.read_json(job.launch) or {}).get("num_threads")
    usable = num_cores or len(os.sched_getaffinity(0))
    named = [text for text in references.model_references(recipe) if text.startswith(("run:", references.GGUF))]
    known = {text: references.resolve_model(workspace, text) for text in named}
    runs = [Path(path) for text, path in known.items() if text.startswith("run:")]
    reads_hub = references.reads_hub(recipe) or any(
        references.lies_on_hub(path, read_settings().hub_cache) for path in runs
    )
    return {
        "attempt": attempt,
        "num_threads": earlier
        if isinstance(earlier, int)
        else recipe.launch.num_threads or max(1, usable // recipe.launch.num_processes),
        "num_processes": recipe.launch.num_processes,
        "config": recipe.launch.config,
        "workspace": str(workspace.root),
        "references": known,
        "resume_from_step": resume_point.require_newest(job),
        "offline": not reads_hub,
        "deterministic": isinstance(recipe, TrainingRecipe) and recipe.deterministic,
    }


def worker_environ(
    environ: Mapping[str, str], *, num_threads: int, offline: bool, deterministic: bool = False
) -> dict[str, str]:
    """Return the part of the environment that a worker may see, with what keeps it quiet and repeatable."""
    kept = {
        name: value
        for name, value in environ.items()
        if (_ALLOWED.fullmatch(name) and not _SECRET.search(name)) or (not offline and _PROXY.fullmatch(name))
    }
    if not offline and environ.get(READ_TOKEN):
        kept["HF_TOKEN"] = environ[READ_TOKEN]
    if offline:
        kept["HF_HUB_OFFLINE"] = "1"
    if deterministic:  # CUDA reads them at its start: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        kept |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
    paths = [str(PACKAGE_PARENT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_TOKEN_PATH": os.devnull,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(num_threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": str(num_threads),
    }


def launch(job: JobDir, command: list[str], environ: Mapping[str, str]) -> Handle | None:
    """Start a worker and return a handle on its shim, None where it has ended already.

    Raises:
        TrainingError: The process could not be started.
    """
    clear_traces(job)
    marked = {**environ, **dict([marker(job).split("=", 1)])}
    shim_command = [sys.executable, "-I", "-S", str(Path(shim.__file__)), str(job.root), *command]
    with job.log.open("ab") as log:
        with contextlib.suppress(subprocess.TimeoutExpired):  # it then finds nobody to report to and ends by itself
            subprocess.run(
                shim_command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=marked,
                cwd=job.root,
                check=False,
                timeout=START_TIMEOUT_S,
            )
    identity = read_identity(job.worker)
    if identity is None:
        raise TrainingError(
            "the worker could not be started", where=str(job.root), cure="Read the end of its log; is the disk full?"
        )
    return adopt(identity)


def clear_traces(job: JobDir) -> None:
    """Remove what an earlier attempt left that could be taken for a word about the next one."""
    for path in (job.exit, job.worker, job.stop_request, job.save_request, job.failed):
        path.unlink(missing_ok=True)


def marker(job: JobDir) -> str:
    """Return NAME=VALUE that every process of the job carries in its environment."""
    return f"CODEX_SPACE_JOB={job.root}"
