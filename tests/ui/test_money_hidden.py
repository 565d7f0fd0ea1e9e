"""What is spent is for those who may act: a visitor who looks finds no amount anywhere, over real HTTP."""

import pytest

from codex_space.core.actor import May
from codex_space.store import costs, hub_jobs
from codex_space.store import runs as run_rows
from codex_space.ui import guard
from tests.fakes.space import OWNER, STRANGER, open_space  # noqa: F401  # the fixture

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

CAP, HERE, JOB, OWN_CAP = "98.76", "41.23", "7.77", "55.55"
MONTH = "49.00"
AMOUNTS = (CAP, HERE, JOB, OWN_CAP, MONTH)
REASON = f"Saved and stopped: ${HERE} are spent this month, and the cap is ${CAP}."
OWN_REASON = f"Saved and stopped: it has cost ${JOB}, and launch.max_cost_usd is {OWN_CAP}."
RECIPE = (
    "kind: sft\nmodel:\n  model_name_or_path: fresh:tiny\ndatasets:\n- path: sample:python-first-chat\n"
    "launch:\n  max_cost_usd: {}\n"
)
ENVIRON = {"CODEX_SPACE_VISITORS": "look", "ACCELERATOR": "l4x1", "CODEX_SPACE_MONTHLY_CAP_USD": CAP}
IDS = ("20270115-080000-sft-aaaa", "20270115-080001-sft-bbbb")


def spend(space):
    db, now = space.ctx.db, space.clock.now
    for run_id, cap, reason, place in ((IDS[0], OWN_CAP, REASON, "local"), (IDS[1], "1.0", OWN_REASON, "hf-jobs")):
        run_rows.insert_run(
            db, id=run_id, name=run_id[-4:], kind="sft", recipe=RECIPE.format(cap), repo_id=None, now=now, place=place
        )
        space.ctx.workspace.job(run_id).root.mkdir()
        for state in ("preflight", "running", "stopping"):
            run_rows.change_state(db, run_id, state, now=now)
        run_rows.change_state(db, run_id, "stopped", now=now, reason=reason)
    costs.add(db, IDS[0], at=now, seconds=10, usd=float(HERE))
    hub_jobs.add_job(db, IDS[1], 1, flavor="l4x1", timeout_s=1e5, now=now, log_offset=0)
    hub_jobs.update_job(db, IDS[1], 1, usd_per_hour=float(JOB), running_s=3600.0)
    return space


@pytest.fixture(scope="module")
def space(open_space):  # noqa: F811
    return spend(open_space(**ENVIRON))


@pytest.fixture(scope="module")
def open_books(open_space):  # noqa: F811
    return spend(open_space(**ENVIRON, CODEX_SPACE_VISITORS_SEE_MONEY="1"))


def addresses(space):
    """Everything that can be read of the running page, with the runs that cost something where a run is named."""
    yield from (
        path for method, path in space.routes() if method == "GET" and "login" not in path and "logout" not in path
    )
    yield from ("/api/overview?after=0", "/api/runs?search=2027", f"/api/compare?runs={','.join(IDS)}")
    for run_id in IDS:
        yield from (f"/api/runs/{run_id}/live", f"/api/runs/{run_id}/live?after=1", f"/api/runs/{run_id}/log/content")
        yield f"/api/exports/one?run={run_id}"


def read_all(person, space):
    skipped = ("/gradio_api/heartbeat", "/gradio_api/queue/data", "/gradio_api/call", "/api/x", "/gradio_api/stream")
    return {path: person.ask(path).text for path in addresses(space) if not path.startswith(skipped)}


def read_own(person, space):
    """Gradio's own addresses left out: to those who may act some of them answer for as long as one listens."""
    return {path: person.ask(path).text for path in addresses(space) if path.startswith("/api/") and "/x" not in path}


def ask_events(person, space, prefix):
    """Call each event a visitor may call, with the runs' ids where it takes one."""
    told = {}
    for number, event in space.demo.fns.items():
        if event.fn is None or guard.needs(event.fn) is May.ACT:
            continue
        known = {"runs-list": IDS[0], "runs-other": IDS[1], "page-links": f"runs/{IDS[0]}"}
        values = [known.get(part.elem_id, part.example_payload()) for part in event.inputs]
        told[number] = str(person.call(number, values, session=f"{prefix}-{number}"))
    return told


def shown(texts):
    return {(where, amount) for where, text in texts.items() for amount in AMOUNTS if amount in text}


@pytest.mark.parametrize("who", [None, STRANGER])
def test_a_visitor_reads_no_amount_at_any_address(space, who):
    read = read_all(space.person(who), space)
    assert len(read) > 30
    assert "Saved and stopped: $*** are spent this month, and the cap is $***." in read[f"/api/runs/{IDS[0]}/live"]
    assert shown(read) == set()


@pytest.mark.parametrize("who", [None, STRANGER])
def test_a_visitor_is_told_no_amount_by_any_event(space, who):
    told = ask_events(space.person(who), space, f"visitor-{bool(who)}")
    assert len(told) > 10
    assert any("max_cost_usd: $***" in text for text in told.values())
    assert any("shown to those who may act" in text for text in told.values())
    assert shown(told) == set()


def test_who_acts_finds_them_all(space):
    owner = space.person(OWNER)
    read, told = read_own(owner, space), ask_events(owner, space, "owner")
    found = {amount for _, amount in shown(read)} | {amount for _, amount in shown(told)}
    assert found == set(AMOUNTS)
    assert (f"/api/runs/{IDS[0]}/live", HERE) in shown(read)


def test_what_a_visitor_was_given_is_never_given_to_who_acts_nor_the_other_way(space):
    owner, visitor, path = space.person(OWNER), space.person(), f"/api/runs/{IDS[1]}/live"
    for _ in range(3):
        assert JOB in owner.ask(path).text
        assert JOB not in visitor.ask(path).text
        assert MONTH[:2] in owner.ask("/api/overview").text
        assert '"money":null' in visitor.ask("/api/overview").text


def test_a_setting_shows_them_to_visitors(open_books):
    visitor = open_books.person()
    read, told = read_own(visitor, open_books), ask_events(visitor, open_books, "books")
    assert {amount for _, amount in shown(read) | {(str(n), a) for n, a in shown(told)}} == set(AMOUNTS)


def test_the_numbers_for_a_monitoring_system_are_for_those_who_act(space):
    assert space.person().ask("/metrics").status == 401
