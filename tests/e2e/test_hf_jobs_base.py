"""Jobs that build on runs of this workspace: they fetch the very checkpoint from the Hub and train what this machine would."""

import hashlib
import json
import subprocess

import pytest

from codex_space.core.errors import ModelError
from codex_space.core.paths import JobDir
from codex_space.hub.fetch import rows_repo
from codex_space.services import bring_back, cluster, runs
from codex_space.store.runs import FINAL
from tests.e2e.test_hf_jobs import control_room, ended, until, weights_on_hub
from tests.e2e.test_hub_runs import REPO, command, environ

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

__all__ = ["control_room"]
BASE = """
kind: sft
name: base
model: {model_name_or_path: fresh:tiny}
datasets: [{path: sample:python-first-chat}]
train: {max_steps: 6, per_device_train_batch_size: 2, learning_rate: 1.0e-3, max_length: 256, logging_steps: 1}
checkpoints: {every_steps: 3}
hub: {repo_id: ada/base}
launch: {num_threads: 1}
"""
DPO = """
kind: dpo
name: preferences
model: {model_name_or_path: 'run:PARENT'}
lora: {r: 4}
datasets: [{path: sample:python-preferences}]
train: {max_steps: 4, per_device_train_batch_size: 2, learning_rate: 1.0e-3, max_length: 256, logging_steps: 1}
checkpoints: {every_steps: 2}
"""
HERE = "launch: {num_threads: 1}\n"
THERE = "launch: {num_threads: 1, where: hf-jobs, flavor: l4x1}\nhub: {repo_id: ada/REPO, keep_rows: true}\n"


def trained(ctx, text):
    run = ended(ctx, runs.submit(ctx, text).id)
    assert run.state == "succeeded", (run.reason, runs.log_tail(ctx, run.id))
    return run


def weights_here(ctx, run):
    path = ctx.workspace.job(run.id).checkpoint(run.step) / "adapter_model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_preferences_on_an_own_base_and_again_on_their_adapter(hub, control_room):
    ctx = control_room()
    base = trained(ctx, BASE)
    until(lambda: {row.upload for row in runs.checkpoints(ctx, base.id)} == {"uploaded"})
    here = trained(ctx, DPO.replace("PARENT", base.id) + HERE)
    there = trained(ctx, DPO.replace("PARENT", base.id) + THERE.replace("REPO", "first"))
    assert f"run:{base.id}@step-6" in there.recipe  # pinned: a later checkpoint is not taken by a second attempt
    assert weights_on_hub(hub, "ada/first", "step-4") == weights_here(ctx, here)
    noted = json.loads(hub.state.files("datasets", rows_repo("ada/first"), there.id)["parents.json"])
    assert [(row["run_id"], row["step"], row["repo_id"]) for row in noted] == [(base.id, 6, "ada/base")]
    assert noted[0]["commit_id"] == hub.repo("ada/base")["tags"]["step-6"]
    hub.repo("ada/base")["private"] = True  # nobody's read token is needed
    bring_back.bring_back(ctx, there.id, 4)
    again = DPO.replace("run:PARENT", f"run:{there.id}@step-4")
    here = trained(ctx, again + HERE)  # its adapter lies on the checkpoint that is here
    there = trained(ctx, again + THERE.replace("REPO", "second"))
    assert weights_on_hub(hub, "ada/second", "step-4") == weights_here(ctx, here)


def test_a_cluster_fetches_what_the_run_builds_on(hub, control_room, tmp_path):
    ctx, out = control_room(), tmp_path / "out"
    base = trained(ctx, BASE)
    until(lambda: {row.upload for row in runs.checkpoints(ctx, base.id)} == {"uploaded"})
    here = trained(ctx, DPO.replace("PARENT", base.id) + HERE)
    cluster.export(ctx, DPO.replace("PARENT", base.id) + HERE, "slurm", out)
    (job,) = (JobDir(folder) for folder in (out / "runs").iterdir())
    line = command("runs", "take-up", job.root.name, "--json", workspace=out)
    done = subprocess.run(line, env=environ(hub), capture_output=True, text=True, cwd=REPO, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    there = (job.checkpoint(4) / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(there).hexdigest() == weights_here(ctx, here)


def test_what_is_not_on_the_hub_yet_is_refused_before_anything_is_paid(hub, control_room):
    ctx = control_room()
    hub.fail("/commit/", method="POST", status=503, times=-1)
    base = ended(ctx, runs.submit(ctx, BASE).id)
    there = DPO.replace("PARENT", base.id) + THERE.replace("REPO", "first")
    with pytest.raises(ModelError, match=r"cannot read step 6 of 'base': (its upload waits|it is being uploaded)"):
        runs.submit(ctx, there)
    hub.heal()
    alone = trained(ctx, BASE.replace("hub: {repo_id: ada/base}\n", ""))
    with pytest.raises(ModelError, match="on this machine alone"):
        runs.submit(ctx, DPO.replace("PARENT", alone.id) + THERE.replace("REPO", "first"))
    assert not hub.state.jobs.jobs
    assert all(run.state in FINAL for run in runs.list_runs(ctx))
