"""CODEX_SPACE_AUTORUN: queued once in a workspace; what is wrong with it is said and the page stays."""

import logging

import pytest

from codex_space.core.settings import read_settings
from codex_space.services import audit, autorun
from codex_space.services.context import open_context
from codex_space.store import runs as run_rows


@pytest.fixture
def opened(tmp_path):
    contexts = []

    def make(setting):
        environ = {"CODEX_SPACE_HOME": str(tmp_path), "CODEX_SPACE_AUTORUN": setting}
        contexts.append(open_context(read_settings(environ), lambda: 1e9, own=False))
        return contexts[-1]

    yield make
    for ctx in contexts:
        ctx.close()


def test_a_recipe_with_overrides_is_queued_once_however_often_the_container_starts(opened):
    setting = "sft/tiny-cpu train.max_steps=7 'name=a name'"
    first = autorun.start(opened(setting))
    assert (first.name, first.state) == ("a name", "queued")
    assert "max_steps: 7" in first.recipe
    again = opened(setting)
    assert autorun.start(again).id == first.id
    assert len(run_rows.list_runs(again.db)) == 1
    assert [deed.who for deed in audit.read(again)] == ["CODEX_SPACE_AUTORUN"]


def test_another_recipe_is_another_run(opened):
    autorun.start(opened("sft/tiny-cpu"))
    ctx = opened("sft/tiny-cpu train.max_steps=3")
    autorun.start(ctx)
    assert len(run_rows.list_runs(ctx.db)) == 2


def test_nothing_is_set(opened):
    assert autorun.start(opened("  ")) is None


@pytest.mark.parametrize(
    "setting",
    ["sft/nothing", "sft/tiny-cpu 'unbalanced", "sft/tiny-cpu train.learning_rat=1", "../../etc/passwd", "/dev/null"],
)
def test_what_is_wrong_is_said_and_nothing_is_queued(opened, caplog, setting):
    ctx = opened(setting)
    with caplog.at_level(logging.ERROR):
        assert autorun.start(ctx) is None
    assert "CODEX_SPACE_AUTORUN was not started" in caplog.text
    assert not run_rows.list_runs(ctx.db)
