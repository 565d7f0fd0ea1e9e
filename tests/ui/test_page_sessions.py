"""What the page answers one person is not read by another, who knows no more than the name of the session."""

import json

import pytest

from codex_space.core.actor import Actor, May
from codex_space.store import runs as run_rows
from codex_space.ui.page_sessions import MOST_KNOWN, PageSessions, sessions_of
from tests.fakes.space import OWNER, STRANGER, open_space  # noqa: F401  # the fixture

COLLEAGUE = {**OWNER, "name": "wim", "roles": {"lab": "write"}}
RECIPE = (
    "kind: sft\nname: of ada\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
)


@pytest.fixture(scope="module")
def space(open_space):  # noqa: F811
    return open_space(CODEX_SPACE_VISITORS="look")


@pytest.fixture(scope="module")
def choose(space):
    """The number of the event that shows a run's recipe."""
    return next(
        number
        for number, event in space.demo.fns.items()
        for target, trigger in event.targets
        if trigger == "select" and space.demo.blocks[target].elem_id == "runs-list"
    )


def join(person, event, session):
    body = {"data": [""], "fn_index": event, "session_hash": session, "trigger_id": None, "event_data": None}
    path = "/gradio_api/queue/join?"
    return person.ask(path, "POST", json.dumps(body).encode(), content_type="application/json")


@pytest.mark.parametrize("who", [None, STRANGER, COLLEAGUE])
def test_another_persons_events_are_not_read(space, choose, who):
    owner, other, name = space.person(OWNER), space.person(who), f"adas-{who and who['name']}"
    assert "process_completed" in owner.call(choose, [""], session=name)
    assert join(owner, choose, name).status == 200
    for query in (name, f"{name}&session_hash=x", f"x&session_hash={name}", f"%{ord(name[0]):x}{name[1:]}"):
        answer = other.ask(f"/gradio_api/queue/data?session_hash={query}")
        assert answer.status == 403
        assert "another person" in answer.text
    assert other.ask(f"/gradio_api/heartbeat/{name}").status == 403
    assert "process_completed" in owner.ask(f"/gradio_api/queue/data?session_hash={name}").text


@pytest.mark.parametrize("who", [None, STRANGER])
def test_a_visitor_neither_joins_nor_ends_the_session_of_who_acts(space, choose, who):
    owner, other, name = space.person(OWNER), space.person(who), f"joined-{bool(who)}"
    owner.call(choose, [""], session=name)
    assert join(other, choose, name).status == 403
    body = json.dumps({"session_hash": name, "fn_index": choose, "event_id": "x"}).encode()
    assert other.ask("/gradio_api/cancel", "POST", body, content_type="application/json").status == 403


def test_a_colleague_who_may_act_too_acts_in_their_own_session_only(space, choose):
    owner, colleague = space.person(OWNER), space.person(COLLEAGUE)
    owner.call(choose, [""], session="adas-own")
    before = len(run_rows.list_runs(space.ctx.db))
    assert join(colleague, choose, "adas-own").status == 200, "the queue takes it"
    assert "another person" in owner.ask("/gradio_api/queue/data?session_hash=adas-own").text
    assert len(run_rows.list_runs(space.ctx.db)) == before
    assert "process_completed" in colleague.call(choose, [""], session="wims-own")


def test_a_visitor_who_signs_in_goes_on_in_the_same_session(space, choose):
    person = space.person()
    person.call(choose, [""], session="before-and-after")
    person.sign_in(OWNER)
    assert "process_completed" in person.call(choose, [""], session="before-and-after")
    assert space.person().ask("/gradio_api/queue/data?session_hash=before-and-after").status == 403


def test_who_signs_out_has_left_the_session_too(space, choose):
    person = space.person(OWNER)
    person.call(choose, [""], session="left")
    person.ask("/logout", sec_fetch_site="same-origin")
    assert person.ask("/gradio_api/queue/data?session_hash=left").status == 403


def test_visitors_cannot_crowd_out_who_acts_and_memory_is_bounded():
    sessions, ada = PageSessions(), Actor("ada", May.ACT, signed_in=True)
    visitor = Actor("visitor", May.LOOK)
    assert sessions.may_use(["adas"], ada)
    for number in range(2 * MOST_KNOWN):
        assert sessions.may_use([f"visitors-{number}"], visitor)
    assert not sessions.may_use(["adas"], visitor)
    for number in range(2 * MOST_KNOWN):
        sessions.may_use([f"adas-{number}"], ada)
    assert len(sessions._holders) == MOST_KNOWN


@pytest.mark.parametrize(
    ("path", "query", "body", "found"),
    [
        ("/gradio_api/queue/data", b"session_hash=a", b"", ["a"]),
        ("/gradio_api/queue/data", b"session_hash=a&session_hash=b", b"", ["a", "b"]),
        ("/gradio_api/queue/data", b"session_hash=%61", b"", ["a"]),
        ("/gradio_api/queue/data", b"session_hash=%ff&\xff=1", b"", ["\N{REPLACEMENT CHARACTER}"]),
        ("/gradio_api/heartbeat/a", b"", b"", ["a"]),
        ("/gradio_api/stream/a/b/c/playlist.m3u8", b"", b"", ["a"]),
        ("/gradio_api/queue/join", b"", b'{"session_hash": "a"}', ["a"]),
        ("/gradio_api/queue/join", b"", b'{"session_hash": ["a"]}', []),
        ("/gradio_api/queue/join", b"", b"[" * 100_000, []),
        ("/gradio_api/queue/join", b"", b"\xff", []),
        ("/gradio_api/queue/join", b"", b"[1]", []),
        ("/", b"", b"", []),
        ("/api/runs/heartbeat", b"", b"", []),
    ],
)
def test_where_a_request_names_its_session(path, query, body, found):
    assert sessions_of(path, query, body) == found
