"""Who may act on a Space: its owner and members who may write there; for all others every address and event is shut."""

import base64
import json

import pytest

from codex_space.core.actor import May
from codex_space.core.settings import read_settings
from codex_space.services import roles
from codex_space.store import runs as run_rows
from codex_space.ui import guard
from codex_space.ui.access import STARTUP_CHECKS, needed
from tests.fakes.space import OWNER, READER, SPACE, STRANGER, open_space  # noqa: F401  # the fixture

SHUT_OUT = {401, 403}


@pytest.fixture(scope="module")
def space(open_space):  # noqa: F811
    return open_space()


@pytest.fixture(scope="module")
def shown(open_space):  # noqa: F811
    return open_space(CODEX_SPACE_VISITORS="look")


@pytest.fixture(scope="module")
def abroad(open_space):  # noqa: F811
    return open_space(GRADIO_SERVER_NAME="0.0.0.0")  # as in a Space: it is asked by its public name


def test_the_owner_and_a_member_who_may_write_act(space):
    for who in (OWNER, {**OWNER, "name": "wim", "roles": {"lab": "write"}}, {"name": "lab", "orgs": []}):
        me = space.person(who).me()
        assert me == {"name": who["name"], "acts": True, "signed_in": True, "link": "/logout"}


@pytest.mark.parametrize("who", [READER, STRANGER, {"name": "Lab", "orgs": ["LAB"], "roles": {"LAB": "admin"}}])
def test_others_who_sign_in_are_told_why_not(space, who):
    answer = space.person(who).ask("/")
    assert answer.status == 403
    assert who["name"] in answer.text
    assert "lab" in answer.text
    assert "/logout" in answer.text


def test_a_visitor_finds_the_way_to_sign_in(space):
    answer = space.person().ask("/")
    assert answer.status == 200, "a platform that looks at / must find a program that has started"
    assert space.person().ask("/", "HEAD").status == 200
    assert "/login/huggingface" in answer.text
    assert "gradio" not in answer.text.lower(), "the way in, and nothing of the page behind it"
    assert [space.person().ask("/", method).status for method in ("POST", "PUT")] == [401, 401]
    assert "www-authenticate" not in answer.headers, "a browser would ask for a password over it"


def test_signing_out_ends_it(space):
    person = space.person(OWNER)
    assert person.me()["acts"]
    person.ask("/logout", sec_fetch_site="same-origin")
    assert person.me() == 401


@pytest.mark.parametrize("who", [None, STRANGER, READER])
def test_every_address_of_the_running_page_is_shut_to_strangers(space, who):
    person = space.person(who)
    open_ones = {"/health", "/login/huggingface", "/login/callback", "/logout"}
    asked = [one for one in space.routes() if one[1] not in open_ones and one not in STARTUP_CHECKS]
    assert len(asked) > 60
    if who is None:  # who has not signed in gets the way in there, as a test above sees
        asked = [one for one in asked if one not in {("GET", "/"), ("HEAD", "/")}]
    reached = [
        one for one in asked if person.ask(one[1], one[0], b"" if one[0] == "POST" else None).status not in SHUT_OUT
    ]
    assert not reached


def test_every_event_of_the_running_page_is_shut_to_strangers(space):
    events = [number for number, event in space.demo.fns.items() if event.fn is not None]
    assert len(events) > 50
    person = space.person(STRANGER)
    assert {person.call(event, []) for event in events} == {403}


def test_visitors_who_may_look_reach_what_is_named_and_nothing_else(shown):
    person = shown.person()
    assert person.me()["acts"] is False
    assert person.ask("/").status == 200
    for method, path in shown.routes():
        if needed(method, path) is May.ACT and path not in {
            "/health",
            "/login/huggingface",
            "/login/callback",
            "/logout",
        }:
            assert person.ask(path, method, b"" if method == "POST" else None).status in SHUT_OUT, (method, path)
    assert person.ask("/gradio_api/upload", "POST", b"").status in SHUT_OUT
    assert person.ask("/api/exports/x/files/y/content").status in SHUT_OUT
    assert person.ask("/api/exports").status == 200


def test_what_a_new_address_is(shown):
    assert needed("GET", "/something/new") is May.ACT
    assert needed("PUT", "/api/runs") is May.ACT
    assert needed("POST", "/api/runs") is May.ACT
    assert needed("GET", "/api/exports/run/files/model.gguf/content") is May.ACT
    assert needed("GET", "/api/runs/x/live") is May.LOOK


