"""How a run's end is judged from what its shim wrote, whatever that is."""

import json

import pytest

from codex_space.core import durable
from codex_space.jobs import ending
from codex_space.store import runs


@pytest.mark.parametrize(
    "text", ['{"signal": 1000}', '{"signal": -5}', '{"code": "\\ud800"}', "[" * 100_000, "null", "", '{"signal": true}']
)
def test_an_exit_file_of_any_content_gives_a_sentence(bench, tmp_path, text):
    run = bench.submit("ok")
    for state in ("preflight", "running"):
        runs.change_state(bench.db, run.id, state, now=1.0)
    path = tmp_path / "exit.json"
    path.write_text(text)
    state, reason = ending.judge(bench.read(run), durable.read_json(path), [])
    assert state in {"failed", "lost", "succeeded"}
    json.dumps(reason).encode()
    runs.change_state(bench.db, run.id, state, now=2.0, reason=reason)
