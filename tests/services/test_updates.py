"""A copy takes over what its origin has changed: the unmodified client, the test Hub, real commits."""

import json

import pytest

from codex_space.cli.main import main
from codex_space.core.errors import HubAuthError, HubError, HubNotFoundError, WorkspaceError
from codex_space.core.settings import read_settings
from codex_space.jobs.leaving import Leaving, is_leaving
from codex_space.services import audit, leaving, space, updates
from codex_space.services.context import open_context
from codex_space.store import runs

ORIGIN, COPY = "maker/studio", "lab/studio"
CARD = "---\ntitle: {title}\nsdk: docker\n{more}---\n"
FIRST = {
    "app.py": "one",
    "lib/a.py": "a",
    "lib/b.py": "b",
    "old.py": "old",
    "README.md": CARD.format(title="studio", more="") + "hello\n",
}
MAKER = {"name": "maker", "role": "write", "orgs": []}


@pytest.fixture
def environ(hub, tmp_path, monkeypatch):
    hub.state.users["hf_maker"] = MAKER
    hub.state.put("spaces", ORIGIN, FIRST)
    made = {
        "CODEX_SPACE_HOME": str(tmp_path / "workspace"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": "hf_write",
        "SYSTEM": "spaces",
        "SPACE_ID": COPY,
        "CODEX_SPACE_ORIGIN": ORIGIN,
    }
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def open_ctx(environ):
    opened = []

    def make(**changed):
        values = {name: value for name, value in {**environ, **changed}.items() if value}
        opened.append(open_context(read_settings(values), lambda: 1_800_000_000.0, own=False))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def ctx(open_ctx):
    """A copy made the way this program makes one."""
    made = open_ctx(SPACE_ID=ORIGIN, CODEX_SPACE_ORIGIN="")
    space.duplicate(made, COPY)
    return open_ctx()


def put(hub, repo_id, **changed):
    """Change files of a Space by name without its dots (app_py), None to delete one; the rest stays."""
    files = dict(hub.state.files("spaces", repo_id))
    for name, text in changed.items():
        path = {"readme": "README.md"}.get(name, name.replace("__", "/").replace("_py", ".py"))
        files.pop(path, None)
        if text is not None:
            files[path] = text
    return hub.state.put("spaces", repo_id, files)


def listed(update):
    return {one.path: (one.kind, one.is_own) for one in update.files}


def test_a_copy_made_here_is_told_where_it_came_from(ctx, hub):
    assert hub.repo(COPY, "spaces")["space"]["variables"] == {"CODEX_SPACE_ORIGIN": ORIGIN}


def test_nothing_is_new_right_after_the_copy(ctx, hub):
    update = updates.look(ctx)
    assert (update.files, update.commits, update.notes) == ((), (), ())
    assert update.base_commit == update.origin_commit
    with pytest.raises(WorkspaceError, match="nothing to take over"):
        updates.take(ctx, update)


def test_what_the_origin_changed_added_and_deleted_goes_over_in_one_commit(ctx, hub):
    put(hub, ORIGIN, app_py="two", new_py="new", old_py=None)
    before = len(hub.repo(COPY, "spaces")["commits"])
    update = updates.look(ctx)
    assert listed(update) == {"app.py": ("changed", False), "new.py": ("added", False), "old.py": ("deleted", False)}
    assert [line.title for line in update.commits] == ["put"]
    commit = updates.take(ctx, update)
    repo = hub.repo(COPY, "spaces")
    assert hub.state.files("spaces", COPY) == hub.state.files("spaces", ORIGIN)
    assert (repo["heads"]["main"], len(repo["commits"])) == (commit, before + 1)
    assert repo["space"]["stage"] == "BUILDING"
    assert [deed.verb for deed in audit.read(ctx)] == ["update the Space", "duplicate the Space"]
    assert updates.look(ctx).files == ()


def test_files_changed_in_the_copy_are_named_and_kept_until_somebody_says_otherwise(ctx, hub):
    put(hub, COPY, app_py="ours", own_py="ours alone", lib__a_py=None)
    put(hub, ORIGIN, app_py="two", lib__a_py="two", lib__b_py="two")
    update = updates.look(ctx)
    assert listed(update) == {"app.py": ("changed", True), "lib/a.py": ("added", True), "lib/b.py": ("changed", False)}
    with pytest.raises(WorkspaceError, match=r"app\.py, lib/a\.py"):
        updates.take(ctx, update)
    assert hub.state.files("spaces", COPY)["lib/b.py"] == b"b"
    updates.take(ctx, update, "keep")
    kept = hub.state.files("spaces", COPY)
    assert (kept["app.py"], kept["lib/b.py"], kept["own.py"]) == (b"ours", b"two", b"ours alone")
    assert "lib/a.py" not in kept
    put(hub, ORIGIN, app_py="three")
    again = updates.look(ctx)
    assert listed(again) == {"app.py": ("changed", True)}
    updates.take(ctx, again, "overwrite")
    assert hub.state.files("spaces", COPY)["app.py"] == b"three"


def test_the_copys_front_matter_stays_and_the_text_below_is_updated(ctx, hub):
    put(hub, COPY, readme=CARD.format(title="ours", more="app_port: 7860\n") + "hello\n")
    put(hub, ORIGIN, readme=CARD.format(title="studio", more="hf_oauth: true\n") + "hello again\n")
    update = updates.look(ctx)
    assert listed(update) == {"README.md": ("changed", False)}
    assert "front matter" in update.notes[0]
    updates.take(ctx, update)
    text = hub.state.files("spaces", COPY)["README.md"].decode()
    assert text == CARD.format(title="ours", more="app_port: 7860\n") + "hello again\n"


def test_the_card_says_where_a_copy_made_on_the_hub_came_from(ctx, hub, open_ctx):
    put(hub, COPY, readme=CARD.format(title="ours", more=f"duplicated_from: {ORIGIN}\n") + "hello\n")
    put(hub, ORIGIN, app_py="two")
    update = updates.look(open_ctx(CODEX_SPACE_ORIGIN=""))
    assert (update.origin, listed(update)) == (ORIGIN, {"app.py": ("changed", False)})


def test_without_a_shared_history_all_that_differs_counts_as_changed_here(hub, open_ctx):
    hub.state.put("spaces", COPY, {"app.py": "one", "lib/a.py": "another"})
    update = updates.look(open_ctx())
    assert update.base_commit == ""
    assert "history" in update.notes[0]
    assert listed(update)["lib/a.py"] == ("changed", True)
    assert "app.py" not in listed(update)
    assert listed(update)["old.py"] == ("added", False)


def test_runs_and_uploads_hold_an_update_back_and_a_drain_lets_nothing_new_begin(ctx, hub, tmp_path):
    put(hub, ORIGIN, app_py="two")
    update = updates.look(ctx)
    runs.insert_run(ctx.db, id="a", name="a", kind="sft", recipe="", repo_id=None, now=1.0)
    for state in ("preflight", "running"):
        runs.change_state(ctx.db, "a", state, now=2.0)
    with pytest.raises(WorkspaceError, match="1 runs are under way") as caught:
        updates.take(ctx, update)
    assert "--drain" in caught.value.cure
    assert not hub.asked("/commit/")
    leaving.drain(ctx)
    assert [wish.verb for wish in runs.take_wishes(ctx.db)] == ["stop"]
    runs.change_state(ctx.db, "a", "stopping", now=3.0)
    runs.change_state(ctx.db, "a", "stopped", now=3.0)
    assert is_leaving(tmp_path / "workspace")
    Leaving(ctx.db, tmp_path / "workspace", ctx.settings, lambda: pytest.fail("the Hub is not asked")).step(4.0)
    updates.take(ctx, update)
    assert leaving.wished(ctx) is None


@pytest.mark.parametrize(
    "path", ["../app.py", "/etc/passwd", "a//b", "a/./b", ".git/hooks/x", "a/.GIT/x", "a\\b", "a\nb", "x" * 400]
)
def test_a_hostile_file_name_stops_the_whole_update(ctx, hub, path):
    files = {**hub.state.files("spaces", ORIGIN), "app.py": "two", path: "evil"}
    hub.state.put("spaces", ORIGIN, files)
    with pytest.raises(HubError, match="no plain path") as caught:
        updates.look(ctx)
    assert "\n" not in str(caught.value)
    assert not hub.asked("/commit/")


def test_a_huge_list_of_files_is_refused_before_anything_is_fetched(ctx, hub, monkeypatch):
    monkeypatch.setattr("codex_space.hub.space_files.MAX_FILES", 50)
    hub.state.put("spaces", ORIGIN, {f"f{number}.py": "x" for number in range(60)})
    with pytest.raises(HubError, match="more than 50 files"):
        updates.look(ctx)
    monkeypatch.setattr("codex_space.hub.space_files.MAX_FILES", 100)
    monkeypatch.setattr(updates, "MAX_CHANGES", 50)
    with pytest.raises(WorkspaceError, match="more than one commit"):
        updates.take(ctx, updates.look(ctx))
    assert not hub.asked("/commit/")


def test_an_origin_that_is_gone_or_private_is_said(ctx, hub, open_ctx):
    hub.repo(ORIGIN, "spaces")["private"] = True
    with pytest.raises(HubNotFoundError, match=ORIGIN):
        updates.look(ctx)
    del hub.state.repos[f"spaces/{ORIGIN}"]
    with pytest.raises(HubNotFoundError, match=ORIGIN):
        updates.look(ctx)


@pytest.mark.parametrize("token", ["hf_read", "hf_other"])
def test_a_token_that_may_not_write_changes_nothing(ctx, hub, open_ctx, token):
    put(hub, ORIGIN, app_py="two")
    hub.repo(COPY, "spaces")["private"] = False
    other = open_ctx(HF_TOKEN=token)
    with pytest.raises(HubAuthError, match=COPY):
        updates.take(other, updates.look(other))
    assert hub.state.files("spaces", COPY)["app.py"] == b"one"
    assert [deed.verb for deed in audit.read(other)] == ["duplicate the Space"]


def test_a_copy_that_somebody_else_changed_since_the_look_is_left_alone(ctx, hub):
    put(hub, ORIGIN, app_py="two")
    update = updates.look(ctx)
    put(hub, COPY, app_py="ours")
    with pytest.raises(HubError, match="Look again"):
        updates.take(ctx, update)
    assert hub.state.files("spaces", COPY)["app.py"] == b"ours"


@pytest.mark.parametrize(("status", "told"), [(409, "Look again"), (503, "try again later"), (402, "plan|billing")])
def test_a_refused_commit_is_one_sentence_and_nothing_is_taken_over(ctx, hub, status, told):
    put(hub, ORIGIN, app_py="two")
    hub.fail("/commit/", status=status)
    with pytest.raises(HubError, match=told):
        updates.take(ctx, updates.look(ctx))
    assert hub.state.files("spaces", COPY)["app.py"] == b"one"


def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(ctx, hub):
    put(hub, ORIGIN, app_py="two")
    hub.fail("/commit/", how="lose")
    commit = updates.take(ctx, updates.look(ctx))
    assert hub.repo(COPY, "spaces")["heads"]["main"] == commit
    assert updates.look(ctx).files == ()


@pytest.mark.parametrize("content", ["bad", "longer than it was"])
def test_content_that_is_not_what_the_list_said_is_not_taken_over(ctx, hub, content):
    put(hub, ORIGIN, app_py="two")
    update = updates.look(ctx)
    hub.fail("/resolve/.*/app.py", method="GET", text=content, status=200)
    with pytest.raises(HubError, match="the Hub"):
        updates.take(ctx, update)
    assert not hub.asked("/commit/")


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ("duplicated_from: lab/studio\n", "copy of itself"),
        ("duplicated_from: [1]\n", "not the id"),
        ("a: [\n", "neither"),
    ],
)
def test_a_card_that_names_nothing_sensible_is_said(hub, open_ctx, front, told):
    hub.state.put("spaces", COPY, {"README.md": CARD.format(title="x", more=front)})
    with pytest.raises(WorkspaceError, match=told):
        updates.look(open_ctx(CODEX_SPACE_ORIGIN=""))


