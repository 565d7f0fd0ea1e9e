"""Exported files over HTTP: in ranges, from where they lie, and only those that passed."""

import json

import pytest
from starlette.applications import Starlette

from codex_space.core import quants
from codex_space.core.errors import ModelError, RecipeError
from codex_space.services import exports, runs
from codex_space.services.live import Live
from codex_space.store import runs as run_rows
from codex_space.ui import live_routes
from codex_space.ui.views import export as view

CONTENT = bytes(range(256)) * 4000


def row(kind, size, kl, **changes):
    facts = {"tokens_equal": True, "num_strings": 500, "tokens_per_s": 9.0, "answers_equal": "4 of 4", "stops": None}
    return {
        "path": f"m-{kind}.gguf",
        "type": kind,
        "bytes": size,
        "kl": kl,
        "top1": 0.9,
        "passed": True,
        "why": "",
        **facts,
        **changes,
    }


@pytest.fixture
def made(ctx, monkeypatch):
    """An export of three files, one of which failed."""
    monkeypatch.setattr("codex_space.services.checks.require_converter", lambda: None)
    run = runs.submit(ctx, exports.recipe_text("fresh:tiny", ["F16", "Q4_K_M", "Q2_K"], name="m"))
    folder = ctx.workspace.job(run.id).export
    folder.mkdir()
    rows = [
        row("F16", 9_000_000_000, 1e-5),
        row("Q4_K_M", 4_000_000_000, 0.01),
        row("Q2_K", 2_000_000_000, 0.4),
        row("Q3_K_M", 1, 9.0, passed=False, why="it differs"),
    ]
    for each in rows:
        (folder / each["path"]).write_bytes(CONTENT)
    (folder / "Modelfile").write_text("FROM ./m-Q4_K_M.gguf\n")
    results = {
        "name": "m",
        "files": rows,
        "card": "README.md",
        "usual": "m-Q4_K_M.gguf",
        "reference": {"num_tokens": 9},
    }
    (folder / "export.json").write_text(json.dumps(results))
    return run.id


@pytest.fixture
def page(ctx, serve_app):
    return serve_app(Starlette(routes=live_routes.build_routes(ctx, Live(ctx))))


def address(run_id, name):
    return f"/api/exports/{run_id}/files/{name}/content"


def test_a_transfer_that_broke_off_goes_on_where_it_was(page, made):
    path = address(made, "m-Q4_K_M.gguf")
    whole = page.ask(path)
    assert whole.status == 200
    assert whole.body == CONTENT
    assert whole.headers["accept-ranges"] == "bytes"
    assert "m-Q4_K_M.gguf" in whole.headers["content-disposition"]
    assert whole.headers["content-encoding"] == "identity"
    assert "no-store" not in whole.headers["cache-control"]
    rest = page.ask(path, range="bytes=700000-", if_range=whole.headers["etag"])
    assert rest.status == 206
    assert rest.headers["content-range"] == f"bytes 700000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert CONTENT[:700000] + rest.body == CONTENT
    assert page.ask(path, range="bytes=700000-", if_range='"another file"').status == 200
    assert page.ask(path, range=f"bytes={len(CONTENT)}-").status == 416
    assert page.ask(path, "HEAD").headers["content-length"] == str(len(CONTENT))


@pytest.mark.parametrize(
    "name", ["m-Q3_K_M.gguf", "export.json", "..%2Frecipe.yaml", "%2Fetc%2Fpasswd", "", "m-Q4_K_M.gguf%00", "x" * 3000]
)
def test_what_is_not_offered_is_not_sent(page, made, name):
    assert page.ask(address(made, name)).status == 404


def test_a_link_in_the_folder_leads_nowhere(page, made, ctx, tmp_path):
    (tmp_path / "secret").write_text("token")
    path = ctx.workspace.job(made).export / "m-F16.gguf"
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert page.ask(address(made, "m-F16.gguf")).status == 404


def test_the_table_marks_what_suits_a_machine(page, made):
    body = json.loads(page.ask(f"/api/exports/one?run={made}").body)
    best = {each["type"]: each["best"] for each in body["files"]}
    assert best == {"F16": [], "Q4_K_M": [8, 16], "Q2_K": [], "Q3_K_M": []}
    assert body["others"] == ["Modelfile"]
    assert dict(body["use"])["Ollama"] == "ollama create m -f Modelfile\nollama run m"
    (listed,) = json.loads(page.ask("/api/exports").body)["exports"]
    assert listed["types"] == ["F16", "Q4_K_M", "Q2_K"]
    assert page.ask("/api/exports/one?run=../../x").status == 404


def test_sizes_are_told_from_the_weights_headers(ctx, tmp_path):
    header = {
        "a": {"dtype": "F32", "shape": [100, 256], "data_offsets": [0, 102400]},
        "b": {"dtype": "F32", "shape": [256], "data_offsets": [102400, 103424]},
    }
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + bytes(103424)
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    found = quants.read_weights(tmp_path)
    assert (found.wide, found.vectors, found.total) == (25600, 256, 25856)
    listed = {each["type"]: each["bytes"] for each in exports.list_types(ctx, str(tmp_path))}
    assert listed["F32"] > listed["F16"] > listed["Q8_0"] > listed["Q4_K_M"] > listed["Q2_K"]
    assert "Q8_0 · " in {name: label for label, name in view.choices_of(exports.list_types(ctx, str(tmp_path)))}["Q8_0"]
    for broken in (whole[:-1], whole[:5], b"\xff" * 8 + whole, b"", text):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="cut off or damaged"):
            quants.read_weights(tmp_path)
        assert exports.list_types(ctx, str(tmp_path))[0]["bytes"] is None


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["Q8"], "Did you mean 'Q8_0'"),
        ([], "at least 1"),
        (["Q8_0", "Q8_0"], "twice"),
        (["IQ2_XS"], "importance matrix"),
    ],
)
def test_types_that_cannot_be_are_refused_by_name(kinds, said):
    with pytest.raises(RecipeError, match=said):
        exports.recipe_text("fresh:tiny", kinds)


def test_without_llama_cpp_an_export_is_refused_with_its_cure(ctx, monkeypatch):
    monkeypatch.setattr("codex_space.core.export_tools.find_converter", lambda: None)
    with pytest.raises(ModelError, match="make export-tools"):
        runs.submit(ctx, exports.recipe_text("fresh:tiny", ["Q8_0"]))
    assert run_rows.list_runs(ctx.db) == []
    assert "make export-tools" in view.render_tools(False)
