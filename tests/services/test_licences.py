"""What the checklist says of licences before a run, asked of cards on the test Hub."""

import dataclasses

import pytest

from codex_space.core import sources
from codex_space.core.sources import Source
from codex_space.services import checks, licences
from tests.services.test_after import RECIPE

PLAIN = RECIPE.partition("after:")[0]


@pytest.fixture
def room(ctx, hub):
    licences._read.clear()
    licences._busy.clear()
    environ = {**ctx.settings.environ, "HF_ENDPOINT": hub.endpoint}
    hub.state.put("models", "ada/base", {"README.md": "---\nlicense: apache-2.0\n---\n", "config.json": "{}"})
    hub.state.put("models", "ada/silent", {"README.md": "# no front", "config.json": "{}"})
    hub.state.put("datasets", "bob/code", {"README.md": "---\nlicense: cc-by-4.0\n---\n", "train.jsonl": "{}"})
    hub.state.put("datasets", "bob/nc", {"README.md": "---\nlicense: cc-by-nc-4.0\n---\n", "train.jsonl": "{}"})
    return dataclasses.replace(ctx, settings=dataclasses.replace(ctx.settings, environ=environ))


def line_of(room, model, dataset, extra=""):
    text = PLAIN.replace("fresh:tiny", model).replace("sample:python-first-chat", dataset) + extra
    lines = [line for line in checks.readiness(room, text) if line.label == "Licence"]
    return lines[0] if lines else None


@pytest.mark.parametrize(
    ("model", "dataset", "ok", "said"),
    [
        ("ada/base", "bob/code", True, "apache-2.0, as the base model's."),
        ("ada/base", "sample:python-first-chat", True, "apache-2.0"),
        ("ada/base", "bob/nc", None, "may not go together: bob/nc (cc-by-nc-4.0) and ada/base (apache-2.0)"),
        ("ada/silent", "bob/code", None, "ada/silent states no licence"),
        ("ada/base", "bob/missing", None, "bob/missing states no licence"),
    ],
)
def test_the_checklist_says_what_the_cards_state(room, model, dataset, ok, said):
    line = line_of(room, model, dataset)
    assert (line.ok, said in line.detail) == (ok, True), line
    assert bool(line.cure) == (ok is None)


def test_a_model_made_here_of_our_own_rows_is_no_question(room):
    assert line_of(room, "fresh:tiny", "sample:python-first-chat") is None


def test_a_card_is_asked_once_and_a_dead_hub_is_one_open_line(room, hub):
    line_of(room, "ada/base", "bob/nc")
    before = len([row for row in hub.state.requests if "datasets/bob/nc" in row["path"]])
    line_of(room, "ada/base", "bob/nc")
    assert len([row for row in hub.state.requests if "datasets/bob/nc" in row["path"]]) == before > 0
    licences._read.clear()
    hub.fail("datasets/bob/nc", status=503)
    assert line_of(room, "ada/base", "bob/nc").ok is None
    before = len(hub.asked("datasets/bob/nc", "GET"))
    assert line_of(room, "ada/base", "bob/nc").ok is None
    assert len(hub.asked("datasets/bob/nc", "GET")) == before, "not at every key that is pressed"


def test_what_a_run_was_made_from_counts_for_the_next(room):
    run_id = "20261121-001530-sft-k3f9"
    job = room.workspace.job(run_id)
    job.root.mkdir()
    sources.note(
        job, model=Source("ada/base", licence="apache-2.0"), datasets=[Source("bob/nc", licence="cc-by-nc-4.0")]
    )
    line = line_of(room, f"run:{run_id}", "bob/code")
    assert "bob/nc (cc-by-nc-4.0) and ada/base" in line.detail


def test_a_folders_own_card_is_read(room, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: gpl-3.0\n---\n")
    line = line_of(room, str(tmp_path / "model"), "bob/nc")
    assert "no further restrictions" in line.detail
    assert str(tmp_path) not in line.detail
