"""The named endpoints, called with gradio_client as any program would; and /metrics as Prometheus reads it."""

import base64

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.space import STRANGER, open_space  # noqa: F401  # the fixture
from tests.ui.conftest import ask

PASSWORD = " ".join(["open", "sesame"])
RECIPE = "kind: sft\nname: by-program\nmodel: {model_name_or_path: 'fresh:tiny'}\ndatasets: [{path: 'sample:python-first-chat'}]\n"


@pytest.fixture(scope="module")
def address(open_space):  # noqa: F811
    return open_space(CODEX_SPACE_PASSWORD=PASSWORD)


def client(space, **headers):
    return Client(f"http://127.0.0.1:{space.port}/", headers=headers, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def owner(address):
    return client(address, authorization="Bearer hf_write")


def test_a_program_trains_looks_stops_and_resumes(address, owner):
    made = owner.predict(RECIPE, api_name="/train")
    assert (made["name"], made["state"]) == ("by-program", "queued")
    assert owner.predict(api_name="/list_runs")[0]["run"] == made["run"]
    assert owner.predict(made["run"], api_name="/show_run")["status"] == "queued"
    assert owner.predict(made["run"], api_name="/stop_run")["run"] == made["run"]
    deeds = address.ctx.db.query("SELECT who, verb FROM audit ORDER BY sequence")
    assert [tuple(row) for row in deeds] == [("ada", "submit"), ("ada", "stop")]


def test_only_these_are_named(owner):
    named = owner.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/train", "/list_runs", "/show_run", "/stop_run", "/resume_run"}


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("/train", [RECIPE + "train: {learning_rat: 1}"], "learning_rat"),
        ("/train", ["x" * 100], "recipe"),
        ("/show_run", ["nothing"], "nothing"),
        ("/stop_run", ["../../etc"], "etc"),
        ("/resume_run", [""], "run"),
    ],
)
def test_a_mistake_comes_back_as_its_sentence(owner, name, values, said):
    with pytest.raises(AppError, match=said) as told:
        owner.predict(*values, api_name=name)
    assert "Traceback" not in str(told.value)


def test_the_password_serves_a_program_too(address):
    basic = base64.b64encode(f"x:{PASSWORD}".encode()).decode()
    assert isinstance(client(address, authorization=f"Basic {basic}").predict(api_name="/list_runs"), list)


def test_a_stranger_gets_no_client(address):
    for headers in ({}, {"authorization": "Bearer hf_other"}, {"authorization": "Bearer hf_read"}):
        with pytest.raises(Exception, match=r"credentials were not provided|Could not fetch config"):
            client(address, **headers)


def test_one_who_may_look_gets_a_client_that_does_nothing(open_space):  # noqa: F811
    shown = open_space(CODEX_SPACE_VISITORS="look")
    visitor = client(shown)
    for name, values in (("/train", [RECIPE]), ("/list_runs", []), ("/stop_run", ["x"])):
        with pytest.raises(AppError, match="for those who may act"):
            visitor.predict(*values, api_name=name)
    assert not shown.ctx.db.query("SELECT * FROM runs")
    assert shown.person(STRANGER).ask("/metrics").status == 403


def test_prometheus_reads_the_gauges(address, owner):
    before = _gauges(address)
    owner.predict(RECIPE, api_name="/train")
    after = _gauges(address)
    assert after["codex_space_runs", "queued"] == before["codex_space_runs", "queued"] + 1
    assert after["codex_space_disk_free_bytes", ""] > 0
    assert after["codex_space_checkpoints", "uploaded"] == 0
    assert ask(address.port, "/metrics").status == 401


def _gauges(space):
    answer = ask(space.port, "/metrics", authorization="Bearer hf_write")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, next(iter(one.labels.values()), "")): one.value for family in families for one in family.samples}
