"""Signing out ends the sign-in on the server, for every copy of its cookie; no other site can do it for a person."""

import contextlib
import time

import pytest

from codex_space.services.signed_out import NEVER, SignedOut
from codex_space.store import ended_sessions
from codex_space.store.db import Database
from tests.fakes.space import OWNER, Person, open_space  # noqa: F401  # the fixture


@pytest.fixture(scope="module")
def space(open_space):  # noqa: F811
    return open_space()


def copy_of(person):
    thief = Person(person.space)
    thief.cookie = person.cookie
    return thief


def leave(person, **headers):
    return person.ask("/logout", **(headers or {"sec_fetch_site": "same-origin"})).status


def test_a_copied_cookie_opens_nothing_once_its_person_has_signed_out(space):
    person = space.person(OWNER)
    thief = copy_of(person)
    assert thief.me()["acts"]
    kept = thief.cookie
    assert leave(person) in {302, 307}
    thief.cookie = kept
    assert thief.me() == 401
    assert thief.ask("/gradio_api/queue/join", "POST", b"{}").status == 401
    assert person.me() == 401


def test_other_sign_ins_of_the_same_person_go_on_and_a_new_one_works(space):
    one, two = space.person(OWNER), space.person(OWNER)
    leave(one)
    assert two.me()["acts"]
    assert one.sign_in(OWNER).status in {302, 307}
    assert one.me()["acts"]


def test_it_holds_after_a_restart_of_the_page(open_space, tmp_path):  # noqa: F811
    environ = {"CODEX_SPACE_HOME": str(tmp_path / "workspace")}
    space = open_space(**environ)
    ended, going = space.person(OWNER), space.person(OWNER)
    cookies, tokens = (ended.cookie, going.cookie), space.provider.given[-2:]
    leave(ended)
    space.close()
    space = open_space(**environ)
    space.hub.state.users |= {token: {**OWNER, "role": "oauth"} for token in tokens}  # it was emptied meanwhile
    ended, going = space.person(), space.person()
    ended.cookie, going.cookie = cookies
    assert going.me()["acts"]
    assert ended.me() == 401


def test_a_disk_that_is_lost_forgets_who_signed_out_so_all_sign_in_once_more(open_space, tmp_path):  # noqa: F811
    space = open_space(CODEX_SPACE_HOME=str(tmp_path / "first"))
    ended, going = space.person(OWNER), space.person(OWNER)
    cookies, tokens = (ended.cookie, going.cookie), space.provider.given[-2:]
    leave(ended)
    space.close()
    second = int(time.time())
    while int(time.time()) == second:  # sign-ins are told apart by the second
        time.sleep(0.01)
    space = open_space(CODEX_SPACE_HOME=str(tmp_path / "second"))
    space.hub.state.users |= {token: {**OWNER, "role": "oauth"} for token in tokens}
    for cookie in cookies:
        person = space.person()
        person.cookie = cookie
        assert person.me() == 401
    assert space.person(OWNER).me()["acts"]


@pytest.mark.parametrize(
    ("info", "is_refused"),
    [
        ({"expires_at": 999, "expires_in": 500}, True),
        ({"expires_at": 1600, "expires_in": 500}, False),
        ({"userinfo": {"iat": 999}}, True),
        ({"userinfo": {"iat": 1001}}, False),
        ({"expires_at": "x", "userinfo": 7}, False),
        ({}, False),
    ],
)
def test_a_sign_in_older_than_the_database_is_refused(workspace, info, is_refused):
    with contextlib.closing(Database.open(workspace.database)) as db:
        assert SignedOut(db, lambda: 1000.9).has({"oauth_info": info}) is is_refused
        assert SignedOut(db, lambda: 5000.0).has({"oauth_info": info}) is is_refused, (
            "it is the first start that counts"
        )


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": ""},
        {"sec_fetch_site": "cross-site", "referer": "SELF"},
        {"x": "none of them"},
        {"referer": "https://evil.example/"},
        {"referer": "http://[oops"},
        {"referer": "SELF.evil.example"},
    ],
)
def test_another_site_signs_nobody_out(space, headers):
    person = space.person(OWNER)
    own = f"http://127.0.0.1:{space.port}"
    answer = person.ask("/logout", **{name: value.replace("SELF", own) for name, value in headers.items()})
    assert answer.status == 403
    assert 'href="/logout"' in answer.text, "and the person may still wish it"
    assert person.me()["acts"]


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "none"}, {"sec_fetch_site": "same-origin"}, {"referer": "SELF/"}]
)
def test_the_page_itself_and_the_address_bar_do(space, headers):
    person = space.person(OWNER)
    own = f"http://127.0.0.1:{space.port}"
    assert leave(person, **{name: value.replace("SELF", own) for name, value in headers.items()}) in {302, 307}
    assert person.me() == 401


def test_what_has_run_out_is_forgotten_and_nothing_else(space):
    db, now = space.ctx.db, space.clock.now
    for key, over_at in (("over", now - 1), ("not over", now + 1), ("for good", NEVER)):
        ended_sessions.add(db, key, over_at=over_at)
    assert {"not over", "for good"} <= ended_sessions.take(db, now)
    assert "over" not in ended_sessions.take(db, now)


@pytest.mark.parametrize(
    "session", [{}, {"oauth_info": None}, {"oauth_info": "x"}, {"oauth_info": {}}, {"oauth_info": {"expires_at": "x"}}]
)
def test_a_session_that_holds_no_sign_in_ends_nothing_else(space, session):
    signed_out = SignedOut(space.ctx.db, space.clock)
    signed_out.end(session)
    assert not signed_out.has({"oauth_info": {"access_token": "another"}})


def test_leaving_without_having_signed_in_is_no_error(space):
    assert leave(space.person()) in {302, 307}
