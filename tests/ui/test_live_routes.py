"""The routes an open page polls: snapshots, the list of runs, the log; and what strangers may put in the address."""

import json

import pytest
from starlette.applications import Starlette

from codex_space.data import catalog
from codex_space.services import runs
from codex_space.services.live import Live
from codex_space.ui.live_routes import PAGE_ROWS, build_routes

RECIPE = (
    "kind: sft\nname: {}\nmodel: {{model_name_or_path: fresh:tiny}}\ndatasets: [{{path: sample:python-first-chat}}]\n"
)


@pytest.fixture
def page(ctx, serve_app):
    return serve_app(Starlette(routes=build_routes(ctx, Live(ctx))))


@pytest.fixture
def run(ctx):
    return runs.submit(ctx, RECIPE.format("one"))


def read(page, path):
    answer = page.ask(path)
    assert answer.status == 200, answer.text
    return json.loads(answer.body)


def test_health_answers_get_and_head(page):
    assert read(page, "/health") == {"ok": True}
    assert page.ask("/health", "HEAD").status == 200


def test_the_overview_is_whole_first_and_then_only_its_number(page, run):
    first = read(page, "/api/overview?after=0")
    assert [one["id"] for one in first["runs"]] == [run.id]
    assert "runs" not in read(page, f"/api/overview?after={first['seq']}")


def test_a_run_is_answered_whole_first_and_then_as_what_is_new(page, run):
    first = read(page, f"/api/runs/{run.id}/live?after=0")
    assert first["full"]
    assert first["run"]["state"] == "queued"
    assert not read(page, f"/api/runs/{run.id}/live?after={first['seq']}")["full"]


@pytest.mark.parametrize("after", ["", "-1", "x", "1e9", "9" * 400, "%00", "١٢", "1;2", "0x10"])
def test_a_number_that_is_none_counts_as_the_beginning(page, run, after):
    from urllib.parse import quote

    text = after if after.startswith("%") else quote(after)
    assert read(page, f"/api/runs/{run.id}/live?after={text}")["full"]


@pytest.mark.parametrize(
    "run_id",
    [
        "nothing",
        "20261121-000000-sft-aaaa",
        "..",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "a%00b",
        "%F0%9F%98%80",
        "'; DROP TABLE runs; --".replace(" ", "%20"),
        "a" * 3000,
    ],
)
def test_an_unknown_run_is_a_404_that_says_so(page, run_id):
    for path in (f"/api/runs/{run_id}/live", f"/api/runs/{run_id}/log/content"):
        answer = page.ask(path)
        assert answer.status == 404
        assert "root:" not in answer.text


def test_the_whole_log_is_a_download_of_text(page, ctx, run):
    ctx.workspace.job(run.id).log.write_text("line\n<script>alert(1)</script>\n")
    answer = page.ask(f"/api/runs/{run.id}/log/content")
    assert answer.text == "line\n<script>alert(1)</script>\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-disposition"] == f'attachment; filename="{run.id}.log"'


def test_a_log_that_is_not_there_yet_is_a_404_in_words(page, run):
    answer = page.ask(f"/api/runs/{run.id}/log/content")
    assert (answer.status, "no log yet" in answer.text) == (404, True)


def test_the_datasets_are_listed_newest_first_and_as_text(page, ctx, tmp_path):
    assert "No dataset yet" in read(page, "/api/datasets?after=7")["html"]
    path = tmp_path / "<b>rows&.jsonl"
    path.write_text('{"text": "one"}\n')
    for name in ("first", path.name):
        catalog.import_file(ctx.workspace, path, name, now=float(len(name)))
    html = read(page, "/api/datasets")["html"]
    assert html.index('data-pick="b-rows"') < html.index('data-pick="first"')
    assert "<b>rows&" not in html


def test_nothing_that_is_live_may_be_kept_by_a_cache(page, run):
    for path in (
        "/api/overview",
        f"/api/runs/{run.id}/live",
        "/api/runs",
        "/api/datasets",
        "/api/first-model",
        "/api/evaluations",
        "/health",
    ):
        assert page.ask(path).headers["cache-control"] == "no-store"


def test_a_long_list_of_runs_comes_in_pages_newest_first(page, ctx):
    made = [runs.submit(ctx, RECIPE.format(f"run {number}")).id for number in range(PAGE_ROWS + 3)][::-1]
    first, second = read(page, "/api/runs"), read(page, f"/api/runs?offset={PAGE_ROWS}")
    assert [one["id"] for one in first["runs"] + second["runs"]] == made
    assert (first["more"], second["more"]) == (True, False)
    assert [one["name"] for one in read(page, "/api/runs?search=run%2052")["runs"]] == ["run 52"]
    assert read(page, "/api/runs?offset=100000")["runs"] == []


@pytest.mark.parametrize("search", ["%25", "_", "%27%20OR%201=1--", "%5C", "a" * 5000])
def test_a_search_is_text_and_not_a_pattern_or_a_program(page, run, search):
    assert read(page, f"/api/runs?search={search}")["runs"] == []


def test_the_first_model_is_named_by_its_three_runs(page, ctx):
    from codex_space.services import first_model

    assert read(page, "/api/first-model") == {"runs": []}
    made = first_model.start(ctx)
    assert read(page, "/api/first-model")["runs"] == [made.tokenizer.id, made.pretrain.id, made.sft.id]


def test_samples_are_listed_and_read_by_step(ctx, page, run):
    path = ctx.workspace.job(run.id).samples(50)
    path.parent.mkdir()
    rows = [{"prompt": "Add.", "expected": "a + b", "text": "a - b", "num_tokens": 3}]
    path.write_text(json.dumps({"step": 50, "samples": rows}))
    assert read(page, f"/api/runs/{run.id}/live")["samples"] == [50]
    found = read(page, f"/api/runs/{run.id}/samples/50")
    assert found == {"step": 50, "samples": [{"prompt": "Add.", "expected": "a + b", "text": "a - b"}]}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"samples": 3}', '{"samples": [' + "[" * 50_000, " " * (1 << 20) + '{"samples": []}']
)
def test_samples_of_any_content_do_no_harm(ctx, page, run, content):
    path = ctx.workspace.job(run.id).samples(50)
    path.parent.mkdir()
    path.write_text(content)
    assert page.ask(f"/api/runs/{run.id}/samples/50").status == 404


@pytest.mark.parametrize("step", ["51", "x", "-1", "9" * 400, "..%2f..%2frecipe"])
def test_a_step_without_samples_is_not_found(page, run, step):
    assert page.ask(f"/api/runs/{run.id}/samples/{step}").status == 404


def test_samples_are_read_through_no_link(ctx, page, run, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"samples": [{"text": "secret"}]}')
    path = ctx.workspace.job(run.id).samples(50)
    path.parent.mkdir()
    path.symlink_to(secret)
    assert page.ask(f"/api/runs/{run.id}/samples/50").status == 404