def test_a_machine_that_is_no_space_names_the_copy(ctx, hub, open_ctx):
    put(hub, ORIGIN, app_py="two")
    laptop = open_ctx(SPACE_ID="", SYSTEM="", CODEX_SPACE_ORIGIN="")
    with pytest.raises(WorkspaceError, match="not a Space"):
        updates.look(laptop)
    updates.take(laptop, updates.look(laptop, space_id=COPY, origin=ORIGIN))
    assert hub.state.files("spaces", COPY)["app.py"] == b"two"


def test_the_command_says_asks_and_updates(ctx, hub, capsys):
    put(hub, ORIGIN, app_py="two")
    assert main(["space", "update", "--dry-run"]) == 0
    assert "changed  app.py" in capsys.readouterr().out
    assert main(["space", "update"]) == 1  # nobody is there to ask
    assert "--yes" in capsys.readouterr().err
    assert hub.state.files("spaces", COPY)["app.py"] == b"one"
    assert main(["space", "update", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["commit"] == hub.repo(COPY, "spaces")["heads"]["main"]
    assert main(["space", "update"]) == 0
    assert "has all of" in capsys.readouterr().out


def test_the_command_drains_its_own_space_only_and_only_after_a_yes(ctx, hub, capsys, monkeypatch):
    put(hub, ORIGIN, app_py="two")
    assert main(["space", "update", "--drain"]) == 1
    assert leaving.wished(ctx) is None
    run = runs.insert_run(ctx.db, id="a", name="a", kind="sft", recipe="", repo_id=None, now=1.0)
    for state in ("preflight", "running"):
        runs.change_state(ctx.db, run.id, state, now=2.0)
    assert main(["space", "update", "--drain", "--yes"]) == 1
    assert "update once they have ended" in capsys.readouterr().err
    assert leaving.wished(ctx)["to"] == "update"
    assert main(["space", "stay"]) == 0
    monkeypatch.setenv("SPACE_ID", "lab/another")
    assert main(["space", "update", "--space", COPY, "--from", ORIGIN, "--drain", "--yes"]) == 1
    assert "only the Space itself" in capsys.readouterr().err
    assert leaving.wished(ctx) is None
    assert hub.state.files("spaces", COPY)["app.py"] == b"one"


def test_a_title_cannot_move_the_terminals_cursor(ctx, hub, capsys):
    put(hub, ORIGIN, app_py="two")
    repo = hub.repo(ORIGIN, "spaces")
    repo["commits"][repo["heads"]["main"]]["title"] = "evil\x1b[2Jtitle"
    assert main(["space", "update", "--dry-run"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["studio", "a b/c", "../x/y", "a/b/c"])
def test_a_setting_that_is_no_space_is_refused(environ, value):
    with pytest.raises(WorkspaceError, match="CODEX_SPACE_ORIGIN"):
        read_settings({**environ, "CODEX_SPACE_ORIGIN": value})
