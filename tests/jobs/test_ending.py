"""How a run's end is judged from what its shim wrote, whatever that is."""

import json

import pytest

from codex_space.core import durable
from codex_space.jobs import ending
from codex_space.store import runs


def test_a_run_that_ended_early_has_succeeded_and_keeps_its_reason(bench):
    run = bench.submit("ok")
    runs.update_progress(bench.db, run.id, verdict="done", reason="Ended early: eval_loss has not improved.")
    assert ending.judge(bench.read(run), {"code": 0}, [4]) == ("succeeded", "Ended early: eval_loss has not improved.")


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
