"""A server that speaks OpenAI's API as a source of answers: asked over real HTTP, whatever it answers."""

import json
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from codex_space.cli.main import main
from codex_space.core.errors import EvaluationError
from codex_space.core.paths import Workspace
from codex_space.core.settings import Secret
from codex_space.grade import endpoint, sandbox
from codex_space.grade.endpoint import Endpoint
from codex_space.services.endpoint import evaluate
from tests.fakes.openai_server import drip, endless, hang_up, send, serving
from tests.grade import rows

KEY = "sk-not-to-be-seen"


@pytest.fixture
def server():
    with serving() as served:
        yield served


@pytest.fixture
def ask(server, tmp_path):
    problems = rows.write_lines(tmp_path / "problems.jsonl", rows.HUMANEVAL)
    sandbox._proven.update({"landlock", "no-landlock"})  # the battery has its own tests

    def run(*, chat=False, timeout_s=20.0, key=KEY, url=None, public_only=False, **options):
        run.pauses = []
        which = Endpoint(
            url or server.url,
            "some/model",
            Secret(key) if key else None,
            chat=chat,
            timeout_s=timeout_s,
            concurrency=2,
            public_only=public_only,
        )
        return evaluate(
            Workspace(tmp_path / "ws"),
            which,
            "humaneval",
            now=5.0,
            problems=problems,
            wait=run.pauses.append,
            **options,
        )

    yield run
    sandbox._proven.clear()


@pytest.mark.parametrize("chat", [False, True])
def test_answers_are_asked_graded_and_kept(ask, server, tmp_path, chat):
    told = ask(chat=chat)
    assert told["scores"]["humaneval"]["pass@1"] == 1.0
    assert told["problems"] == {"HumanEval/0": [True], "HumanEval/1": [True]}
    assert {path for path, _, _ in server.asked} == {"/v1/chat/completions" if chat else "/v1/completions"}
    assert {authorization for _, authorization, _ in server.asked} == {f"Bearer {KEY}"}
    sent = server.asked[0][2]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("some/model", 0.0, 512)
    assert len(sent.get("stop", [])) == (0 if chat else 4)
    (folder,) = (tmp_path / "ws" / "endpoints").iterdir()
    assert told["folder"] == str(folder)
    kept = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert {row["task_id"] for row in kept} == {"HumanEval/0", "HumanEval/1"}
    assert all("goes on" not in row["program"] and row["text"] for row in kept)
    verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert [row["status"] for row in verdicts] == ["pass", "pass"]
    assert (folder / "results.csv").read_text().splitlines()[0] == "task_id,sample,passed,status,why"
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    assert not any(KEY in path.read_text() for path in folder.iterdir())


def test_several_samples_are_drawn_with_seeds_of_their_own(ask, server):
    told = ask(num_samples=3, temperature=0.5, limit=1)
    assert told["problems"] == {"HumanEval/0": [True] * 3}
    assert sorted(body["seed"] for _, _, body in server.asked) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (send(429, "slow down", Retry_After="7"), 7.0),
        (send(429, "slow down", Retry_After="99999"), endpoint.MAX_PAUSE_S),
        (send(429, "slow down", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (send(429, "slow down", Retry_After="\u00b2"), None),
        (send(429, "slow down", Retry_After="9" * 400), None),
        (send(500, "<html>"), None),
        (send(503, b"\xff\xfe"), None),
        (send(200, "no JSON"), None),
        (send(200, "[" * 100_000), None),
        (send(200, '{"choices": []}'), None),
        (send(200, '{"choices": [{"text": 5}]}'), None),
        (send(200, "x" * 100, Content_Encoding="gzip"), None),
        (hang_up, None),
    ],
)
def test_what_is_worth_another_try_gets_one(ask, server, fault, pause):
    server.faults = [fault]
    assert ask()["scores"]["humaneval"]["pass@1"] == 1.0
    assert len(server.asked) == 3
    assert len(ask.pauses) == 1
    assert ask.pauses[0] == pause if pause else 0.5 <= ask.pauses[0] <= 1.0


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (send(500, f"boom {KEY}"), r"no answer in 6 tries; the last: 500 boom \*\*\*\*"),
        (send(200, f'{{"you sent": "{KEY}"}}'), r"no completion is in what it sent .*\*\*\*\*"),
        (send(401, f"bad key {KEY}"), r"answers 401 bad key \*\*\*\*. Check the key"),
        (send(401, "x" * 190 + KEY), r"x\*\*\*\*. Check the key"),  # longer than what is told of it
        (send(404, '{"error": "no model"}'), "answers 404 .*no model"),
        (send(302, "", Location="http://127.0.0.1:1/"), "answers 302, another address"),
        (endless, "larger than 4 MiB"),
        (hang_up, "no answer in 6 tries"),
    ],
)
def test_a_server_that_will_not_answer_is_one_sentence(ask, server, fault, told):
    server.always = fault
    with pytest.raises(EvaluationError, match=told) as raised:
        ask()
    assert KEY[:5] not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_answer_that_never_ends_is_given_up_by_the_clock(ask, server):
    server.faults = [drip, drip]
    assert ask(timeout_s=0.3)["scores"]["humaneval"]["pass@1"] == 1.0
    assert len(ask.pauses) == 2


