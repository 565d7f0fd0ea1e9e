"""A run knows the very commits it was made from, and goes on with them when the Hub has moved on."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from codex_space.core import sources
from codex_space.core.sources import Source
from codex_space.work import fresh
from tests.work.conftest import chat_rows, sft_recipe

pytestmark = pytest.mark.slow


def put_model(hub, tmp_path, licence):
    folder = tmp_path / "fresh"
    fresh.make_tiny(folder, 1)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return hub.state.put("models", "ada/base", {**files, "README.md": f"---\nlicense: {licence}\n---\n"})


def put_rows(hub, licence):
    rows = "".join(json.dumps(row) + "\n" for row in chat_rows())
    return hub.state.put("datasets", "bob/rows", {"train.jsonl": rows, "README.md": f"---\nlicense: {licence}\n---\n"})


def run_worker(job, hub, tmp_path, **facts):
    job.launch(offline=False, **facts)
    environ = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with job.dir.log.open("ab") as log:
        command = [sys.executable, "-m", "codex_space.work", str(job.dir.root)]
        code = subprocess.run(command, env=environ, stdout=log, stderr=log, timeout=200, check=False).returncode
    assert code == 0, job.dir.log.read_text()[-2000:]


def test_commits_and_licences_are_kept_and_a_resume_reads_the_same_base(make_job, hub, tmp_path):
    base, rows = put_model(hub, tmp_path, "apache-2.0"), put_rows(hub, "cc-by-nc-4.0")
    recipe = sft_recipe(
        model={"model_name_or_path": "ada/base"}, datasets=[{"path": "bob/rows"}], train={"max_steps": 2},
        checkpoints={"every_steps": 1},
    )  # fmt: skip
    job = make_job(recipe)
    run_worker(job, hub, tmp_path)
    known = sources.read(job.dir)
    assert known.model == Source("ada/base", "", base, "apache-2.0")
    assert known.datasets == (Source("bob/rows", "", rows, "cc-by-nc-4.0"),)
    assert job.manifest(2)["sources"]["model"]["revision"] == base
    assert json.loads((job.dir.checkpoint(2) / "adapter_config.json").read_text())["revision"] == base
    hub.state.put("models", "ada/base", {"config.json": "{}"})  # a newer commit that would not even load
    go_on_elsewhere(make_job, hub, tmp_path, job)
    put_rows(hub, "mit")
    (job.dir.rows / sources.FILE).unlink()  # as where only the checkpoint came back from the Hub
    run_worker(job, hub, tmp_path, attempt=2, resume_from_step=1)
    assert sources.read(job.dir).model == known.model
    assert hub.asked(f"/ada/base/revision/{base}", "GET") or hub.asked(base, "GET")


def go_on_elsewhere(make_job, hub, tmp_path, parent):
    """Train on a run's adapter where nothing but its checkpoint came to, as a Job does."""
    brought = tmp_path / "elsewhere" / parent.dir.root.name / "checkpoint-2"
    shutil.copytree(parent.dir.checkpoint(2), brought)
    ref = f"run:{parent.dir.root.name}@step-2"
    child = sft_recipe(model={"model_name_or_path": ref}, train={"max_steps": 1})
    job = make_job(child, chat_rows(), "20261122-001530-sft-cccc")
    run_worker(job, hub, tmp_path / "elsewhere", references={ref: str(brought)})
    assert (job.dir.base / "model.safetensors").is_file()


def test_a_run_on_another_runs_result_names_what_that_was_made_from(make_job, tmp_path):
    from tests.work.conftest import make_folder

    parent = make_folder(tmp_path, sft_recipe(train={"max_steps": 1}), chat_rows(), run_id="20261120-001530-sft-aaaa")
    sources.note(parent.dir, model=Source("ada/base", "", "c" * 40, "gpl-3.0"))
    assert parent.run() == 0, parent.sentence
    ref = "run:20261120-001530-sft-aaaa"
    job = make_job(sft_recipe(model={"model_name_or_path": ref}, train={"max_steps": 1}), chat_rows())
    assert job.run(references={ref: str(parent.dir.checkpoint(1))}) == 0, job.sentence
    known = sources.read(job.dir)
    assert known.model == Source("ada/base", "", "c" * 40, "gpl-3.0")
    assert {each.id for each in known.datasets} == {"20261120-001530-sft-aaaa.jsonl", "20261121-001530-sft-k3f9.jsonl"}