@pytest.fixture
def called(shown):
    """The functions of events, with what reaches them written down instead."""
    reached, before = [], {}
    for number, event in shown.demo.fns.items():
        if event.fn is not None:
            before[number] = event.fn
            inner = event.fn.__wrapped__

            def note(*_, number=number, **__):
                reached.append(number)
                raise RuntimeError("reached")

            note.__dict__.update(inner.__dict__)
            note.__annotations__ = inner.__annotations__  # by which Gradio knows what it is to hand over
            note.__wrapped__ = inner
            event.fn = guard._guarded(note, event)
            event.fn.__wrapped__ = inner
    yield reached
    for number, function in before.items():
        shown.demo.fns[number].fn = function


def test_visitors_who_may_look_run_only_events_that_are_marked(shown, called):
    person = shown.person()
    for number, event in shown.demo.fns.items():
        if event.fn is None:
            continue
        values = [component.example_payload() for component in event.inputs]
        said = person.call(number, values, session=f"visitor-{number}")
        if needs_act := guard.needs(event.fn) is May.ACT:
            assert number not in called, event.fn
        if said == 403:  # a file among the values, which no visitor may send
            assert needs_act
            continue
        pressed = not event.targets or any(trigger in guard._PRESSES for _, trigger in event.targets)
        assert ("for those who may act" in said) == (needs_act and pressed), said
    marked = {number for number, event in shown.demo.fns.items() if event.fn and guard.needs(event.fn) is May.LOOK}
    assert len(marked) < len(shown.demo.fns) / 3
    assert set(called) <= marked


def test_a_visitors_press_changes_nothing_and_says_why(shown):
    by_target = {
        (shown.demo.blocks[target].elem_id, trigger): number
        for number, event in shown.demo.fns.items()
        for target, trigger in event.targets
        if event.fn is not None and target in shown.demo.blocks
    }
    before = len(run_rows.list_runs(shown.ctx.db))
    said = shown.person().call(by_target["start-train", "click"], [])
    assert "Sign in to act" in said
    assert len(run_rows.list_runs(shown.ctx.db)) == before
    acted = shown.person(OWNER).call(by_target["start-train", "click"], [], session="owners")
    assert "process_completed" in acted
    assert '"success":true' in acted.replace(" ", "")
    assert len(run_rows.list_runs(shown.ctx.db)) == before + 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"fn_index": 0, "data": [{"path": "https://example.com/x", "meta": {"_type": "gradio.FileData"}}]}',
        b'{"fn_index": 0, "data": [[{"path": "/etc/passwd"}]]}',
        b'{"fn_index": 0, "data": ["' + b"x" * (1 << 17) + b'"]}',
        b'{"fn_index": 0, "data": [',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_a_visitors_event_carries_plain_values_only(shown, body):
    answer = shown.person().ask("/gradio_api/queue/join?", "POST", body, content_type="application/json")
    assert answer.status == 403
    assert "plain values" in answer.text


def test_what_a_visitor_finds_disabled_comes_from_the_events_themselves(shown):
    disabled = shown.person().me()["disabled"]
    assert {"start-train", "data-delete", "train-go", "runs-stop"} <= set(disabled)
    assert "data-earlier" not in disabled


@pytest.mark.parametrize(
    ("token", "acts"),
    [("hf_write", True), ("hf_read", False), ("hf_fine", False), ("hf_other", False), ("hf_nobody_knows_this", False)],
)
def test_a_program_comes_with_a_token_of_the_hub(space, token, acts):
    answer = space.person().ask("/api/me", authorization=f"Bearer {token}")
    assert (answer.status == 200) == acts
    if acts:
        assert json.loads(answer.body)["name"] == "ada"


def test_a_token_that_another_programs_sign_in_gave_opens_nothing(space):
    space.hub.state.users["hf_oauth_of_another_space"] = {**OWNER, "role": "oauth"}
    answer = space.person().ask("/", authorization="Bearer hf_oauth_of_another_space")
    assert answer.status == 403
    assert "another program" in answer.text


def test_a_revoked_token_is_refused_a_minute_later(space):
    person = space.person(OWNER)
    assert person.me()["acts"]
    del space.hub.state.users[space.provider.given[-1]]
    space.clock.now += roles.TRUSTED_S + 1
    assert person.me() == 403


def test_an_expired_sign_in_is_over_without_asking_anybody(space):
    space.provider.expires_in_s = 3600
    person = space.person(OWNER)
    space.provider.expires_in_s = 28800
    assert person.me()["acts"]
    asked = len(space.hub.asked("whoami", "GET"))
    space.clock.now += 3601
    assert person.me() == 401
    assert len(space.hub.asked("whoami", "GET")) == asked
    space.clock.now -= 3601


