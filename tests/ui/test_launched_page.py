"""The page as it is really launched: what strangers send to Gradio's own routes is refused, and nothing leaks."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.ui.conftest import ask

REPO = Path(__file__).parent.parent.parent
SECRET = "the-secret-in-the-environment"
FILE = {"path": "/proc/self/environ", "meta": {"_type": "gradio.FileData"}}


class Launched:
    """`codex-space serve` in its own process."""

    def __init__(self, folder, *options, **environ):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.workspace, self.log = folder / "workspace", folder / "page.log"
        self.workspace.mkdir()
        command = [
            sys.executable,
            "-m",
            "codex_space",
            "serve",
            "--port",
            str(self.port),
            "--workspace",
            str(self.workspace),
            *options,
        ]
        with self.log.open("wb") as log:
            env = {**os.environ, "HF_HUB_OFFLINE": "1", "SOME_TOKEN": SECRET, **environ}
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=REPO)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2),
            ):
                return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.05)
        raise AssertionError("the page did not answer within 60 s")

    def ask(self, path, method="GET", body=None, **headers):
        return ask(self.port, path, method, body, **headers)

    def read(self, path):
        return json.loads(self.ask(path).body)

    def call(self, fn_index, values, session="a-session"):
        """Run one Gradio event as a browser would; return all that the queue says about it."""
        body = json.dumps(
            {"data": values, "fn_index": fn_index, "session_hash": session, "trigger_id": None, "event_data": None}
        ).encode()
        joined = self.ask("/gradio_api/queue/join?", "POST", body, content_type="application/json")
        if joined.status != 200:
            return joined.text
        return self.ask(f"/gradio_api/queue/data?session_hash={session}").text

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    launched = Launched(tmp_path_factory.mktemp("page"))
    yield launched
    launched.end()


def file_events(page):
    """(index, inputs, places of the file inputs) of each event that takes a file."""
    config = page.read("/config")
    kinds = {component["id"]: component["type"] for component in config["components"]}
    events = [(one["id"], one["inputs"]) for one in config["dependencies"]]
    found = [
        (index, inputs, [at for at, part in enumerate(inputs) if kinds[part] in {"file", "uploadbutton"}])
        for index, inputs in events
    ]
    return [event for event in found if event[2]]


def test_a_visitor_cannot_name_a_file_of_this_machine_as_an_upload(page):
    events = file_events(page)
    assert events, "no event takes a file: has the Data tab gone?"
    names = [
        FILE["path"],
        "/etc/hostname",
        str(page.workspace / "codex_space.db"),
        str(REPO / "pyproject.toml"),
        "../../../etc/hostname",
    ]
    for index, inputs, places in events:
        for number, name in enumerate(names):
            values = [{**FILE, "path": name} if at in places else None for at in range(len(inputs))]
            said = page.call(index, values, session=f"probe-{index}-{number}")
            assert '"success":true' not in said.replace(" ", ""), name
            assert SECRET not in said
    assert page.read("/api/overview")["runs"] == []
    assert list((page.workspace / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/environ",
        "/etc/passwd",
        "pyproject.toml",
        "../../etc/passwd",
        "https://evil.example/x",
        "WORKSPACE/codex_space.db",
    ],
)
def test_no_file_of_this_machine_can_be_downloaded(page, path):
    path = path.replace("WORKSPACE", str(page.workspace))
    for route in ("/gradio_api/file=", "/file=", "/gradio_api/proxy=", "/static/", "/gradio_api/stream/"):
        answer = page.ask(f"{route}{path}")
        assert answer.status in {400, 403, 404, 405}, (route, answer.status)
        assert SECRET not in answer.text
        assert "root:" not in answer.text


def test_no_event_of_the_page_is_a_public_tool_but_the_named_verbs(page):
    info = page.read("/gradio_api/info")
    assert set(info["named_endpoints"]) == {"/train", "/list_runs", "/show_run", "/stop_run", "/resume_run"}
    assert info["unnamed_endpoints"] == {}


def test_no_event_polls(page):
    config = page.read("/config")
    assert [one for one in config["components"] if one["type"] == "timer"] == []
    assert all(not trigger[1].startswith("tick") for one in config["dependencies"] for trigger in one["targets"])


def test_the_page_asks_nothing_of_another_site(page):
    text = page.ask("/").text
    for word in ("fonts.googleapis", "fonts.gstatic", "cdnjs", "unpkg.com", "jsdelivr", "analytics.gradio"):
        assert word not in text.replace('"https://cdnjs.cloudflare.com/ajax/libs/iframe-resizer', ""), word


def test_another_sites_script_cannot_start_an_event(page):
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert page.ask("/gradio_api/queue/join", "POST", body, content_type="text/plain", **headers).status == 403
        assert page.ask("/gradio_api/upload", "POST", b"", **headers).status == 403


def test_another_name_that_leads_here_opens_nothing(page):
    for path in ("/", "/config", "/api/overview", "/gradio_api/info"):
        assert page.ask(path, host="evil.example").status == 403


def test_every_named_component_the_page_promises_is_there_once(page):
    config = page.read("/config")
    names = [one["props"].get("elem_id") for one in config["components"] if one["props"].get("elem_id")]
    assert sorted(name for name in names if names.count(name) > 1) == []
    promised = """start-train start-steps data-upload data-result data-list data-repo data-fetch data-rows train-recipe train-base
        train-datasets train-yaml train-ready train-command train-check train-go train-result runs-list runs-chart runs-stop runs-cancel runs-resume
        runs-save runs-rename runs-clone runs-delete runs-log runs-checkpoints runs-scores
        evaluate-source evaluate-benchmark evaluate-mode evaluate-limit evaluate-samples evaluate-temperature evaluate-max-tokens evaluate-go
        evaluate-message evaluate-list evaluate-result evaluate-against evaluate-problems chat-source chat-input chat-send chat-stop chat-log space-account"""
    assert sorted(set(promised.split()) - set(names)) == []


def test_every_field_has_a_label_and_a_sentence_of_help(page):
    fields = {"textbox", "number", "dropdown", "slider", "checkbox", "radio", "checkboxgroup"}
    config = page.read("/config")
    shown = [
        one["props"]
        for one in config["components"]
        if one["type"] in fields and one["props"].get("visible", True) is True
    ]
    assert [one.get("elem_id") or one.get("label") for one in shown if not one.get("label")] == []
    assert [one.get("elem_id") or one.get("label") for one in shown if not one.get("info")] == []


@pytest.mark.slow
def test_on_an_open_address_without_a_password_the_page_starts_and_stays_shut(tmp_path):
    page = Launched(tmp_path, "--host", "0.0.0.0")
    try:
        for path in ("/", "/config", "/api/overview", "/gradio_api/info", "/theme.css"):
            answer = page.ask(path, host="a-space.example")
            assert (answer.status, "CODEX_SPACE_PASSWORD" in answer.text) == (403, True), path
        assert page.read("/health") == {"ok": True}
    finally:
        assert page.end() == 0


@pytest.mark.slow
def test_on_an_open_address_the_password_opens_the_page(tmp_path):
    page = Launched(tmp_path, "--host", "0.0.0.0", CODEX_SPACE_PASSWORD="open sesame")
    try:
        assert page.ask("/config", host="a-space.example").status == 401
        given = "Basic " + base64.b64encode(b"me:open sesame").decode()
        answer = page.ask("/config", host="a-space.example", authorization=given)
        assert answer.status == 200
        assert "open sesame" not in answer.text
        assert "open sesame" not in page.log.read_text()
    finally:
        assert page.end() == 0


def test_a_container_trains_as_soon_as_it_starts_and_says_so_in_json(tmp_path):
    page = Launched(
        tmp_path,
        CODEX_SPACE_AUTORUN="sft/tiny-cpu train.max_steps=2 'name=by itself'",
        CODEX_SPACE_LOG="json",
    )
    try:
        found = page.read("/api/runs")["runs"]
        deadline = time.monotonic() + 30
        while not found and time.monotonic() < deadline:
            found = page.read("/api/runs")["runs"]
        assert [run["name"] for run in found] == ["by itself"]
    finally:
        page.end()
    lines = [json.loads(line) for line in page.log.read_text().splitlines() if line.startswith("{")]
    told = [line for line in lines if "submit" in line["message"]]
    assert told[0]["who"] == "CODEX_SPACE_AUTORUN"
    assert {"t", "level", "logger", "message"} <= set(told[0])
