"""Files that train a recipe on a person's own machines: a SkyPilot task, or a Slurm batch script.

The folder is a workspace with the run in it, rows prepared, so that every machine trains the very same; it names no path
of this one and holds no token. One machine trains under an owner, which pushes to the Hub; several train under torchrun.
"""

import math
import re
import shlex
import shutil
from pathlib import Path

import yaml

from codex_space.core import durable
from codex_space.core.errors import RecipeError
from codex_space.core.hardware import Hardware, find_hardware
from codex_space.core.paths import Workspace, new_run_id
from codex_space.core.recipe import parse_recipe
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.hub.parents import render
from codex_space.jobs import references
from codex_space.jobs.hf_start import prepare_here, recipe_elsewhere
from codex_space.jobs.parents import find_tokenizers, pin
from codex_space.services import checks
from codex_space.services.context import Context

FORMS = ("skypilot", "slurm")
FILES = {"skypilot": "sky.yaml", "slurm": "train.sbatch"}
_GRACE_S = 120
# As `sky show-gpus` writes them, where that is not our own word.
_SKYPILOT = {"A100": "A100-80GB", "RTX PRO 6000": "RTXPRO6000"}


def export(ctx: Context, text: str, form: str, out: Path) -> str:
    """Write the folder and return the command that starts the training.

    The machine is `launch.flavor`, so many of it as `launch.num_processes` wants GPUs.

    Raises:
        RecipeError: It does not train, the machine is not known, or the folder is not empty.
        ModelError: The base model is on this machine alone, or the checkpoint that it names is not on the Hub yet.
        DataError: A source cannot be read.
    """
    recipe = parse_recipe(text)
    if not isinstance(recipe, TrainingRecipe):
        raise RecipeError(f"kind {recipe.kind} does not train", where="kind", cure="Its command line is enough.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecipeError("this folder holds something already", where=str(out), cure="Name a new or empty one.")
    built_on = checks.require_portable_model(ctx, recipe)
    checks.require_sources(ctx, recipe)
    machine = find_hardware(recipe.launch.flavor)
    per_machine = min(recipe.launch.num_processes, max(machine.num_gpus, 1))
    num_machines = math.ceil(recipe.launch.num_processes / per_machine)
    if num_machines * per_machine != recipe.launch.num_processes:
        what = f"{recipe.launch.num_processes} processes do not fill machines of {per_machine} GPUs"
        raise RecipeError(what, where="launch.num_processes", cure=f"Set a multiple of {per_machine}.")
    if form == "skypilot" and num_machines > 1:
        what = f"{num_machines} machines of SkyPilot share no disk, where checkpoints would lie"
        raise RecipeError(
            what, where="launch.num_processes", cure="Take a launch.flavor with more GPUs, or --as slurm."
        )
    workspace = Workspace(out).make()
    run_id = new_run_id(recipe.kind, ctx.clock())
    job = workspace.job(run_id)
    job.root.mkdir(mode=0o700)
    durable.write_text(job.recipe, recipe_elsewhere(references.pinned(recipe, pin(ctx.db, recipe))))
    if built_on:
        durable.write_text(job.parents, render(built_on))
    for checkpoint in find_tokenizers(ctx.db, ctx.workspace, recipe):
        shutil.copytree(checkpoint, workspace.job(checkpoint.parent.name).root / checkpoint.name)
    prepare_here(ctx.hub(), ctx.workspace, job, recipe)
    shutil.rmtree(job.root / "cache", ignore_errors=True)
    made = _Files(recipe, run_id, machine, per_machine, num_machines, ctx.settings.space_id)
    durable.write_text(out / FILES[form], made.skypilot() if form == "skypilot" else made.slurm())
    start = "sky launch" if form == "skypilot" else "sbatch"
    token = " --secret HF_TOKEN" if form == "skypilot" and recipe.hub else ""
    return f"cd {shlex.quote(str(out))} && {start}{token} {FILES[form]}"


class _Files:
    def __init__(  # what the texts are made of
        self,
        recipe: TrainingRecipe,
        run_id: str,
        machine: Hardware,
        per_machine: int,
        num_machines: int,
        space: str | None,
    ) -> None:
        self._recipe, self._run_id, self._machine = recipe, run_id, machine
        self._per_machine, self._num_machines = per_machine, num_machines
        self._source = f"https://huggingface.co/spaces/{space or 'OWNER/NAME'}"
        self._has_source = space is not None
        kind = str(getattr(recipe, "kind", "run"))
        self._name = re.sub(r"[^a-z0-9]+", "-", (recipe.name or kind).lower()).strip("-")[:40] or kind

    def skypilot(self) -> str:
        resources: dict[str, object] = {}
        if self._machine.gpu:
            gpu = _SKYPILOT.get(self._machine.gpu, self._machine.gpu)
            resources = {"accelerators": f"{gpu}:{self._per_machine}", "disk_size": 256}
        else:
            resources = {"cpus": "4+", "memory": "16+"}
        task: dict[str, object] = {"name": self._name, "workdir": ".", "resources": resources}
        if self._recipe.hub:
            task["secrets"] = {"HF_TOKEN": None}
        task |= {"setup": self._setup(), "run": f"set -e\n. ~/codex_space/.venv/bin/activate\n{self._take_up()}\n"}
        heading = [
            f"# {self._name}: trains what is in this folder on a cloud of yours. Start: sky launch {FILES['skypilot']}",
            *self._hint(),
        ]
        return "\n".join(heading) + "\n" + yaml.dump(task, Dumper=_Dumper, sort_keys=False, width=120)

    def slurm(self) -> str:
        gpus = [f"#SBATCH --gpus-per-node={self._per_machine}"] if self._machine.gpu else []
        several = self._num_machines > 1
        minutes = math.ceil(self._recipe.launch.timeout_s / 60)
        lines = [
            "#!/bin/bash",
            f"# {self._name}: trains what is in this folder, which every node has to see. Start: sbatch {FILES['slurm']}",
            *self._hint(),
            *([] if not several else ["# Several nodes push nothing to the Hub: hf upload does, once it is over."]),
            f"#SBATCH --job-name={self._name}",
            f"#SBATCH --nodes={self._num_machines}",
            "#SBATCH --ntasks-per-node=1",
            *gpus,
            f"#SBATCH --cpus-per-task={4 * self._per_machine}",
            f"#SBATCH --time={minutes}",
            "#SBATCH --requeue",
            f"#SBATCH --signal=TERM@{_GRACE_S}",  # a checkpoint is saved then, and a second sbatch goes on from it
            "#SBATCH --output=slurm-%j.log",
            "set -euo pipefail",
            'cd "${SLURM_SUBMIT_DIR:-.}"',
            'CODEX_SPACE="${CODEX_SPACE:-$HOME/codex_space}"',
            'if [ ! -d "$CODEX_SPACE/.venv" ]; then',
            *(f"  {line}" for line in self._install('"$CODEX_SPACE"')),
            "fi",
            '. "$CODEX_SPACE/.venv/bin/activate"',
            "",
            *(self._torchrun() if several else [f"exec srun {self._take_up()}"]),
        ]
        return "\n".join(lines) + "\n"

    def _torchrun(self) -> list[str]:
        return [
            f'JOB="$(codex-space runs take-up --ready {self._run_id} --workspace .)"',
            'head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
            f"export OMP_NUM_THREADS={self._recipe.launch.num_threads or 4} OMP_WAIT_POLICY=PASSIVE",
            "exec srun torchrun \\",
            f"  --nnodes={self._num_machines} --nproc-per-node={self._per_machine} \\",
            '  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$head:29500" \\',
            '  -m codex_space.work "$JOB"',
        ]

    def _take_up(self) -> str:
        return f"codex-space runs take-up {self._run_id} --workspace ."

    def _setup(self) -> str:
        lines = [
            "set -e",
            "if [ ! -d ~/codex_space/.venv ]; then",
            *(f"  {one}" for one in self._install("~/codex_space")),
        ]
        return "\n".join([*lines, "fi"]) + "\n"

    def _install(self, into: str) -> list[str]:
        return [
            f"git clone {self._source} {into}",
            f"python3 -m venv {into}/.venv",
            f"{into}/.venv/bin/pip install -r {into}/requirements.txt",
            f"{into}/.venv/bin/pip install --no-deps -e {into}",
        ]

    def _hint(self) -> list[str]:
        return (
            [] if self._has_source else ["# Put the Space or repository that this program comes from for OWNER/NAME."]
        )


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as people do."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)
