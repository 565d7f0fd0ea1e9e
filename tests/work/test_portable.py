"""A recipe written down for plain TRL trains to the same bits under the bare `trl` command, or as the script."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codex_space.core.flat_config import import_flat
from codex_space.core.recipe import validate
from tests.work.conftest import chat_rows, make_folder, pairs, weights

STEPS = 6
TRL = Path(sys.executable).with_name("trl")


def recipe(kind, **changes):
    """Six steps on a fresh model, evaluated and saved half way."""
    train = {"max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "max_length": 128}
    return {
        "kind": kind,
        "name": f"tiny {kind}",
        "model": {"model_name_or_path": "fresh:tiny"},
        "lora": {"r": 4, "lora_alpha": 8},
        "validation": {"fraction": 0.1},
        "checkpoints": {"every_steps": 3},
        "train": {**train, "logging_steps": 1, **changes.pop("train", {})},
        **changes,
    }


def exported(parent, values, rows, form):
    """Return the folder that the worker writes in a process of its own, as a person's command would have it."""
    job = make_folder(parent, values, rows)
    job.launch(portable=form)
    assert job.run() == 0, job.sentence
    return job.dir.portable


def run_bare(folder, command):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OMP_", "PYTHON"))}
    environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def logged(folder):
    """Return (step, loss, gradient norm) of each logged step of a bare run."""
    (state,) = folder.glob(f"output/checkpoint-{STEPS}/trainer_state.json")
    history = json.loads(state.read_text())["log_history"]
    return [(log["step"], log["loss"], log["grad_norm"]) for log in history if "loss" in log]


def ours(parent, values, rows):
    job = make_folder(parent, values, rows)
    assert job.run() == 0, job.sentence
    logs = [event for event in job.said("log") if "loss" in event["metrics"]]
    return job, [(log["step"], log["metrics"]["loss"], log["metrics"]["grad_norm"]) for log in logs]


