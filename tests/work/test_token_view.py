"""The service over the warm worker: a Hub model without its weights, rows by number and by name, a worker that dies."""

import contextlib
import json
import os
import signal

import pytest

from codex_space.core.errors import CodexError
from codex_space.core.settings import read_settings
from codex_space.services.context import open_context
from codex_space.services.tokens import TokenView
from codex_space.work.tokenizer import make_bytes


def recipe(path, name="ada/coder", **train):
    return json.dumps(
        {
            "kind": "sft",
            "model": {"model_name_or_path": name},
            "datasets": [{"path": str(path)}],
            "validation": {"fraction": 0},
            "train": train,
        }
    )


@pytest.fixture
def view(hub, tmp_path):
    environ = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "HOME": str(tmp_path),
    }
    settings = read_settings({**environ, "PATH": os.environ["PATH"], "CODEX_SPACE_HOME": str(tmp_path / "workspace")})
    ctx = open_context(settings, lambda: 1.0, own=False)
    with contextlib.closing(ctx), contextlib.closing(TokenView(ctx)) as made:
        yield made
    assert not list((tmp_path / "workspace").glob("tokens-*"))


@pytest.mark.slow
def test_a_hub_model_is_looked_at_without_its_weights_and_a_dead_worker_is_replaced(view, hub, tmp_path):
    make_bytes(tmp_path / "bytes")
    files = {path.name: path.read_bytes() for path in (tmp_path / "bytes").iterdir()}
    hub.state.put(
        "models", "ada/coder", {**files, "config.json": '{"model_type": "llama"}', "model.safetensors": b"big"}
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": "x" * number}) + "\n" for number in (5, 300, 7)))
    text = recipe(rows, max_length=64)
    first = view.look(text, "first")
    assert (first["row"], first["num_rows"]) == (0, 3)
    assert hub.asked("resolve", "HEAD") or hub.asked("resolve", "GET")
    assert not [row for row in hub.state.requests if "safetensors" in row["path"]]
    assert view.look(text, "longest")["row"] == 1
    assert view.look(text, "longest")["sides"][0]["counts"]["cut"] == 301 - 64
    assert [view.look(text, name, here=2)["row"] for name in ("next", "previous")] == [0, 1]
    assert view.look(text, "random")["row"] in range(3)
    for row in (3, -1, "soon", "1.5"):
        with pytest.raises(CodexError, match="row"):
            view.look(text, row)
    os.kill(view._worker.pid, signal.SIGKILL)
    with contextlib.suppress(CodexError):
        view.look(text, "first")
    assert view.look(text, 2)["row"] == 2
    with pytest.raises(CodexError, match="nobody"):
        view.look(recipe(rows, "nobody/nothing"), "first")
    with pytest.raises(CodexError, match="no such file"):
        view.look(recipe(tmp_path / "none.jsonl"), "first")
    assert view.counts(recipe(rows, max_length=400))["truncated_tokens"] == 0
