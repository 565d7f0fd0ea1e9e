"""Accounts, rights and refusals, asked of a real server by the unmodified client."""

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from codex_space.core.errors import (
    HubAuthError,
    HubBusyError,
    HubError,
    HubGatedError,
    HubNotFoundError,
)
from codex_space.hub.client import Hub, hourly
from codex_space.hub.records import ModelInfo
from tests.fakes.hub_fixture import RunningHub


def test_whoami_names_the_account_its_organisations_and_its_role(hub: RunningHub) -> None:
    account = hub.client("hf_write").whoami()
    assert (account.name, account.orgs, account.role, account.can_write) == ("ada", ("lab",), "write", True)


@pytest.mark.parametrize(("token", "can_write"), [("hf_read", False), ("hf_fine", False), ("hf_fine_one", True)])
def test_whoami_tells_tokens_that_cannot_write(hub: RunningHub, token: str, can_write: bool) -> None:
    assert hub.client(token).whoami().can_write is can_write


def test_no_token_says_where_to_get_one(hub: RunningHub) -> None:
    with pytest.raises(HubAuthError, match="no Hub token") as caught:
        hub.client(None).whoami()
    assert "HF_TOKEN" in str(caught.value)


def test_a_revoked_token_is_an_auth_error_that_does_not_show_it(hub: RunningHub) -> None:
    with pytest.raises(HubAuthError, match="missing, wrong or revoked") as caught:
        hub.client("hf_revoked_secret").whoami()
    assert "hf_revoked_secret" not in str(caught.value)


def test_check_writable_makes_a_private_repository(hub: RunningHub) -> None:
    hub.client().check_writable("ada/new", private=True)
    assert hub.repo("ada/new")["private"] is True


def test_check_writable_makes_a_public_one_when_asked(hub: RunningHub) -> None:
    hub.client().check_writable("lab/new", private=False)
    assert hub.repo("lab/new")["private"] is False


def test_check_writable_keeps_an_existing_repository_as_it_is(hub: RunningHub) -> None:
    hub.state.put("models", "ada/old", {"a.txt": "kept"})
    hub.client().check_writable("ada/old", private=True)
    assert hub.repo("ada/old")["private"] is False
    assert hub.state.files("models", "ada/old") == {"a.txt": b"kept"}


@pytest.mark.parametrize("token", ["hf_read", "hf_fine"])
def test_a_token_without_write_rights_is_refused_before_anything_is_made(hub: RunningHub, token: str) -> None:
    with pytest.raises(HubAuthError, match="cannot write") as caught:
        hub.client(token).check_writable("ada/new", private=True)
    assert "write role" in caught.value.cure
    assert hub.state.repos == {}


def test_an_existing_repository_that_one_may_only_read_is_refused(hub: RunningHub) -> None:
    hub.state.put("models", "bob/public", {"a.txt": "x"})
    with pytest.raises(HubAuthError, match="may not do this"):
        hub.client("hf_write").check_writable("bob/public", private=True)


def test_a_fine_grained_token_is_proven_on_the_repository_itself(hub: RunningHub) -> None:
    hub.state.put("models", "ada/allowed", {"a.txt": "x"})
    hub.state.put("models", "ada/not-allowed", {"a.txt": "x"})
    hub.client("hf_fine_one").check_writable("ada/allowed", private=True)
    with pytest.raises(HubAuthError):
        hub.client("hf_fine_one").check_writable("ada/not-allowed", private=True)


def test_a_namespace_of_somebody_else_is_refused(hub: RunningHub) -> None:
    with pytest.raises(HubAuthError, match="rights to create"):
        hub.client().check_writable("bob/mine", private=True)


def test_model_info_knows_the_commit_and_asks_once(hub: RunningHub) -> None:
    sha = hub.state.put("models", "bob/base", {"model.safetensors": "w" * 500, "config.json": "{}"})
    before = len(hub.state.requests)
    assert hub.client().model_info("bob/base") == ModelInfo(sha, private=False, gated=False)
    assert len(hub.state.requests) == before + 1


@pytest.mark.parametrize("repo_id", ["bob/absent", "absent"])
def test_an_unknown_model_is_named(hub: RunningHub, repo_id: str) -> None:
    with pytest.raises(HubNotFoundError, match=repo_id):
        hub.client().model_info(repo_id)


@pytest.mark.parametrize("repo_id", ["a b/c", "x/y/z", "..", "a/b?c", "bob/--bad--"])
def test_a_name_that_cannot_be_a_repository_is_refused(hub: RunningHub, repo_id: str) -> None:
    with pytest.raises(HubNotFoundError):
        hub.client().model_info(repo_id)


def test_an_unknown_revision_is_told_apart_from_an_unknown_model(hub: RunningHub) -> None:
    hub.state.put("models", "bob/base", {"config.json": "{}"})
    with pytest.raises(HubNotFoundError, match="no such revision"):
        hub.client().model_info("bob/base", "v9")


def test_a_private_model_of_somebody_else_looks_unknown(hub: RunningHub) -> None:
    hub.state.put("models", "bob/secret", {"config.json": "{}"}, private=True)
    with pytest.raises(HubNotFoundError, match="private and hidden"):
        hub.client().model_info("bob/secret")