@pytest.mark.parametrize("cookie", ["", "x", "e30=.x.y", "a" * 5000])
def test_a_cookie_nobody_signed_is_no_sign_in(space, cookie):
    person = space.person()
    person.cookie = cookie
    assert person.me() == 401


def test_a_cookie_changed_by_hand_is_no_sign_in(space):
    person = space.person(OWNER)
    body, rest = person.cookie.split(".", 1)
    person.cookie = f"{body[:-4]}AAAA.{rest}"
    assert person.me() == 401


def test_another_site_cannot_act_with_the_owners_cookie(space):
    person = space.person(OWNER)
    answer = person.ask("/gradio_api/queue/join", "POST", b"{}", origin="https://evil.example")
    assert answer.status == 403


def test_a_sign_in_that_was_refused_or_made_up_signs_nobody_in(space):
    for query in ("", "?code=x&state=y", "?error=access_denied&state=z"):
        person = space.person()
        assert person.ask(f"/login/callback{query}").status in {307, 400, 500}
        assert person.me() == 401


def test_the_hub_is_asked_once_a_minute_and_a_bounded_number_of_times(space):
    space.clock.now += 120
    person = space.person(OWNER)
    before = len(space.hub.asked("whoami", "GET"))
    for _ in range(30):
        assert person.me()["acts"]
    assert len(space.hub.asked("whoami", "GET")) == before + 1
    made_up = space.person()
    for number in range(100):
        assert made_up.me(authorization=f"Bearer hf_{number}") == 403
    assert len(space.hub.asked("whoami", "GET")) <= before + 1 + roles.QUESTIONS_A_MINUTE
    assert person.me()["acts"], "those who are known do not suffer from it"
    assert space.person({**OWNER, "name": "wim"}).me()["acts"], "nor does who signs in now"
    space.clock.now += 120


def test_while_the_hub_is_silent_the_known_stay_known_for_a_while(space):
    person = space.person(OWNER)
    assert person.me()["acts"]
    space.hub.fail("whoami", status=503, times=1000)
    space.clock.now += roles.TRUSTED_S + 1
    assert person.me()["acts"]
    space.clock.now += roles.TRUSTED_WITHOUT_HUB_S + 1
    assert person.me() == 403
    space.hub.heal()
    space.clock.now += 120


def test_the_password_goes_beside_the_sign_in(open_space):  # noqa: F811
    both = open_space(CODEX_SPACE_PASSWORD="open sesame")
    person = both.person()
    assert "/login/password" in person.ask("/").text
    asked = person.ask("/login/password")
    assert asked.status == 401
    assert asked.headers["www-authenticate"].startswith("Basic")
    basic = "Basic " + base64.b64encode(b"x:open sesame").decode()
    assert person.ask("/login/password", authorization=basic).status == 303
    assert person.me(authorization=basic)["acts"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SPACE_ID": SPACE}, "SYSTEM=spaces"),
        ({"SPACE_ID": SPACE, "SYSTEM": "local"}, "SYSTEM=spaces"),
        ({"SPACE_ID": "no-owner", "SYSTEM": "spaces"}, "owner/name"),
        ({"CODEX_SPACE_VISITORS": "all"}, "nothing or look"),
    ],
)
def test_variables_that_disagree_are_a_refusal_to_start(environ, said):
    with pytest.raises(Exception, match=said):
        read_settings(environ)


@pytest.mark.parametrize("path", ["/api/runs", "/config", "/metrics", "/gradio_api/heartbeat/x", "/"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://lab-studio.hf.space.evil.example", "http://["]
)
def test_a_script_of_another_site_cannot_read_with_the_owners_cookie(abroad, path, origin):
    person = abroad.person(OWNER)
    answer = person.ask(path, host="lab-studio.hf.space", origin=origin)
    assert answer.status == 403
    assert "Another site" in answer.text


def test_the_pages_own_scripts_and_links_from_elsewhere_read(abroad):
    person = abroad.person(OWNER)
    own = {"host": "lab-studio.hf.space", "origin": "https://lab-studio.hf.space"}
    assert person.ask("/api/runs", **own).status == 200
    assert person.ask("/", host="lab-studio.hf.space", sec_fetch_site="cross-site").status == 200


@pytest.mark.parametrize(
    "address", ["http://192.0.2.1/x", "https://example.com/x", "http%3A%2F%2F192.0.2.1/x", "http:%2F%2F192.0.2.1"]
)
def test_a_visitor_cannot_make_the_page_fetch_an_address(shown, address):
    answer = shown.person().ask(f"/gradio_api/file={address}")
    assert answer.status == 401
