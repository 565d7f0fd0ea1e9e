"""What the Space tab's cards say, on a Space and elsewhere, with hostile names and wishes."""

from codex_space.core import durable
from codex_space.core.settings import read_settings
from codex_space.hub.space import Copied
from codex_space.jobs.leaving import wish_path
from codex_space.services import first_boot
from codex_space.services.context import open_context
from codex_space.store import costs
from codex_space.ui.views import space_cards as view

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
