"""`run:ID` in recipes: what it means, and what is said when it means nothing."""

import json

import pytest

from codex_space.core.errors import CodexError, ModelError, RunError
from codex_space.core.paths import MANIFEST
from codex_space.core.recipe import parse_recipe
from codex_space.jobs.references import dependencies, keep_asked, lies_on_hub, release_asked, resolve_model

RUN_ID = "20261121-001530-pretrain-k3f9"


@pytest.fixture
def trained(workspace):
    """A run with complete checkpoints 9 and 100, and one that a kill left half written."""
    job = workspace.job(RUN_ID)
    for step in (9, 100, 200):
        job.checkpoint(step).mkdir(parents=True)
        if step < 200:
            (job.checkpoint(step) / MANIFEST).write_text("{}")
    return job


def test_a_run_means_its_newest_complete_checkpoint(workspace, trained):
    assert resolve_model(workspace, f"run:{RUN_ID}") == str(trained.checkpoint(100))


def test_a_step_means_that_checkpoint(workspace, trained):
    assert resolve_model(workspace, f"run:{RUN_ID}@step-9") == str(trained.checkpoint(9))


@pytest.fixture
def exported(workspace, tmp_path):
    """An export whose worker wrote down more than it may offer: a file elsewhere, and a link to it."""
    folder = workspace.job(RUN_ID).export
    folder.mkdir(parents=True)
    (workspace.runs / "secret").write_text("token")
    (folder / "a.gguf").write_text("GGUF")
    (folder / "link.gguf").symlink_to(workspace.runs / "secret")
    names = ("a.gguf", "link.gguf", "../../secret", str(workspace.runs / "secret"))
    (folder / "export.json").write_text(json.dumps({"files": [{"path": name, "passed": True} for name in names]}))
    return names


def test_an_exported_file_is_one_of_its_own_folder(workspace, exported):
    good, *others = exported
    assert resolve_model(workspace, f"gguf:{RUN_ID}/{good}").endswith("/export/a.gguf")
    for name in others:
        with pytest.raises(ModelError, match="not on this machine"):
            resolve_model(workspace, f"gguf:{RUN_ID}/{name}")


@pytest.mark.parametrize("ref", ["Qwen/Qwen2.5-Coder-0.5B", "fresh:tiny", "/models/mine", "gpt2"])
def test_any_other_reference_stays_as_it_is(workspace, ref):
    assert resolve_model(workspace, ref) == ref


def test_a_step_that_is_not_there_is_named_with_those_that_are(workspace, trained):
    with pytest.raises(ModelError, match=r"step 200 is not on this machine.*9, 100"):
        resolve_model(workspace, f"run:{RUN_ID}@step-200")


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("run:", ModelError), (f"run:{RUN_ID}@9", ModelError), (f"run:{RUN_ID}@step-x", ModelError),
        ("run:../../etc/passwd", ModelError), ("run:etc", RunError), ("run:20261121-001530-sft-zzzz", ModelError),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_refused(workspace, trained, ref, error):
    with pytest.raises(error) as caught:
        resolve_model(workspace, ref)
    assert isinstance(caught.value, CodexError)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"kind: sft\nmodel: {{model_name_or_path: 'run:{RUN_ID}'}}", {RUN_ID}),
        (f"kind: sft\nmodel: {{model_name_or_path: 'run:{RUN_ID}@step-9'}}", {RUN_ID}),
        ("kind: sft\nmodel: {model_name_or_path: fresh:tiny}", set()),
        (f"kind: pretrain\narchitecture: tiny\ntokenizer: 'run:{RUN_ID}'", {RUN_ID}),
        ("kind: tokenizer", set()),
    ],
)
def test_a_recipe_depends_on_the_runs_it_names(text, found):
    assert dependencies(parse_recipe(f"{text}\ndatasets: [{{path: 'sample:x'}}]\n")) == found


def evaluation_of(ref):
    return f"kind: evaluate\nmodel: {{model_name_or_path: '{ref}'}}\nbenchmark: first-steps\n"


def test_a_named_checkpoint_is_held_until_no_unfinished_recipe_names_it(workspace, trained):
    first, second = (evaluation_of(f"run:{RUN_ID}@step-{step}") for step in (9, 100))
    for text in (first, second, evaluation_of(f"run:{RUN_ID}"), evaluation_of("run:20261121-001530-sft-none@step-1")):
        keep_asked(workspace, parse_recipe(text))
    assert {path.name for path in workspace.runs.glob("*/asked/*")} == {"step-9", "step-100"}
    release_asked(workspace, [first, "kind: nonsense", "{"])
    assert [path.name for path in workspace.runs.glob("*/asked/*")] == ["step-9"]
    release_asked(workspace, [])
    assert not trained.asked(9).exists()


@pytest.mark.parametrize(
    ("base", "revision", "cached", "reads"),
    [
        ("ada/base", "c" * 40, "c" * 40, False),
        ("ada/base", "c" * 40, "d" * 40, True),  # the cache holds the newest, and it was trained on another
        ("ada/base", None, "d" * 40, False),
        ("ada/base", None, None, True),
        ("/models/mine", None, None, False),
    ],
)
def test_an_adapters_base_is_read_from_the_hub_where_its_commit_is_not_here(
    workspace, tmp_path, trained, base, revision, cached, reads
):
    config = {"base_model_name_or_path": base, "revision": revision}
    (trained.checkpoint(9) / "adapter_config.json").write_text(json.dumps(config))
    if cached:
        (tmp_path / "hub" / "models--ada--base" / "snapshots" / cached).mkdir(parents=True)
    assert lies_on_hub(trained.checkpoint(9), tmp_path / "hub") == reads
