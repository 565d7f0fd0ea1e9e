"""Spaces through the services and the command line, against the test Hub."""

import json

import pytest

from codex_space.cli import space as command
from codex_space.cli.main import main
from codex_space.core.errors import CodexError, WorkspaceError
from codex_space.core.settings import read_settings
from codex_space.services import audit, space
from codex_space.services.context import open_context

ORIGIN = "lab/studio"
OWN = "the-password-of-the-running-space"  # pragma: allowlist secret
FRESH = "a-password-of-the-copy"  # pragma: allowlist secret


@pytest.fixture
def environ(hub, tmp_path, monkeypatch):
    hub.state.put("spaces", ORIGIN, {"app.py": "print()"})
    made = {
        "CODEX_SPACE_HOME": str(tmp_path / "workspace"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_write",
        "CODEX_SPACE_PASSWORD": OWN,
        "CODEX_SPACE_VISITORS": "look",
        "CODEX_SPACE_AUTORUN": "sft/tiny-cpu",
        "SYSTEM": "spaces",
        "SPACE_ID": ORIGIN,
    }
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def ctx(environ):
    context = open_context(read_settings(environ), lambda: 1_800_000_000.0, own=False)
    yield context
    context.close()


def test_a_copy_gets_the_settings_but_no_secret_and_no_run(ctx, hub):
    made = space.duplicate(ctx, "lab/copy", hardware="l4x1", secrets={"CODEX_SPACE_PASSWORD": FRESH})
    state = hub.repo("lab/copy", "spaces")["space"]
    assert made.repo_id == "lab/copy"
    assert state["variables"] == {"CODEX_SPACE_VISITORS": "look", "CODEX_SPACE_ORIGIN": ORIGIN}
    assert state["secrets"] == {"CODEX_SPACE_PASSWORD": FRESH}
    assert OWN not in json.dumps(hub.repo("lab/copy", "spaces"))
    assert [deed.what for deed in audit.read(ctx)] == ["lab/copy"]


@pytest.mark.parametrize("value", [OWN, f" {OWN} "])
def test_the_running_spaces_own_secret_is_never_copied(ctx, hub, value):
    with pytest.raises(WorkspaceError, match="never copied") as caught:
        space.duplicate(ctx, "lab/copy", secrets={"CODEX_SPACE_PASSWORD": value})
    assert OWN not in str(caught.value)
    assert not hub.asked("/duplicate")


@pytest.mark.parametrize(
    ("to_id", "fields", "says"),
    [
        ("", {}, "not the id"),
        ("copy", {}, "owner/name"),
        ("../../x", {}, "owner/name"),
        ("lab/" + "x" * 500, {}, "owner/name"),
        ("lab/copy", {"hardware": "l4x"}, "l4x4"),
        ("lab/copy", {"hardware": "l4x1", "sleep_time_s": 5}, "no sleep time"),
        ("lab/copy", {"hardware": "l4x1", "sleep_time_s": -2}, "no sleep time"),
        ("lab/copy", {"sleep_time_s": 3600}, "48 hours"),
        ("lab/copy", {"secrets": {"1X": "value"}}, "not a variable's name"),
        ("lab/copy", {"secrets": {"A B": "value"}}, "not a variable's name"),
        ("lab/copy", {"secrets": {"X": "y" * 10_001}}, "too long"),
        ("lab/copy", {"variables": {"CODEX_SPACE_PASSWORD": "x"}}, "the name of a secret"),
        ("lab/copy", {"from_id": "no slash"}, "owner/name"),
    ],
)
def test_bad_wishes_are_refused_before_the_hub_is_asked_for_a_copy(ctx, hub, to_id, fields, says):
    with pytest.raises(CodexError, match=says):
        space.duplicate(ctx, to_id, **fields)
    assert not hub.asked("/duplicate")


def test_the_link_leads_to_the_hubs_own_form(ctx, hub):
    assert space.duplicate_link(ctx) == f"{hub.endpoint}/spaces/{ORIGIN}?duplicate=true"


def test_the_command_line_switches_sleeps_pauses_and_restarts(environ, capsys):
    assert main(["space", "hardware", "l4x1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requested"] == "l4x1"
    for line in (["sleep", "600"], ["status"], ["status"]):
        assert main(["space", *line]) == 0
    assert "lab/studio: RUNNING on l4x1; sleeps after 600 seconds" in capsys.readouterr().out
    assert main(["space", "pause"]) == 0
    assert "PAUSED" in capsys.readouterr().out
    assert main(["space", "restart"]) == 0


def test_cpu_basic_has_a_sleep_of_its_own(environ, capsys):
    assert main(["space", "sleep", "600"]) == 1
    assert "48 hours" in capsys.readouterr().err


def test_elsewhere_a_space_has_to_be_named(environ, monkeypatch, capsys, hub):
    monkeypatch.delenv("SPACE_ID")
    for line in (["status"], ["pause"], ["hardware", "l4x1"], ["duplicate", "ada/copy"]):
        assert main(["space", *line]) == 1
        assert "not a Space" in capsys.readouterr().err
    monkeypatch.setenv("NEW_PASSWORD", FRESH)
    line = ["space", "duplicate", "ada/copy", "--from", ORIGIN, "--secret", "CODEX_SPACE_PASSWORD=@NEW_PASSWORD"]
    assert main([*line, "--variable", "CODEX_SPACE_NOTICE=discussion", "--hardware", "l4x1"]) == 0
    printed = capsys.readouterr()
    assert FRESH not in printed.out + printed.err
    state = hub.repo("ada/copy", "spaces")["space"]
    assert state["secrets"] == {"CODEX_SPACE_PASSWORD": FRESH}
    wanted = {"CODEX_SPACE_NOTICE": "discussion", "CODEX_SPACE_ORIGIN": ORIGIN}
    assert state["variables"] == wanted, "another Space's copy has none of our settings"


def test_secrets_are_asked_for_without_echo_on_a_terminal(environ, monkeypatch, hub, capsys):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(command.getpass, "getpass", lambda prompt: asked.append(prompt) or FRESH)
    assert main(["space", "duplicate", "lab/copy", "--secret", "HF_TOKEN"]) == 0
    assert asked == ["HF_TOKEN of the copy (not shown; empty for none): "]
    assert hub.repo("lab/copy", "spaces")["space"]["secrets"] == {"HF_TOKEN": FRESH}
    assert FRESH not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--secret", f"HF_TOKEN={FRESH}"], "does not belong into a command"),
        (["--secret", "HF_TOKEN"], "no terminal"),
        (["--secret", "HF_TOKEN=@NOT_SET_ANYWHERE"], "empty"),
        (["--secret", "CODEX_SPACE_PASSWORD=@CODEX_SPACE_PASSWORD"], "never copied"),
        (["--variable", "NAME"], "NAME=VALUE"),
    ],
)
def test_a_secret_that_cannot_be_had_makes_no_copy(environ, hub, capsys, line, says):
    assert main(["space", "duplicate", "lab/copy", *line]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert FRESH not in error
    assert not hub.asked("/duplicate")
