"""`codex-space chat` names a model as every other command does."""

import pytest

from codex_space.cli import chat as command
from codex_space.cli.main import main
from codex_space.services import runs
from codex_space.services.chat import Chat, ChatDelta

RECIPE = (
    "kind: sft\nname: talker\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
)


@pytest.fixture
def asked(monkeypatch):
    seen = []

    def stream(self, ref, messages, **options):
        seen.append((ref, messages[-1]["content"]))
        yield ChatDelta("so", done=True)

    monkeypatch.setattr(Chat, "stream", stream)
    return seen


@pytest.fixture
def ask(ctx):
    return lambda *words: main(["chat", *words, "--workspace", str(ctx.workspace.root)])


@pytest.mark.parametrize("ref", ["gguf:20261127-082922-export-6epe/a-Q8_0.gguf", "org/model", "/models/mine"])
def test_what_names_no_run_is_asked_as_it_stands(ask, asked, ref):
    assert ask(ref, "--prompt", "hello") == 0
    assert asked == [(ref, "hello")]


@pytest.mark.parametrize("form", ["{id}", "run:{id}", "talker", "{id}@step-4"])
def test_a_run_is_found_by_id_or_name(ctx, ask, asked, form):
    run = runs.submit(ctx, RECIPE)
    assert ask(form.format(id=run.id), "--prompt", "hello") == 0
    assert asked == [(f"run:{run.id}" + ("@step-4" if "@" in form else ""), "hello")]


def test_a_run_that_is_not_there_is_said(ask, asked, capsys):
    assert ask("run:20261127-082922-sft-6epe", "--prompt", "hello") == 1
    assert "there is no such run" in capsys.readouterr().err
    assert asked == []


def test_a_talk_keeps_what_was_said_and_ends_with_the_input(ask, asked, monkeypatch):
    lines = iter(["one", "two", None])
    monkeypatch.setattr(command, "_read_prompt", lambda: next(lines))
    assert ask("org/model") == 0
    assert [said for _, said in asked] == ["one", "two"]
