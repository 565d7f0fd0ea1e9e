"""Secrets planted wherever a program could let one slip: no page, log, event, recipe, card, audit row or error shows them."""

import base64
import json
from urllib.parse import quote

import pytest

from codex_space.core import durable, scrub
from codex_space.core.actor import Actor, May, acting
from codex_space.core.errors import CodexError, HubError, RecipeError
from codex_space.core.events import EventWriter
from codex_space.core.recipe import parse_recipe
from codex_space.core.settings import read_settings
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.hub.cards import render_card
from codex_space.hub.manifest import Manifest
from codex_space.jobs.ingest import read_new_events
from codex_space.jobs.tail import READ_BYTES, iter_log, tail
from codex_space.services import audit, runs
from codex_space.services.context import open_context
from codex_space.store import runs as run_rows
from codex_space.ui.errors import message_of

OWN = {
    "HF_TOKEN": "hf_" + "W" * 34,
    "HF_READ_TOKEN": "hf_" + "R" * 34,
    "CODEX_SPACE_PASSWORD": " ".join(["open", "sesame", "&", "more"]),
    "OAUTH_CLIENT_SECRET": "-".join(["0f8c2a1e", "aaaa", "bbbb", "cccc"]),
    "WANDB_API_KEY": "0123456789abcdef" * 2,
    "MY_CREDENTIAL": "short" + "1",
    "ODD_SECRET": "".join(["a'b", '"c', "\\d/e", "áß", "~f?g"]),
}
OTHERS = [
    "hf_" + "a1B2" * 9,
    "hf_oauth_" + "x" * 40,
    "ghp_" + "A" * 36,
    "sk-proj-" + "Ab1-" * 10,
    "AKIA" + "A1B2C3D4E5F6G7H8",
    ".".join(["eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJhZGEifQ", "c2lnbmF0dXJlLW9mLWl0"]),
]
PLANTED = [
    *OWN.values(),
    *OTHERS,
    *(quote(value, safe="") for value in OWN.values()),
    *(quote(value, safe="").lower() for value in OWN.values() if not any(map(str.isupper, value))),
    *(json.dumps(value, ensure_ascii=flag)[1:-1] for value in OWN.values() for flag in (True, False)),
    *(base64.b64encode(value.encode()).decode().rstrip("=") for value in OWN.values()),
    *(base64.urlsafe_b64encode(value.encode()).decode().rstrip("=") for value in OWN.values()),
    *(base64.b64encode(f"{'u' * n}:{value}".encode()).decode() for value in OWN.values() for n in range(4)),
]
RECIPE = "kind: sft\nname: one\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"


def leaks(text):
    return [secret for secret in PLANTED if secret in text]


def sentence():
    return "could not read " + ", ".join(f"https://x:{secret}@hub/{secret}?token={secret}" for secret in PLANTED)


@pytest.fixture
def ctx(tmp_path):
    context = open_context(read_settings({**OWN, "CODEX_SPACE_HOME": str(tmp_path)}), lambda: 1e9, own=False)
    yield context
    context.close()
    scrub.learn([])


@pytest.fixture
def run(ctx):
    made = runs.submit(ctx, RECIPE)
    run_rows.change_state(ctx.db, made.id, "preflight", now=1.0)
    return made


def test_a_message_on_the_page_and_in_the_terminal(ctx):
    assert not leaks(message_of(HubError(sentence(), where=sentence(), cure=sentence())))


def test_what_a_worker_writes_down_and_what_is_read_of_it(ctx, run):
    job = ctx.workspace.job(run.id)
    with EventWriter(job.events) as events:
        events.write("failed", 1.0, what=sentence(), where=sentence(), cure=sentence())
        events.write("phase", 1.0, phase=sentence(), detail=sentence())
    assert not leaks(job.events.read_text())
    with job.events.open("a") as raw:  # a worker of another make writes what it likes
        raw.write(json.dumps({"t": 1.0, "e": "failed", "what": sentence()[:1500], "where": "", "cure": ""}) + "\n")
    assert leaks(job.events.read_text())
    read_new_events(ctx.db, job, runs.show(ctx, run.id), now=2.0, to_end=True)
    assert not leaks(str(runs.show(ctx, run.id)))


