"""What the Space tab's cards say, on a Space and elsewhere, with hostile names and wishes."""

from codex_space.core import durable
from codex_space.core.settings import read_settings
from codex_space.hub.space import Copied
from codex_space.hub.space_files import CommitLine
from codex_space.jobs.leaving import wish_path
from codex_space.services import first_boot
from codex_space.services.context import open_context
from codex_space.services.updates import FileChange, Update
from codex_space.store import costs
from codex_space.ui.views import space_cards as view
from codex_space.ui.views import updates as updates_view

NOW = 1_800_000_000.0


def open_at(tmp_path, **environ):
    settings = read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace"), **environ})
    return open_context(settings, lambda: NOW, own=False)


def on_space(tmp_path, hub, **environ):
    hub.state.put("spaces", "lab/studio", {"app.py": ""})
    return open_at(tmp_path, SYSTEM="spaces", SPACE_ID="lab/studio", HF_ENDPOINT=hub.endpoint, **environ)


def test_elsewhere_one_line_says_that_there_is_nothing_to_switch(ctx):
    assert view.render_move(ctx) == view.NOT_A_SPACE
    assert "free" in view.render_money(ctx)
    assert "Name the Space to copy" in view.render_link(ctx)


def test_price_month_and_cap_are_shown(tmp_path, hub):
    ctx = on_space(tmp_path, hub, ACCELERATOR="l4x1", CODEX_SPACE_MONTHLY_CAP_USD="20")
    costs.add(ctx.db, "x", at=NOW, seconds=3600, usd=1.25)
    told = view.render_money(ctx)
    assert "$0.80 an hour" in told
    assert "$1.25 of $20.00" in told
    ctx.close()


def test_the_checklist_reads_the_real_token_and_access(tmp_path, hub):
    ctx = on_space(tmp_path, hub, ACCELERATOR="none", HF_TOKEN="hf_read")
    found = {one.label: one for one in first_boot.read(ctx)}
    assert [found[name].ok for name in ("Token", "Access", "First model")] == [False, False, False]
    assert found["Token"].link == first_boot.TOKENS_PAGE
    assert found["Access"].link == f"{hub.endpoint}/spaces/lab/studio/settings"
    assert "lost at every restart" in found["Storage"].detail
    ctx.close()
    ctx = on_space(tmp_path, hub, HF_TOKEN="hf_write", CODEX_SPACE_PASSWORD="long-enough")  # pragma: allowlist secret
    found = {one.label: one for one in first_boot.read(ctx)}
    assert [found[name].ok for name in ("Token", "Access")] == [True, True]
    ctx.close()


def test_a_revoked_or_missing_token_is_a_line_and_not_a_crash(tmp_path, hub):
    for token in ("hf_revoked", ""):
        ctx = on_space(tmp_path, hub, HF_TOKEN=token, HF_HOME=str(tmp_path))
        text, is_shown = view.render_checklist(ctx)
        assert is_shown
        assert "cs-bad" in text
        ctx.close()


def test_it_is_put_away_for_good(tmp_path, hub):
    ctx = on_space(tmp_path, hub)
    first_boot.dismiss(ctx)
    assert view.render_checklist(ctx) == ("", False)
    ctx.close()


def test_hostile_text_stays_text(tmp_path, hub):
    ctx = on_space(tmp_path, hub)
    bad = "<img src=x onerror=alert(1)>"
    durable.write_json(wish_path(ctx.workspace.root), {"to": bad, "reason": bad, "asked_at": 1, "error": ""})
    assert "<img" not in view.render_move(ctx)
    durable.write_json(wish_path(ctx.workspace.root), {"to": "l4x1", "reason": "", "asked_at": 1, "error": bad})
    assert "<img" not in view.render_move(ctx)
    assert "<img" not in view.render_copied(Copied(bad, f'"{bad}', False))
    ctx.close()


def an_update(**changed):
    fields = {
        "space_id": "lab/studio",
        "origin": "maker/studio",
        "origin_commit": "b" * 40,
        "base_commit": "a" * 40,
        "copy_commit": "c" * 40,
        "files": (FileChange("app.py", "changed", 3, is_own=True), FileChange("<b>.py", "added", 3, is_own=False)),
        "commits": (CommitLine("b" * 40, "<script>alert(1)</script>"),),
        "notes": ("A & B",),
    }
    return Update(**{**fields, **changed})


def test_an_update_is_told_by_commit_and_file_and_hostile_names_are_text(ctx):
    told = updates_view.render_update(ctx, an_update())
    assert "changed in this copy too" in told
    assert "<script>" not in told
    assert "<b>.py" not in told
    assert "A &amp; B" in told
    assert "Nothing would be lost" in told


def test_a_long_update_is_cut_and_says_by_how_much(ctx):
    files = tuple(FileChange(f"f{number}.py", "added", 1, is_own=False) for number in range(1000))
    told = updates_view.render_update(ctx, an_update(files=files, commits=an_update().commits * 300))
    assert told.count("<tr>") == updates_view.SHOWN_FILES + 1
    assert "and 960 more files" in told
    assert "and 290 more commits" in told
    assert len(told) < 20_000


def test_a_copy_without_news_and_a_machine_that_is_none_say_so(ctx):
    assert "Up to date" in updates_view.render_update(ctx, an_update(files=(), commits=()))
    assert "does not name" in updates_view.render_update(ctx, an_update(base_commit=""))
    assert "not a Space" in updates_view.render_start(ctx)
    assert updates_view.is_busy(ctx) is False
