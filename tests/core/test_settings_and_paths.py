"""Settings read once, secrets that do not print, ids that cannot leave the workspace."""

import json

import pytest

from codex_space.core import durable
from codex_space.core.errors import RunError, WorkspaceError
from codex_space.core.paths import MANIFEST, JobDir, Workspace, new_run_id
from codex_space.core.settings import Secret, read_settings


def test_secrets_print_as_stars_everywhere():
    settings = read_settings({"HF_TOKEN": "hf_verysecret", "CODEX_SPACE_PASSWORD": "pw-verysecret"})
    assert "verysecret" not in f"{settings!r} {settings} {settings.hf_token} {[settings.password]}"
    assert settings.hf_token.reveal() == "hf_verysecret"


def test_the_stored_login_is_used_when_the_variable_is_not_set(tmp_path):
    (tmp_path / "token").write_text("hf_stored\n")
    assert read_settings({"HF_HOME": str(tmp_path)}).hf_token.reveal() == "hf_stored"
    assert read_settings({"HF_HOME": str(tmp_path / "none")}).hf_token is None


def test_command_line_values_win_over_the_environment():
    assert read_settings({"CODEX_SPACE_PORT": "9000"}, port=9001).port == 9001
    assert read_settings({"CODEX_SPACE_PORT": "9000"}, port=None).port == 9000


def test_a_port_that_is_no_number_is_refused():
    with pytest.raises(WorkspaceError, match="not a number"):
        read_settings({"CODEX_SPACE_PORT": "http"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_only_loopback_counts_as_loopback(host):
    assert not read_settings({"GRADIO_SERVER_NAME": host}).is_loopback
    assert read_settings({}).is_loopback


@pytest.mark.parametrize(
    "run_id", ["../../etc", "", ".", "20261121-001530-sft-k3f9/..", "a\x00b", "20261121-001530-sft-K3F9"]
)
def test_an_id_that_is_not_ours_never_becomes_a_path(tmp_path, run_id):
    with pytest.raises(RunError):
        Workspace(tmp_path).job(run_id)


def test_ids_read_and_sort_by_time(tmp_path):
    ids = [new_run_id("sft", at) for at in (1.0e9, 1.5e9, 1.7e9)]
    assert ids == sorted(ids)
    assert Workspace(tmp_path).job(ids[0]).root.name == ids[0]


def test_a_folder_without_its_manifest_is_not_a_checkpoint(tmp_path):
    job = JobDir(tmp_path)
    for step in (5, 10, 20):
        job.checkpoint(step).mkdir()
    for step in (5, 20):
        (job.checkpoint(step) / MANIFEST).write_text("{}")
    (tmp_path / "checkpoint-x").mkdir()
    assert job.checkpoint_steps() == [5, 20]


def test_secret_has_no_value_in_its_text():
    assert str(Secret("a")) == repr(Secret("b"))


def test_a_half_written_file_never_shows(tmp_path):
    path = tmp_path / "x.json"
    durable.write_json(path, {"a": 1})
    durable.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_an_unreadable_json_file_is_none(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert durable.read_json(path) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CODEX_SPACE_RESUME", "always"),
        ("CODEX_SPACE_GRACE_S", "soon"),
        ("CODEX_SPACE_GRACE_S", "-1"),
        ("CODEX_SPACE_GRACE_S", "nan"),
        ("CODEX_SPACE_HEARTBEAT_S", "0"),
        ("CODEX_SPACE_HEARTBEAT_S", "1e9"),
    ],
)
def test_a_setting_of_survival_that_makes_no_sense_is_named(name, value):
    with pytest.raises(WorkspaceError, match=name):
        read_settings({name: value})


def test_a_space_has_a_grace_and_a_name_and_a_machine_of_ones_own_has_none():
    space = read_settings({"SPACE_ID": "ada/space", "SYSTEM": "spaces"})
    assert (space.grace_s, space.holder, space.resume) == (20.0, "ada/space", "ask")
    own = read_settings({})
    assert (own.grace_s, bool(own.holder)) == (0.0, True)
