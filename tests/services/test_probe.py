"""Twenty steps that keep nothing take the place of the estimated time, by service and command line."""

import json
from dataclasses import replace

import pytest

from codex_space.cli.main import main
from codex_space.core.errors import CodexError, RecipeError, RunError
from codex_space.core.estimate import NO_TIME
from codex_space.core.presets import read_recipe_text
from codex_space.core.settings import read_settings
from codex_space.services import estimate, probe
from codex_space.services.context import open_context
from codex_space.store import runs
from tests.fakes.checkpoints import RUN_ID

TINY = read_recipe_text("pretrain/tiny-cpu")


@pytest.fixture
def ctx(tmp_path):
    context = open_context(read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace")}), lambda: 1e9, own=False)
    yield context
    context.close()


@pytest.mark.slow
def test_the_time_is_measured_and_nothing_is_kept_but_the_tokens(ctx, monkeypatch):
    planned, used = estimate.estimate(ctx, TINY), "1 of the 2 GPUs is used"  # what this machine has no reason to say
    monkeypatch.setattr(estimate, "estimate", lambda *_: replace(planned, notes=[used, NO_TIME]))
    found = probe.measure(ctx, TINY)
    assert found.notes[1:] == [used]
    assert found.is_measured
    assert not planned.is_measured
    assert (found.peak_gib, found.tokens) == (planned.peak_gib, planned.tokens)
    speed = float(found.notes[0].partition(": ")[2].partition(" tokens")[0].replace(",", ""))
    assert speed > 1000
    assert found.tokens / speed / 3600 < found.hours < 0.05
    assert list(ctx.workspace.tokens.iterdir())
    assert not list(ctx.workspace.runs.iterdir())
    assert not list(ctx.workspace.root.glob("check-*"))


@pytest.mark.slow
def test_the_command_line_measures_and_says_so(tmp_path, capsys):
    workspace = ["--workspace", str(tmp_path)]
    assert main(["estimate", "pretrain/tiny-cpu", "train.max_steps=30", "--probe", "--json", *workspace]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["is_measured"]
    assert "the time is measured" in told["notes"][0]
    assert main(["estimate", "pretrain/tiny-cpu", "--probe", "--hardware", "l4x1", *workspace]) == 1
    assert "l4x1 is another" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["block_size=4096"], "longer than the model's"),
        (["datasets=[{path: gone.jsonl}]"], "there is no such file"),
        (["train.optim=adam"], "there is no optimizer 'adam'"),
    ],
)
def test_what_cannot_be_trained_is_told_as_a_run_would_tell_it(ctx, overrides, says):
    with pytest.raises(CodexError, match=says):
        probe.measure(ctx, TINY, overrides)


def test_other_kinds_several_processes_and_a_busy_machine_are_refused(ctx):
    with pytest.raises(RecipeError, match="20 steps are tried of pretraining"):
        probe.measure(ctx, read_recipe_text("sft/tiny-cpu"))
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="pretrain", recipe=TINY, repo_id=None, now=1.0)
    runs.restore_run(ctx.db, RUN_ID, state="running", ended_at=None)
    with pytest.raises(RunError, match="a run trains on this machine"):
        probe.measure(ctx, TINY)