def test_a_key_that_comes_back_as_an_answer_is_not_kept(ask, server, tmp_path):
    server.always = send(200, json.dumps({"choices": [{"text": f"    return {KEY!r}"}]}))
    assert ask()["scores"]["humaneval"]["pass@1"] == 0.0
    (folder,) = (tmp_path / "ws" / "endpoints").iterdir()
    assert not any(KEY in path.read_text() for path in folder.iterdir())


def test_a_redirect_is_not_followed(ask, server):
    server.always = send(307, "", Location=f"{server.url}/elsewhere")
    with pytest.raises(EvaluationError, match="another address"):
        ask()
    assert {path for path, _, _ in server.asked} == {"/v1/completions"}


def test_a_model_that_wrote_nothing_fails_its_problem_and_no_more(ask, server):
    server.faults = [send(200, '{"choices": [{"text": null}]}')]
    assert ask()["scores"]["humaneval"]["pass@1"] == 0.5


def test_without_a_key_none_is_sent(ask, server):
    ask(key="")
    assert {authorization for _, authorization, _ in server.asked} == {None}


@pytest.mark.parametrize("url", ["ftp://x/v1", "host:80", "", "http://", "http://me@host/v1", "http://host/v1?key=x", "http://h/#x", "http://h:x/v1", "http://[::1/v1", "http://m\u00fcller.example/v1", "http://h\x00/v1", "http://h/\x7f", "http://a..b/v1", f"http://{'x' * 70}.com/v1", "http://h/\ud800"])  # fmt: skip
def test_an_address_that_is_none_or_holds_a_key_is_refused(url):
    with pytest.raises(EvaluationError, match="address"):
        Endpoint(url, "m")


@pytest.mark.parametrize("key", ["sk-\u20ac", "sk-a\nb", "sk-a b", "sk-\x00", "\ud800"])
def test_a_key_that_no_request_could_carry_is_refused_and_not_told(key):
    with pytest.raises(EvaluationError, match="the key holds a character") as raised:
        Endpoint("http://host/v1", "m", Secret(key))
    assert key not in str(raised.value)


@pytest.mark.parametrize("url", ["https://127.0.0.1/v1", "https://localhost:1/v1", "https://2130706433/v1", "https://[::1]/v1", "https://169.254.169.254/v1", "http://8.8.8.8/v1"])  # fmt: skip
def test_where_only_public_servers_may_be_asked_no_other_is(url):
    with pytest.raises(EvaluationError, match=r"private network|https only"):
        Endpoint(url, "m", public_only=True).locate()


def test_a_public_server_is_asked_at_the_address_that_was_looked_at_and_has_to_prove_its_name(
    ask, tmp_path, monkeypatch
):
    """A name may mean another machine a moment later; its certificate is still asked for by name."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make a certificate")
    made = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=model.example", "-days", "1"]
    subprocess.run([*openssl, "-out", made[0], "-keyout", made[1]], check=True, capture_output=True)
    names, context = [], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    listening = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            try:
                connection, _ = listening.accept()
                with connection:
                    context.wrap_socket(connection, server_side=True)
            except OSError:
                if listening.fileno() < 0:
                    return

    threading.Thread(target=greet, daemon=True).start()
    looked_up = []
    monkeypatch.setattr(endpoint, "find_public", lambda host, port: looked_up.append((host, port)) or "127.0.0.1")
    port = listening.getsockname()[1]
    with pytest.raises(EvaluationError, match=r"(?i)certificate"):
        ask(url=f"https://model.example:{port}/v1", public_only=True)
    listening.close()
    assert looked_up == [("model.example", port)]
    assert set(names) == {"model.example"}


def test_the_key_is_not_in_what_a_log_would_show():
    assert KEY not in repr(Endpoint("http://host/v1", "m", Secret(KEY)))


def test_the_command(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    sandbox._proven.update({"landlock", "no-landlock"})
    problems = rows.write_lines(tmp_path / "problems.jsonl", rows.HUMANEVAL)
    common = ["--benchmark", "humaneval", "--problems", str(problems), "--workspace", str(tmp_path / "ws")]
    asked = ["evaluate", "--endpoint", server.url, "--model", "m", "--key-variable", "SOME_KEY", *common]
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["humaneval"]["pass@1"] == 1.0
    assert server.asked[0][1] == f"Bearer {KEY}"
    assert main(["evaluate", "--endpoint", server.url, *common]) == 1
    assert "Name it by --model" in capsys.readouterr().err
    for unused in (["--prompt-form", "chat"], ["--data", "x.jsonl"], ["--metric", "bleu"]):
        assert main([*asked, *unused]) == 1
        assert "for models here" in capsys.readouterr().err
    assert main(["evaluate", *common]) == 1
    assert "there is no model to ask" in capsys.readouterr().err
    sandbox._proven.clear()