def test_a_gated_model_says_which_page_to_open(hub: RunningHub) -> None:
    hub.state.put("models", "bob/gated", {"config.json": "{}"}, gated=True)
    with pytest.raises(HubGatedError, match="terms have to be accepted") as caught:
        hub.client().model_info("bob/gated")
    assert f"{hub.endpoint}/bob/gated" in caught.value.cure
    hub.repo("bob/gated")["accepted"].append("ada")
    assert hub.client().model_info("bob/gated").gated is True


def test_search_finds_public_models(hub: RunningHub) -> None:
    hub.state.put("models", "bob/coder-1b", {"config.json": "{}"})
    hub.state.put("models", "bob/painter", {"config.json": "{}"})
    assert [hit.id for hit in hub.client(None).search_models("coder", limit=5)] == ["bob/coder-1b"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_hub_is_said_at_once_and_not_waited_for(hub: RunningHub, status: int) -> None:
    hub.state.put("models", "bob/base", {"config.json": "{}"})
    hub.fail("/tree/", status=status, times=1, headers={"Retry-After": "300"})
    with pytest.raises(HubBusyError, match=f"HTTP {status}") as caught:
        hub.client().tree("bob/base", "main")
    assert "300 s" in caught.value.cure
    assert len(hub.asked("/tree/", "GET")) == 1


def test_a_hub_that_is_not_there_is_busy() -> None:
    with pytest.raises(HubBusyError, match="no connection"):
        Hub("hf_write", endpoint="http://127.0.0.1:9").whoami()


def test_a_cut_connection_is_busy(hub: RunningHub) -> None:
    hub.fail("/whoami", how="drop")
    with pytest.raises(HubBusyError, match="no connection"):
        hub.client().whoami()


@pytest.mark.parametrize(("status", "kind"), [(402, HubError), (403, HubAuthError), (413, HubError), (418, HubError)])
def test_other_refusals_carry_the_hubs_own_words(hub: RunningHub, status: int, kind: type[HubError]) -> None:
    hub.fail("/whoami", status=status, message="Not today, says the Hub")
    with pytest.raises(kind, match="Not today, says") as caught:
        hub.client().whoami()
    assert not isinstance(caught.value, HubBusyError)


def test_very_long_words_of_the_hub_are_clipped(hub: RunningHub) -> None:
    hub.fail("/whoami", status=403, message="x" * 5000)
    with pytest.raises(HubAuthError) as caught:
        hub.client().whoami()
    assert len(str(caught.value)) < 600


def test_a_full_account_is_not_blamed_on_the_token(hub: RunningHub) -> None:
    hub.fail("/whoami", status=403, message="Private repository storage limit reached")
    with pytest.raises(HubError, match="storage on the Hub is full") as caught:
        hub.client().whoami()
    assert not isinstance(caught.value, HubAuthError)


def test_a_login_page_of_the_network_is_not_taken_for_the_hub(hub: RunningHub) -> None:
    hub.state.put("models", "bob/base", {"config.json": "{}"})
    for path, ask in (
        ("/whoami", lambda: hub.client().whoami()),
        ("/tree/", lambda: hub.client().tree("bob/base", "main")),
    ):
        hub.fail(path, text="<html>Please log in</html>")
        with pytest.raises(HubBusyError, match="not the Hub's"):
            ask()


def test_an_offline_setting_is_named(hub: RunningHub, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.state.put("models", "bob/base", {"config.json": "{}"})
    hub.client().head("bob/base")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        hub.client().head("bob/base")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        hub.client().download("bob/base", "config.json", "main", tmp_path)


@pytest.mark.parametrize("path", ["../out.txt", "/etc/passwd", "a/../../b", "a\\..\\b"])
def test_a_file_name_that_leads_out_of_the_folder_is_not_downloaded(hub: RunningHub, tmp_path, path: str) -> None:
    hub.state.put("models", "bob/base", {path: "evil"})
    with pytest.raises(HubError, match="not a plain path"):
        hub.client().download("bob/base", path, "main", tmp_path)


def test_a_stored_login_of_this_machine_is_never_used(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    hub.client(None).search_models("anything")
    hub.client("hf_other").whoami()
    assert {row["token"] for row in hub.state.requests} == {"", "hf_other"}


def test_importing_the_layer_does_not_import_the_slow_client() -> None:
    modules = "client", "push", "fetch", "cards", "dataset_files"
    code = "import sys; " + "; ".join(f"import codex_space.hub.{name}" for name in modules)
    code += "; print([m for m in ('huggingface_hub', 'httpx2', 'pyarrow', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.sub(r"\s", "", done.stdout) == "[]"


def test_a_price_that_is_none_is_not_taken() -> None:
    def machine(name: str, usd: float, unit: str = "minute") -> Any:
        return SimpleNamespace(name=name, unit_cost_usd=usd, unit_label=unit)

    given = [machine("a", 0.5), machine("b", float("inf")), machine("c", float("nan")), machine("d", -1.0), machine("e", 1, "moon")]  # fmt: skip
    assert hourly(given) == {"a": 30.0}
