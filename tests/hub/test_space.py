"""Spaces, asked of a real server by the unmodified client: copies, machines, sleep, and what is refused."""

import pytest

from codex_space.core.errors import HubAuthError, HubBusyError, HubError, HubNotFoundError
from codex_space.hub.space import Copying, SpaceHub
from tests.fakes.hub import USERS
from tests.fakes.hub_fixture import RunningHub

ORIGIN = "lab/studio"
PLANTED = "a-secret-value-that-nobody-may-see"  # pragma: allowlist secret


@pytest.fixture
def spaces(hub: RunningHub) -> SpaceHub:
    hub.state.put("spaces", ORIGIN, {"app.py": "print()"})
    return SpaceHub("hf_write", endpoint=hub.endpoint)


def copying(to_id: str = "ada/copy", hardware: str = "l4x1") -> Copying:
    sleep_time_s = None if hardware == "cpu-basic" else 3600
    return Copying(ORIGIN, to_id, hardware, sleep_time_s, {"HF_TOKEN": PLANTED}, {"CODEX_SPACE_VISITORS": "look"})


def test_a_copy_is_private_and_has_what_was_asked_for(spaces: SpaceHub, hub: RunningHub) -> None:
    made = spaces.duplicate_space(copying())
    assert (made.repo_id, made.is_copying) == ("ada/copy", False)
    assert made.url.endswith("/spaces/ada/copy")
    repo = hub.repo("ada/copy", "spaces")
    assert repo["private"] is True
    assert repo["space"]["secrets"] == {"HF_TOKEN": PLANTED}
    assert repo["space"]["variables"] == {"CODEX_SPACE_VISITORS": "look"}
    assert (repo["space"]["requested"], repo["space"]["sleep"]) == ("l4x1", 3600)
    assert hub.state.files("spaces", "ada/copy") == {"app.py": b"print()"}


def test_a_copy_is_built_then_starts_then_runs(spaces: SpaceHub) -> None:
    spaces.duplicate_space(copying())
    seen = [spaces.space_runtime("ada/copy") for _ in range(3)]
    assert [one.stage for one in seen] == ["BUILDING", "APP_STARTING", "RUNNING"]
    assert [one.hardware for one in seen] == ["", "l4x1", "l4x1"]
    assert seen[0].is_switching
    assert not seen[2].is_switching


def test_other_hardware_restarts_it(spaces: SpaceHub, hub: RunningHub) -> None:
    asked = spaces.request_hardware(ORIGIN, "a100-large", sleep_time_s=600)
    assert (asked.stage, asked.hardware, asked.requested, asked.sleep_time_s) == (
        "APP_STARTING", "cpu-basic", "a100-large", 600,
    )  # fmt: skip
    spaces.space_runtime(ORIGIN)
    after = spaces.space_runtime(ORIGIN)
    assert (after.stage, after.hardware) == ("RUNNING", "a100-large")
    assert hub.repo(ORIGIN, "spaces")["space"]["restarts"] == 1


def test_pause_restart_sleep_variables_and_secrets(spaces: SpaceHub, hub: RunningHub) -> None:
    spaces.request_hardware(ORIGIN, "l4x1")
    assert spaces.pause_space(ORIGIN).stage == "PAUSED"
    assert spaces.space_runtime(ORIGIN).stage == "PAUSED"
    assert spaces.restart_space(ORIGIN).stage == "APP_STARTING"
    assert spaces.set_sleep_time(ORIGIN, -1).sleep_time_s == -1


def test_prices_are_those_of_an_hour(spaces: SpaceHub) -> None:
    assert spaces.space_prices() == {"l4x1": 0.9}


def test_no_plan_says_what_to_buy_or_choose(spaces: SpaceHub, hub: RunningHub) -> None:
    hub.state.users["hf_write"] = {**USERS["hf_write"], "no_plan": ["ada"]}
    with pytest.raises(HubError, match=r"plan or credit.*PRO.*paid hardware") as caught:
        spaces.duplicate_space(copying(hardware="cpu-basic"))
    assert PLANTED not in str(caught.value)
    assert "spaces/ada/copy" not in hub.state.repos


def test_no_credit_is_said_for_copy_switch_and_restart(spaces: SpaceHub, hub: RunningHub) -> None:
    spaces.request_hardware(ORIGIN, "l4x1")
    hub.state.users["hf_write"] = {**USERS["hf_write"], "no_credit": ["ada", "lab"]}
    for refused in (
        lambda: spaces.duplicate_space(copying()),
        lambda: spaces.request_hardware(ORIGIN, "l4x4"),
        lambda: spaces.restart_space(ORIGIN),
    ):
        with pytest.raises(HubError, match="payment method"):
            refused()


@pytest.mark.parametrize("to_id", ["strangers/copy", "bob/copy"])
def test_an_organisation_that_is_not_theirs_is_named(spaces: SpaceHub, to_id: str) -> None:
    with pytest.raises(HubAuthError, match=f"write or admin.*{to_id.split('/')[0]}|of {to_id.split('/')[0]}"):
        spaces.duplicate_space(copying(to_id))


def test_a_reader_of_the_organisation_is_refused(spaces: SpaceHub, hub: RunningHub) -> None:
    hub.state.users["hf_write"] = {**USERS["hf_write"], "roles": {"lab": "read"}}
    with pytest.raises(HubAuthError, match="role in lab"):
        spaces.duplicate_space(copying("lab/copy"))


def test_a_name_that_is_taken_is_left_as_it_is(spaces: SpaceHub, hub: RunningHub) -> None:
    hub.state.put("spaces", "ada/copy", {"mine.py": "1"})
    with pytest.raises(HubError, match=r"of this name already.*another name"):
        spaces.duplicate_space(copying())
    assert hub.state.files("spaces", "ada/copy") == {"mine.py": b"1"}
    assert "space" not in hub.repo("ada/copy", "spaces")


def test_what_is_not_there_or_hidden_cannot_be_copied(spaces: SpaceHub) -> None:
    with pytest.raises(HubNotFoundError):
        spaces.duplicate_space(Copying("ada/none", "ada/copy", "", None, {}, {}))
    with pytest.raises(HubNotFoundError):
        spaces.space_runtime("ada/none")


@pytest.mark.parametrize("token", ["hf_read", "hf_fine", "hf_other"])
def test_those_who_may_not_write_change_nothing(spaces: SpaceHub, hub: RunningHub, token: str) -> None:
    other = SpaceHub(token, endpoint=hub.endpoint)
    for refused in (other.pause_space, other.restart_space):
        with pytest.raises(HubAuthError):
            refused(ORIGIN)
    with pytest.raises(HubAuthError):
        other.request_hardware(ORIGIN, "l4x1")
    assert spaces.space_runtime(ORIGIN).requested == "cpu-basic"


def test_unknown_hardware_is_refused_in_the_hubs_words(spaces: SpaceHub) -> None:
    with pytest.raises(HubError, match="Invalid hardware flavor"):
        spaces.request_hardware(ORIGIN, "abacus")


def test_a_busy_hub_is_worth_another_try(spaces: SpaceHub, hub: RunningHub) -> None:
    hub.fail("/runtime", status=503)
    with pytest.raises(HubBusyError):
        spaces.space_runtime(ORIGIN)


def test_a_copy_prints_without_its_secrets() -> None:
    assert PLANTED not in f"{copying()!r} {copying()}"
