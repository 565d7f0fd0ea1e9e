"""What the Disk card says, with little room, hostile names, thousands of things and a Hub that goes away."""

from pathlib import Path

from codex_space.core import durable
from codex_space.services import clean, disk
from codex_space.services.clean import Cleaned, Item, Kept, Plan
from codex_space.store import checkpoints, runs
from codex_space.ui.views import space_disk as view
from tests.fakes.checkpoints import RECIPE, RUN_ID, write_checkpoint

BAD = "<img src=x onerror=alert(1)>"


def item(kind="checkpoints", name="x step 2", size_bytes=1_000_000):
    return Item(kind, Path("x"), name, size_bytes, "on the Hub", "x", 2)


def test_the_bar_names_what_there_is(ctx):
    write_checkpoint(ctx.workspace.job(RUN_ID).checkpoint(2), 2, size_bytes=200_000)
    told = view.render_disk(ctx)
    assert "Checkpoints <b>" in told
    assert "Exported files" not in told
    assert str(ctx.workspace.root) in told
    assert "Little room" not in told
    assert "asked by Measure again" in told


def test_little_room_is_said_first(ctx, monkeypatch):
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    runs.restore_run(ctx.db, RUN_ID, state="running")
    checkpoints.add_checkpoint(ctx.db, RUN_ID, 2, created_at=1.0, size_bytes=10**15, metrics={})
    assert view.render_disk(ctx).startswith('<div class="cs-notice cs-bad" role=alert><b>Little room</b>')


def test_an_empty_workspace_offers_nothing(ctx):
    assert "Nothing can go" in view.render_plan(clean.plan(ctx))
    assert view.kind_choices(clean.plan(ctx)) == []


def test_kinds_are_offered_with_their_sizes():
    found = Plan([item(), item("scratch", size_bytes=5)], [])
    assert view.kind_choices(found) == [
        ("Older checkpoints that are on the Hub · 1.00 MB", "checkpoints"), ("What killed programs left · 5 B", "scratch")
    ]  # fmt: skip


def test_thousands_of_things_are_a_page():
    told = view.render_plan(Plan([item(name=f"n{number}") for number in range(5000)], [Kept("k", "w")] * 5000))
    assert "And 4,950 more" in told
    assert len(told) < 30_000


def test_the_end_is_told_in_words():
    done = view.render_cleaned(Cleaned([item()], [Kept("y step 4", "not proven")]))
    assert "1 thing is gone, 1.00 MB are free again" in done
    assert "Bring back" in done
    assert "1 stays on this machine" in done
    assert "Nothing was deleted" in view.render_cleaned(Cleaned([], []))
    assert "It ended early" in view.render_cleaned(Cleaned([item()], [], "no answer"))


def test_hostile_text_stays_text(ctx):
    durable.write_json(ctx.workspace.root / "copies.json", {"at": 1, "error": BAD})
    kept = {"at": 1, "owners": {BAD: 5}, "quotas": {}}
    durable.write_json(ctx.workspace.root / "hub_storage.json", kept)
    copied = view.render_disk(ctx)
    found = Plan([item(name=BAD)], [Kept(BAD, BAD)])
    for told in (copied, view.render_plan(found), view.render_cleaned(Cleaned([item(name=BAD)], found.kept, BAD))):
        assert "<img" not in told


def test_copies_and_storage_are_told(make_ctx, tmp_path):
    ctx = make_ctx(copies=tmp_path / "bucket")
    assert "none yet" in view.render_disk(ctx)
    durable.write_json(ctx.workspace.root / "copies.json", {"at": 1.8e9, "file": "x", "error": ""})
    durable.write_json(
        ctx.workspace.root / disk._KEPT, {"at": 1.8e9, "owners": {"ada": 5 * 10**9}, "quotas": {"ada": 10**11}}
    )
    told = view.render_disk(ctx)
    assert "the last 2027-01-15" in told
    assert "hold 5.00 GB of 100 GB private" in told
