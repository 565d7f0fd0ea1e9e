"""A run's end is told once: to a webhook over real HTTP, signed, and in a discussion of its repository."""

import hashlib
import hmac
import http.server
import json
import threading
from typing import ClassVar

import pytest

from codex_space.core.settings import read_settings
from codex_space.jobs.notices import MOST_TRIES, SIGNATURE, Notices
from codex_space.services import runs
from codex_space.services.context import open_context
from codex_space.store import runs as run_rows

RECIPE = (
    "kind: sft\nname: my run\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
)
PLANTED = "-".join(["abcdef", "the", "token"])
SIGNER = "-".join(["sign", "with", "this"])


class Receiver(http.server.BaseHTTPRequestHandler):
    got: ClassVar[list] = []
    answers: ClassVar[list] = []

    def do_POST(self):  # the library's
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), body))
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.got.append((self.path, {}, b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    Receiver.got, Receiver.answers = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_there(tmp_path, hub, receiver):
    opened = []

    def make(**environ):
        url = f"http://127.0.0.1:{receiver.server_port}/hooks/abc"
        env = {"CODEX_SPACE_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
        env |= {"CODEX_SPACE_WEBHOOK_URL": url, "CODEX_SPACE_WEBHOOK_SECRET": SIGNER, **environ}
        opened.append(open_context(read_settings(env), lambda: 1.0, own=False))
        return opened[-1]

    yield make
    for ctx in opened:
        ctx.close()


def ended(ctx, state="failed", reason="It broke.", extra=""):
    run = runs.submit(ctx, RECIPE + extra)
    run_rows.change_state(ctx.db, run.id, "preflight", now=1.0)
    run_rows.change_state(ctx.db, run.id, "running", now=1.0)
    return run_rows.change_state(ctx.db, run.id, state, now=2.0, reason=reason)


def notices(ctx):
    return Notices(ctx.db, ctx.settings, ctx.hub)


def told(ctx):
    return [tuple(row) for row in ctx.db.query("SELECT way, state, tries FROM notices WHERE tries")]


def test_an_end_is_told_once_and_signed(open_there):
    ctx = open_there()
    run = ended(ctx)
    for now in range(5):
        notices(ctx).step(now)
    assert len(Receiver.got) == 1
    path, headers, body = Receiver.got[0]
    said = json.loads(body)
    assert path == "/hooks/abc"
    assert said["text"] == "my run failed. It broke."
    assert (said["run"], said["attempt"], said["state"]) == (run.id, 1, "failed")
    assert headers[SIGNATURE] == "sha256=" + hmac.new(SIGNER.encode(), body, hashlib.sha256).hexdigest()


def test_a_run_that_goes_on_and_ends_again_is_told_again(open_there):
    ctx = open_there()
    run = ended(ctx)
    notices(ctx).step(1)
    for state in ("queued", "preflight", "running", "succeeded"):
        run_rows.change_state(ctx.db, run.id, state, now=3.0)
    notices(ctx).step(2)
    assert [json.loads(body)["state"] for _, _, body in Receiver.got] == ["failed", "succeeded"]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_receiver_that_refuses_is_asked_again_later_and_no_redirect_is_followed(open_there, status):
    ctx = open_there()
    ended(ctx)
    Receiver.answers = [status]
    notices(ctx).step(0)
    notices(ctx).step(5)
    assert len(Receiver.got) == 1
    notices(ctx).step(11)
    assert len(Receiver.got) == 2
    assert told(ctx) == [("webhook", "sent", 2)]


def test_a_receiver_that_is_gone_is_given_up_after_a_day(open_there, receiver):
    ctx = open_there(CODEX_SPACE_WEBHOOK_URL="http://127.0.0.1:1/x")
    ended(ctx)
    now = 0.0
    for _ in range(MOST_TRIES + 5):
        notices(ctx).step(now)
        now += 3601
    assert told(ctx) == [("webhook", "given up", MOST_TRIES)]


def test_no_secret_goes_out(open_there):
    ctx = open_there(SOME_TOKEN=PLANTED)
    ended(ctx, reason=f"could not read https://x:{PLANTED}@hub")
    notices(ctx).step(0)
    assert PLANTED.encode() not in Receiver.got[0][2]


def test_a_discussion_in_the_runs_repository(open_there, hub):
    ctx = open_there(CODEX_SPACE_NOTICE="discussion", CODEX_SPACE_WEBHOOK_URL="")
    ended(ctx, state="succeeded", reason="", extra="hub: {repo_id: ada/my-model}\n")
    ended(ctx)  # pushes nowhere: nothing to open
    notices(ctx).step(0)
    notices(ctx).step(1)
    assert [one["title"] for one in hub.repo("ada/my-model")["discussions"]] == ["my run has finished"]
    assert not Receiver.got


def test_what_ended_before_a_way_was_set_is_no_news(open_there):
    before = open_there(CODEX_SPACE_WEBHOOK_URL="")
    ended(before)
    notices(before).step(0)
    after = open_there()
    notices(after).step(1)
    assert not Receiver.got
    ended(after)
    notices(after).step(2)
    assert len(Receiver.got) == 1


@pytest.mark.parametrize("value", ["ftp://x/y", "file:///etc/passwd", "not an address", "https://", "//x"])
def test_an_address_that_is_none_is_refused(value):
    with pytest.raises(Exception, match="not an address"):
        read_settings({"CODEX_SPACE_WEBHOOK_URL": value})