DROPOUT = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj"]}
RUNS = {
    "sft": (recipe("sft", lora=DROPOUT, train={"packing": True}), chat_rows(60)),
    "dpo": (recipe("dpo", lora=None), pairs(24)),
    "kto": (recipe("kto"), pairs(24)),
    "reward": (recipe("reward"), pairs(24)),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Every kind written down as a script, one folder each."""
    given = {**RUNS, "orpo": (recipe("orpo"), pairs(24))}
    return {kind: exported(tmp_path_factory.mktemp(kind), *each, "python") for kind, each in given.items()}


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory):
    """What our worker makes of each kind, trained once."""
    return functools.cache(lambda kind: ours(tmp_path_factory.mktemp(f"ours-{kind}"), *RUNS[kind]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_the_bare_trl_command_gives_the_same_bits(tmp_path, trained_here, kind):
    folder = exported(tmp_path / "written", *RUNS[kind], "trl")
    run_bare(folder, [str(TRL), kind, "--config", "trl.yaml"])
    job, losses = trained_here(kind)
    assert logged(folder) == losses
    assert len(losses) == STEPS
    assert weights(folder / f"output/checkpoint-{STEPS}") == weights(job.dir.checkpoint(STEPS))


@pytest.mark.slow
def test_the_script_gives_the_same_bits_too(tmp_path, scripts, trained_here):
    """All four in one process, which imports TRL once; nothing of ours is in it."""
    run_all = "import os, runpy, sys\nfor folder in sys.argv[1:]:\n    os.chdir(folder)\n    runpy.run_path('train.py')"
    run_bare(tmp_path, [sys.executable, "-c", run_all, *(str(scripts[kind]) for kind in RUNS)])
    for kind in RUNS:
        job, losses = trained_here(kind)
        assert logged(scripts[kind]) == losses, kind
        assert weights(scripts[kind] / f"output/checkpoint-{STEPS}") == weights(job.dir.checkpoint(STEPS)), kind


@pytest.mark.slow
def test_the_script_trains_to_the_same_bits_where_trl_has_no_command(tmp_path):
    """Written by the command line, as a person would."""
    values = recipe("orpo", lora={"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]})
    rows = pairs(24)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {**values, "datasets": [{"path": str(path)}], "launch": {"num_threads": 1}}
    out = tmp_path / "taken"
    told_to = ["show-command", "-", "--as", "python", "--out", str(out), "--workspace", str(tmp_path / "workspace")]
    done = subprocess.run(
        [sys.executable, "-m", "codex_space", *told_to],
        input=yaml.safe_dump(told),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"cd {out} && python train.py", done.stderr
    run_bare(out, [sys.executable, "train.py"])
    job, losses = ours(tmp_path / "ours", values, rows)
    assert logged(out) == losses
    assert weights(out / f"output/checkpoint-{STEPS}") == weights(job.dir.checkpoint(STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*RUNS, "orpo"])
def test_what_is_written_names_nothing_of_this_machine_and_reads_as_python(tmp_path_factory, scripts, kind):
    folder = scripts[kind]
    for path in folder.rglob("*"):
        if path.is_file() and "output" not in path.relative_to(folder).parts:  # what a bare run of it leaves
            assert str(tmp_path_factory.getbasetemp()).encode() not in path.read_bytes(), path.name
    script = (folder / "train.py").read_text()
    compile(script, "train.py", "exec")
    assert max(map(len, script.splitlines())) <= 120


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_what_is_written_for_trl_comes_back_as_the_same_recipe(tmp_path, kind):
    values = recipe(kind, lora=RUNS[kind][0]["lora"], launch={"num_threads": 1})
    folder = exported(tmp_path, values, RUNS[kind][1], "trl")
    found = import_flat(folder / "trl.yaml")
    before, after = validate({**values, "datasets": [{"path": "x"}]}), validate(found.values)
    data, model = folder / "data", after.model.model_name_or_path
    assert (model, after.datasets[0].path) == (str(folder / "model"), str(data / "train.parquet"))
    assert after.validation.dataset.path == str(data / "validation.parquet")
    own = {"datasets", "validation", "model", "train"}
    assert after.model_dump(exclude=own) == before.model_dump(exclude=own)
    # what our worker would set by itself, and TRL has to be told
    ours = {"assistant_only_loss", "per_device_eval_batch_size", "logging_first_step"}
    assert {k: v for k, v in after.train.items() if k not in ours} == {**before.train}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "changes", "said"),
    [
        ("trl", {"kind": "orpo"}, "the trl command has no kind orpo"),
        ("trl", {"checkpoints": {"early_stopping_patience": 2}}, "would not end this run early"),
        ("python", {"lora": {"continue_adapter": True}}, "an adapter that is trained on"),
        (
            "trl",
            {"model": {"model_name_or_path": "fresh:tiny", "added_tokens": ["<|x|>"]}},
            "embeddings of added tokens",
        ),
        ("trl", {"lora": {"modules_to_save": ["lm_head"]}}, "cannot keep tied weights tied"),
        ("trl", {"lora": {"target_modules": ["q_prj"]}}, "Did you mean 'q_proj'"),
        ("python", {"train": {"train_sampling_strategy": "group_by_length"}}, "in another order"),
        ("python", {"train": {"chat_template_path": "/etc/x.jinja"}}, "names a file of this machine"),
    ],
)
def test_what_plain_trl_would_train_differently_is_refused(tmp_path, form, changes, said):
    values = recipe(changes.get("kind", "sft"), **{k: v for k, v in changes.items() if k != "kind"})
    job = make_folder(tmp_path, values, pairs(24) if "kind" in changes else chat_rows())
    job.launch(portable=form)
    assert job.run() == 1
    assert said in job.sentence
    assert not job.dir.portable.exists() or not any(job.dir.portable.glob("*.*"))


@pytest.fixture
def on_the_hub(tmp_path, monkeypatch):
    """A model of the Hub that lies in the cache, without a chat template."""
    import huggingface_hub.constants

    from codex_space.work.fresh import make_tiny

    commit = "c" * 40
    repo = tmp_path / "cache" / "models--ada--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    make_tiny(repo / "snapshots" / commit, 0)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return "ada/tiny"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form", "template", "files"),
    [
        ("sft", "trl", "codex", {"trl.yaml", "data", "chat_template.jinja"}),
        ("dpo", "trl", "codex", {"trl.yaml", "data", "model"}),
        ("dpo", "python", "codex", {"train.py", "data", "chat_template.jinja"}),
        ("dpo", "trl", "none", {"trl.yaml", "data"}),
    ],
)
def test_a_model_of_the_hub_is_named_and_only_copied_where_its_template_has_to_change(
    tmp_path, on_the_hub, kind, form, template, files
):
    values = recipe(kind, model={"model_name_or_path": on_the_hub}, chat_template=template)
    folder = exported(tmp_path, values, pairs(24) if kind == "dpo" else chat_rows(), form)
    assert {path.name for path in folder.iterdir()} == files
    text = (folder / ("trl.yaml" if form == "trl" else "train.py")).read_text()
    assert ("ada/tiny" in text) == ("model" not in files)
    if "model" in files:
        assert "### " in (folder / "model" / "chat_template.jinja").read_text()
        assert (folder / "model" / "model.safetensors").is_file()
