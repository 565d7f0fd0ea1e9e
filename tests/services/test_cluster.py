"""Files for other people's clusters: they parse, name nothing of this machine, and what they run trains."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codex_space.core.errors import CodexError
from codex_space.core.paths import JobDir, Workspace
from codex_space.core.recipe import parse_recipe
from codex_space.jobs.launch import launch_facts
from codex_space.services import cluster
from codex_space.store import checkpoints, runs
from tests.conftest import REPO
from tests.fakes.checkpoints import TOKENIZER_ID, write_tokenizer

RECIPE = """
schema: 1
kind: sft
name: "There & back: again"
model: {model_name_or_path: fresh:tiny}
datasets: [{path: sample:python-first-chat}]
train: {max_steps: 6, per_device_train_batch_size: 2, max_length: 128, logging_steps: 1}
checkpoints: {every_steps: 3}
launch: {flavor: FLAVOR, num_processes: NUM, num_threads: 1}
""".replace('"There & back: again"', "There and back")


def recipe(flavor="l4x1", num=1, more=""):
    return RECIPE.replace("FLAVOR", flavor).replace("NUM", str(num)) + more


@pytest.mark.parametrize(
    ("flavor", "num", "accelerators"),
    [
        ("l4x1", 1, "L4:1"),
        ("l4x4", 4, "L4:4"),
        ("l4x4", 2, "L4:2"),
        ("a100x8", 8, "A100-80GB:8"),
        ("h200", 1, "H200:1"),
    ],
)
def test_a_skypilot_task_asks_for_the_machine(ctx, tmp_path, flavor, num, accelerators):
    said = cluster.export(ctx, recipe(flavor, num, "hub: {repo_id: ada/x}\n"), "skypilot", tmp_path / "out")
    assert said.endswith("sky launch --secret HF_TOKEN sky.yaml")
    task = yaml.safe_load((tmp_path / "out/sky.yaml").read_text())
    assert task["resources"]["accelerators"] == accelerators
    assert task["secrets"] == {"HF_TOKEN": None}
    (run,) = (tmp_path / "out/runs").iterdir()
    assert f"runs take-up {run.name} " in task["run"]
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_without_a_gpu_it_asks_for_cores(ctx, tmp_path):
    cluster.export(ctx, recipe("cpu-basic"), "skypilot", tmp_path / "out")
    task = yaml.safe_load((tmp_path / "out/sky.yaml").read_text())
    assert task["resources"] == {"cpus": "4+", "memory": "16+"}
    assert "secrets" not in task


@pytest.mark.parametrize(
    ("flavor", "num", "nodes", "gpus"),
    [("l4x4", 4, 1, 4), ("a100x8", 32, 4, 8), ("l4x1", 3, 3, 1), ("cpu-basic", 2, 2, None)],
)
def test_a_slurm_script_asks_for_nodes_and_gpus(ctx, tmp_path, flavor, num, nodes, gpus):
    cluster.export(ctx, recipe(flavor, num), "slurm", tmp_path / "out")
    text = (tmp_path / "out/train.sbatch").read_text()
    options = [line.split("--", 1)[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert f"nodes={nodes}" in options
    assert "time=240" in options
    assert [one for one in options if "gpus" in one] == ([f"gpus-per-node={gpus}"] if gpus else [])
    assert ("torchrun" in text) == (nodes > 1)
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        (recipe("l4x4", 6), "slurm", "multiple of 4"),
        (recipe("l4x1", 2), "skypilot", "share no disk"),
        (recipe("h300"), "slurm", "h200"),
        (recipe().replace("fresh:tiny", "run:20261121-001530-sft-k3f9"), "slurm", "no such run"),
        (recipe().replace("fresh:tiny", "/tmp"), "slurm", "on this one alone"),
        (recipe().replace("sample:python-first-chat", "/nowhere.jsonl"), "slurm", "no such file"),
        ("kind: tokenizer\ndatasets: [{path: 'builtin:python-stdlib'}]\n", "slurm", "does not train"),
    ],
)
def test_what_no_cluster_could_train_is_refused_and_nothing_written(ctx, tmp_path, text, form, said):
    with pytest.raises(CodexError, match=said):
        cluster.export(ctx, text, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_this_machine_goes_along_in_the_folder(ctx, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a b c"}\n' * 9)
    text = (
        "kind: pretrain\narchitecture: tiny\ntokenizer: 'run:20261120-001530-tokenizer-t2k9'\nlaunch: {flavor: l4x1}\n"
        f"datasets: [{{path: {rows}}}]\n"
    )
    with pytest.raises(CodexError, match="no such run"):
        cluster.export(ctx, text, "slurm", tmp_path / "out")
    words = write_tokenizer(ctx.workspace.job(TOKENIZER_ID).checkpoint(0))
    runs.insert_run(ctx.db, id=TOKENIZER_ID, name="w", kind="tokenizer", recipe="", repo_id=None, now=1.0)
    checkpoints.add_checkpoint(ctx.db, TOKENIZER_ID, 0, created_at=1.0, size_bytes=1, metrics={}, upload="none")
    cluster.export(ctx, text, "slurm", tmp_path / "out")
    out = Workspace(tmp_path / "out")
    brought = out.job(TOKENIZER_ID).checkpoint(0)
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == {
        path.name: path.read_bytes() for path in words.iterdir()
    }
    (job,) = (JobDir(root) for root in out.runs.iterdir() if root.name != TOKENIZER_ID)
    facts = launch_facts(parse_recipe(job.recipe.read_text()), out, job, attempt=1)
    assert facts["references"] == {f"run:{TOKENIZER_ID}@step-0": str(brought)}


def test_a_folder_that_holds_something_is_left_alone(ctx, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CodexError, match="holds something"):
        cluster.export(ctx, recipe(), "slurm", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "workspace"] == ["mine.txt"]


def test_nothing_in_the_folder_names_this_machine(ctx, tmp_path):
    rows = tmp_path / "secret-plans" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 8)
    cluster.export(ctx, recipe().replace("sample:python-first-chat", str(rows)), "slurm", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"secret-plans" not in path.read_bytes(), path
            assert str(tmp_path).encode() not in path.read_bytes(), path


@pytest.fixture
def login_node(tmp_path):
    """A machine on which `srun` starts a command on as many nodes as there are, all of them this one."""
    tools = tmp_path / "tools"
    tools.mkdir()
    python = Path(sys.executable).parent
    (tmp_path / "installed/.venv/bin").mkdir(parents=True)
    (tmp_path / "installed/.venv/bin/activate").write_text(f"export PATH={tools}:{python}:$PATH\n")
    scripts = {
        "scontrol": "echo 127.0.0.1",
        "srun": 'for node in $(seq "$SLURM_NNODES"); do SLURM_NODEID=$((node - 1)) "$@" & pids="$pids $!"; done\n'
        "for pid in $pids; do wait $pid || exit 1; done",
        "codex-space": f'exec {sys.executable} -m codex_space "$@"',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)

    def sbatch(folder, nodes):
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPO), "CODEX_SPACE": str(tmp_path / "installed"),
            "SLURM_SUBMIT_DIR": str(folder), "SLURM_NNODES": str(nodes), "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]",
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        line = ["bash", str(folder / "train.sbatch")]
        return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=300)

    return sbatch


def weights(folder):
    (run,) = (folder / "runs").iterdir()
    checkpoint = JobDir(run).checkpoint(JobDir(run).checkpoint_steps()[-1])
    return checkpoint.name, hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_script_trains_on_one_node_and_on_two(ctx, tmp_path, login_node, nodes):
    folder = tmp_path / "out"
    cluster.export(ctx, recipe("cpu-basic", nodes), "slurm", folder)
    done = login_node(folder, nodes)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first = weights(folder)
    assert first[0] == "checkpoint-6"
    assert login_node(folder, nodes).returncode == 0  # queued once more: it is at its end already
    assert weights(folder) == first