def test_the_log_shown_searched_and_downloaded(ctx, run):
    job = ctx.workspace.job(run.id)
    job.log.write_text("first\n" + sentence() + "\n" + "\x1b[31m".join(PLANTED) + "\r" + PLANTED[0] + "\nlast")
    assert leaks(job.log.read_text())
    assert not leaks(tail(job.log))
    assert tail(job.log, search=PLANTED[0]) == "", "searching for a secret finds nothing"
    whole = "".join(iter_log(job.log))
    assert not leaks(whole)
    assert whole.startswith("first\n")
    assert whole.endswith("last")


@pytest.mark.parametrize("back", [1, 10, 36, 40])
def test_a_secret_across_the_edge_of_a_part_of_the_log(ctx, run, back):
    job = ctx.workspace.job(run.id)
    job.log.write_text("é" * ((READ_BYTES - back) // 2) + OWN["HF_TOKEN"] + "x" * 100_000 + "\nlast")
    whole = "".join(iter_log(job.log))
    assert OWN["HF_TOKEN"] not in whole
    assert "W" * 8 not in whole
    assert whole.endswith("x\nlast")


@pytest.mark.parametrize("secret", [OWN["HF_TOKEN"], OWN["CODEX_SPACE_PASSWORD"], OTHERS[0], OTHERS[3]])
def test_a_recipe_that_holds_one_is_refused(ctx, secret):
    with pytest.raises(RecipeError, match="holds a secret") as told:
        runs.submit(ctx, RECIPE.replace("fresh:tiny}", f"fresh:tiny, revision: 'say {secret}'}}"))
    assert not leaks(str(told.value))
    assert not list(ctx.workspace.runs.iterdir())


def test_a_card_and_a_shared_recipe(ctx):
    text = RECIPE + f"# {sentence()}\n"
    assert not leaks(share_recipe(text))
    manifest = Manifest("20260101-000000-sft-aaaa", 1, "sft", "", {}, (), {})
    recipe = parse_recipe(RECIPE)
    assert isinstance(recipe, TrainingRecipe)
    assert not leaks(render_card(recipe, manifest, repo_id="ada/model", recipe_text=text))


def test_the_audit_log_names_who_and_hides_what_is_secret(ctx, run):
    token = acting.set(Actor("ada", May.ACT, signed_in=True))
    ctx.note("delete", sentence())
    runs.rename(ctx, run.id, "two")
    acting.reset(token)
    deeds = audit.read(ctx)
    assert [(deed.who, deed.verb) for deed in deeds] == [
        ("ada", "rename"),
        ("ada", "delete"),
        ("command line", "submit"),
    ]
    assert not leaks(str(deeds))
    assert deeds[0].what == f"{run.id} to two"
    assert audit.read(ctx, before=deeds[0].sequence, limit=1) == deeds[1:2]


def test_ordinary_text_stays_as_it_is(ctx):
    for text in ("hf_hub_download failed", "a model of sk-learn", "eyJ is how JSON begins", "short", "", "AKIA"):
        assert scrub.clean(text) == text
    scrubber = scrub.Scrubber(["inner", "the inner secret"])
    assert scrubber.clean("x the inner secret y inner") == "x **** y ****"


def test_a_secret_at_the_edge_of_what_is_kept_leaves_no_half(ctx, run):
    job = ctx.workspace.job(run.id)
    with EventWriter(job.events) as events:
        events.write("failed", 1.0, what="x" * 1990 + OWN["HF_TOKEN"], where="", cure="")
    read_new_events(ctx.db, job, runs.show(ctx, run.id), now=2.0, to_end=True)
    assert "hf_W" not in runs.show(ctx, run.id).reason


def test_no_error_of_ours_prints_one(ctx, capsys, monkeypatch, tmp_path):
    from codex_space.cli.main import main

    def fail(*_, **__):
        raise CodexError(sentence(), where=sentence(), cure=sentence())

    monkeypatch.setattr("codex_space.cli.runs.list_all", fail)
    assert main(["runs", "list", "--workspace", str(tmp_path)]) == 1
    assert not leaks(capsys.readouterr().err)


def test_the_settings_hide_them_from_repr(ctx):
    assert not leaks(repr(ctx.settings))
    assert durable.read_json(ctx.workspace.root / "settings.json") is None
