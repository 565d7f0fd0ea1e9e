"""What clean-up deletes can be had again, whatever the Hub, the disk or a kill does; what only lies here stays."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from codex_space.core import durable
from codex_space.core.errors import CodexError, HubBusyError, HubError, RunError, TrainingError, WorkspaceError
from codex_space.core.paths import MANIFEST
from codex_space.core.scratch import Scratch, held, share
from codex_space.core.settings import read_settings
from codex_space.hub.push import push_checkpoint
from codex_space.jobs import away, resume_point
from codex_space.jobs.process import identify
from codex_space.services import clean as cleaning
from codex_space.services import runs as run_service
from codex_space.services.bring_back import bring_back
from codex_space.services.context import open_context
from codex_space.store import checkpoints, runs
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, write_checkpoint

NOW = 1_800_000_000.0
REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def ctx(tmp_path, hub):
    hub.client().make_repo("ada/model", private=True)
    home = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    context = open_context(read_settings(home), lambda: NOW, own=False)
    yield context
    context.close()


@pytest.fixture
def sent(ctx, hub):
    """A run that has succeeded, with steps 2, 4 and 6 here and on the Hub; resume state there of the newest only."""
    return add_run(ctx, hub)


def add_run(ctx, hub, *, state="succeeded", steps=(2, 4, 6), resume_of=(6,)):
    job = ctx.workspace.job(RUN_ID)
    job.root.mkdir(parents=True)
    job.recipe.write_text(RECIPE)
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id="ada/model", now=1.0)
    for step in steps:
        folder = write_checkpoint(job.checkpoint(step), step)
        commit = push_checkpoint(
            hub.client(), folder, repo_id="ada/model", card="card", recipe_text=RECIPE, with_resume=step in resume_of
        )
        checkpoints.add_checkpoint(ctx.db, RUN_ID, step, created_at=1.0, size_bytes=2000, metrics={}, upload="queued")
        checkpoints.set_upload(ctx.db, RUN_ID, step, "uploaded", commit_id=commit)
    end(ctx, state)
    return job


def end(ctx, state, run_id=RUN_ID):
    runs.restore_run(ctx.db, run_id, state=state, ended_at=2.0)


def queue(ctx, recipe, run_id=OTHER_RUN_ID):
    runs.insert_run(ctx.db, id=run_id, name="second", kind="sft", recipe=recipe, repo_id=None, now=3.0)


def rows(ctx):
    return {row.step: row.on_disk for row in checkpoints.list_checkpoints(ctx.db, RUN_ID)}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def clean(ctx, *kinds, **options):
    return cleaning.clean(ctx, kinds or ("checkpoints", "newest"), **options)


# What goes, and how it comes back.


def test_checkpoints_on_the_hub_go_and_come_back_byte_for_byte(ctx, sent):
    before = {step: bytes_of(sent.checkpoint(step)) for step in (2, 4, 6)}
    assert cleaning.plan(ctx).size_bytes("checkpoints") > 0
    done = clean(ctx)
    assert [item.step for item in done.removed] == [2, 4, 6]
    assert done.size_bytes > 0
    assert sent.checkpoint_steps() == []
    assert rows(ctx) == {2: False, 4: False, 6: False}
    assert not list(sent.root.glob(".removed-*"))
    for step in (2, 6):
        told = bring_back(ctx, RUN_ID, step)
        assert told["path"] == str(sent.checkpoint(step))
    assert bytes_of(sent.checkpoint(6)) == before[6]  # with its resume state
    weights = {
        name: content
        for name, content in before[2].items()
        if name not in {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    }
    assert bytes_of(sent.checkpoint(2)) == weights
    assert rows(ctx) == {2: True, 4: False, 6: True}
    assert sent.away_steps() == [4]
    deeds = [(row["verb"], row["what"]) for row in ctx.db.query("SELECT verb, what FROM audit ORDER BY sequence")]
    assert deeds[0][0] == "clean up"
    assert [verb for verb, _ in deeds[1:]] == ["bring back", "bring back"]


def test_the_last_checkpoint_goes_only_where_it_is_named(ctx, sent):
    clean(ctx, *cleaning.USUAL)
    assert sent.checkpoint_steps() == [6]


def test_a_dry_run_asks_the_hub_and_deletes_nothing(ctx, sent, hub):
    done = clean(ctx, dry_run=True)
    assert [item.step for item in done.removed] == [2, 4, 6]
    assert sent.checkpoint_steps() == [2, 4, 6]
    assert hub.asked("/tree/", "GET")
    assert not ctx.db.query("SELECT 1 FROM audit")


def test_what_is_here_already_is_not_downloaded(ctx, sent, hub):
    hub.fail("", status=500, times=99)
    assert bring_back(ctx, RUN_ID, 4)["was_here"]


def test_a_manifest_that_was_amended_since_is_kept_as_it_was_here(ctx, sent):
    path = sent.checkpoint(2) / MANIFEST
    amended = {**json.loads(path.read_text()), "metrics": {"eval_loss": 0.5, "bleu": 0.25}}
    path.write_text(json.dumps(amended))
    assert 2 in [item.step for item in clean(ctx).removed]
    bring_back(ctx, RUN_ID, 2)
    assert json.loads(path.read_text()) == amended


# What stays.


def test_one_byte_that_differs_on_the_hub_keeps_it(ctx, sent, hub):
    repo = hub.repo("ada/model")
    tree = repo["commits"][repo["tags"]["step-4"]]["tree"]
    weights = tree["adapter_model.safetensors"]
    content = bytearray(hub.state.blob(weights["blob"]).read_bytes())
    content[100] ^= 1
    tree["adapter_model.safetensors"] = {**hub.state.keep(bytes(content)), "lfs": True}
    done = clean(ctx)
    assert [item.step for item in done.removed] == [2, 6]
    assert "adapter_model.safetensors there is not the file here" in done.kept[0].why
    assert sent.checkpoint_steps() == [4]
    small = repo["commits"][repo["tags"]["step-4"]]["tree"]
    small["adapter_model.safetensors"] = weights
    small["tokenizer.json"] = hub.state.keep(b'{"model": {} }')  # a small file is known by its git blob
    assert "tokenizer.json there" in clean(ctx).kept[0].why
    assert sent.checkpoint_steps() == [4]


@pytest.mark.parametrize("lost", ["tag", "file", "repository", "commit", "manifest"])
def test_what_the_hub_has_lost_stays_whatever_the_row_says(ctx, sent, hub, lost):
    repo = hub.repo("ada/model")
    commit = repo["tags"]["step-4"]
    if lost == "tag":
        del repo["tags"]["step-4"]
    elif lost == "file":
        del repo["commits"][commit]["tree"]["adapter_model.safetensors"]
    elif lost == "manifest":
        del repo["commits"][commit]["tree"][MANIFEST]
    elif lost == "commit":
        del repo["commits"][commit], repo["tags"]["step-4"]
    else:
        del hub.state.repos["models/ada/model"]
    done = clean(ctx)
    assert 4 in sent.checkpoint_steps()
    assert any(each.name.endswith("step 4") for each in done.kept)
    assert rows(ctx)[4]


def test_without_the_hub_nothing_goes_and_one_sentence_says_so(ctx, sent, hub):
    left = ctx.workspace.root / "tokens-abcdefgh"
    left.mkdir()
    os.utime(left, (1, 1))
    for fault in ({"status": 503}, {"how": "drop"}):
        hub.fail("", times=99, **fault)
        with pytest.raises(HubBusyError) as told:
            clean(ctx, *cleaning.KINDS)
        assert "\n" not in str(told.value)
        hub.heal()
    assert sent.checkpoint_steps() == [2, 4, 6]
    assert left.is_dir()
    assert rows(ctx) == {2: True, 4: True, 6: True}


def test_a_hub_that_goes_in_the_middle_ends_it_with_what_was_done(ctx, sent, hub):
    repo = hub.repo("ada/model")
    hub.fail(f"/tree/{repo['tags']['step-4']}", status=503, times=99)
    done = clean(ctx)
    assert [item.step for item in done.removed] == [2]
    assert done.stopped
    assert sent.checkpoint_steps() == [4, 6]


def test_a_token_that_may_not_see_it_keeps_everything(ctx, sent, hub):
    hub.state.users["hf_write"] = {"name": "bob", "role": "write", "orgs": []}
    assert not clean(ctx).removed
    assert sent.checkpoint_steps() == [2, 4, 6]


def test_what_was_changed_or_added_here_is_only_here(ctx, sent):
    (sent.checkpoint(2) / "notes.txt").write_text("mine")
    (sent.checkpoint(4) / "adapter_config.json").write_text('{"peft_type": "LORA", "mine": 1}')
    done = clean(ctx)
    assert [item.step for item in done.removed] == [6]
    assert sent.checkpoint_steps() == [2, 4]
    assert {each.why.partition(": ")[2][:16] for each in done.kept} == {"notes.txt lies i", "the file is not "}


@pytest.mark.parametrize("upload", ["none", "queued", "uploading", "failed"])
def test_what_is_not_uploaded_by_its_row_is_not_even_offered(ctx, sent, upload):
    for step in (2, 4, 6):
        checkpoints.set_upload(ctx.db, RUN_ID, step, upload)
    assert not cleaning.plan(ctx).items
    assert not clean(ctx).removed


@pytest.mark.parametrize("state", ["queued", "preflight", "running", "stopping"])
def test_a_run_that_is_not_over_keeps_its_checkpoints(ctx, sent, state):
    end(ctx, state)
    assert not clean(ctx).removed
    assert sent.checkpoint_steps() == [2, 4, 6]


def test_a_run_that_somebody_has_just_resumed_keeps_them(ctx, hub):
    job = add_run(ctx, hub, state="stopped")
    run_service.resume(ctx, RUN_ID)
    assert {each.why for each in clean(ctx).kept} == {"its run is not over"}
    assert job.checkpoint_steps() == [2, 4, 6]


@pytest.mark.parametrize("step", ["", "@step-4"])
def test_the_base_of_a_run_that_waits_is_held(ctx, sent, step):
    queue(ctx, RECIPE.replace("ada/base", f"run:{RUN_ID}{step}"))
    done = clean(ctx)
    kept = [4] if step else [2, 4, 6]
    assert sent.checkpoint_steps() == kept
    assert all("'second' needs it" in each.why for each in done.kept)


def test_what_the_export_after_a_run_may_need_is_held_until_that_is_queued(ctx, sent):
    runs_recipe = f"{RECIPE}after: [export]\nexport: {{gguf: [Q8_0]}}\n"
    with ctx.db.transaction() as cursor:
        cursor.execute("UPDATE runs SET recipe = ?", (runs_recipe,))
    assert {each.why for each in clean(ctx).kept} == {"the export that follows its run is still to come"}
    assert sent.checkpoint_steps() == [2, 4, 6]
    durable.write_json(sent.after, {"error": "refused"})
    assert len(clean(ctx).removed) == 3


def test_what_an_export_or_an_evaluation_has_asked_for_is_held(ctx, sent):
    sent.asked(4).parent.mkdir()
    sent.asked(4).touch()
    sent.spooled(6).mkdir(parents=True)
    clean(ctx)
    assert sent.checkpoint_steps() == [4, 6]


def test_what_the_playground_has_loaded_is_held_while_its_process_lives(ctx, sent):
    me = identify(os.getpid())
    note = ctx.workspace.chatting(me.pid)
    durable.write_json(note, {**vars(me), "path": str(sent.checkpoint(4))})
    assert [each.why for each in clean(ctx).kept] == ["it is loaded to chat with"]
    assert sent.checkpoint_steps() == [4]
    durable.write_json(note, {**vars(me), "start_ticks": 1, "path": str(sent.checkpoint(4))})  # an earlier process
    clean(ctx)
    assert sent.checkpoint_steps() == []
    assert not note.exists()


def test_who_comes_between_the_question_and_the_deletion_wins(ctx, sent, monkeypatch):
    def prove_then_queue(*given):
        queue(ctx, RECIPE.replace("ada/base", f"run:{RUN_ID}@step-2"))
        monkeypatch.setattr(cleaning, "prove", real)
        return real(*given)

    real = cleaning.prove
    monkeypatch.setattr(cleaning, "prove", prove_then_queue)
    done = clean(ctx)
    assert sent.checkpoint_steps() == [2]
    assert "needs it" in done.kept[-1].why


# Resume loses nothing by it.


def test_a_run_that_can_go_on_keeps_where_it_goes_on_from_unless_the_hub_has_that_too(ctx, hub):
    job = add_run(ctx, hub, state="stopped", resume_of=())
    done = clean(ctx)
    assert job.checkpoint_steps() == [6]
    assert "a resume begins with it" in done.kept[0].why
    assert run_service.resume_blocked(ctx, RUN_ID) == ""


def test_resume_names_the_cure_and_never_goes_on_from_an_older_one(ctx, hub):
    job = add_run(ctx, hub, state="lost")
    queue(ctx, RECIPE.replace("ada/base", f"run:{RUN_ID}@step-4"))  # step 4 stays
    clean(ctx)
    assert job.checkpoint_steps() == [4]
    blocked = run_service.resume_blocked(ctx, RUN_ID)
    assert f"codex-space runs fetch {RUN_ID} 6" in blocked
    with pytest.raises(RunError, match="on the Hub only"):
        run_service.resume(ctx, RUN_ID)
    with pytest.raises(TrainingError, match="on the Hub only"):  # whatever way it was queued
        resume_point.require_newest(job)
    bring_back(ctx, RUN_ID, 6)
    assert resume_point.require_newest(job) == 6
    run_service.resume(ctx, RUN_ID)


def test_weights_alone_are_no_place_to_go_on_from(ctx, hub):
    job = add_run(ctx, hub, state="stopped")
    clean(ctx)
    bring_back(ctx, RUN_ID, 2)
    assert job.checkpoint_steps() == [2]
    assert resume_point.newest(job) == 0
    assert "step 6" in run_service.resume_blocked(ctx, RUN_ID)
    bring_back(ctx, RUN_ID, 6)
    assert run_service.resume_point(ctx, RUN_ID) == 6


def test_weights_that_lie_ahead_of_a_run_are_not_put_in_its_way(ctx, hub):
    job = add_run(ctx, hub, state="stopped", resume_of=())
    shutil.rmtree(job.checkpoint(6))
    with pytest.raises(RunError, match="train over it"):
        bring_back(ctx, RUN_ID, 6)
    assert job.checkpoint_steps() == [2, 4]


# Links.


def test_links_lead_nowhere(ctx, sent, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(sent.checkpoint(4), outside / "checkpoint-4")
    shutil.rmtree(sent.checkpoint(4))
    sent.checkpoint(4).symlink_to(outside / "checkpoint-4")
    (sent.checkpoint(2) / "more").symlink_to(outside)
    for name in ("tokens-abcdefgh", "tmpabcdefgh"):
        (ctx.workspace.root / name).symlink_to(outside)
    (sent.root / "cache").symlink_to(outside)
    (sent.root / ".removed-checkpoint-9").symlink_to(outside)
    (ctx.workspace.runs / OTHER_RUN_ID).symlink_to(outside)
    (outside / ".removed-checkpoint-1").mkdir()
    (outside / ".checkpoint-1.fetch").mkdir()
    (ctx.workspace.datasets / ".deleted-abc").symlink_to(outside)
    for path in outside.iterdir():
        os.utime(path, (1, 1))
    before = sorted(str(path) for path in outside.rglob("*"))
    done = clean(ctx, *cleaning.KINDS)
    assert sorted(str(path) for path in outside.rglob("*")) == before
    assert [item.step for item in done.removed] == [6]
    assert sent.checkpoint(2).is_dir()


# Scratch and caches.


def test_what_a_killed_program_left_goes_and_what_a_live_one_uses_stays(ctx, sent):
    living = Scratch(ctx.workspace.root, "tokens")
    (Path(living.name) / "rows.parquet").write_bytes(b"x" * 9000)
    os.utime(living.name, (1, 1))
    killed = subprocess.run(
        [sys.executable, "-c", "import os, sys; from pathlib import Path; from codex_space.core.scratch import Scratch; "
         "s = Scratch(Path(sys.argv[1]), 'check'); print(s.name, flush=True); os.kill(os.getpid(), 9)", ctx.workspace.root],
        capture_output=True, text=True, check=False, cwd=REPO,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    os.utime(left, (NOW, NOW))
    assert not [item for item in cleaning.plan(ctx).items if item.kind == "scratch"]  # too young to be sure
    os.utime(left, (1, 1))
    mine = ctx.workspace.root / "tokens-of-mine"
    mine.mkdir()
    os.utime(mine, (1, 1))
    done = clean(ctx, "scratch")
    assert [item.path for item in done.removed] == [left]
    assert Path(living.name).is_dir()
    assert mine.is_dir()
    living.cleanup()


def test_caches_of_runs_that_may_go_on_stay(ctx, sent):
    for name in ("cache", "merged", "base"):
        (sent.root / name).mkdir()
        (sent.root / name / "x").write_bytes(b"x" * 9000)
    end(ctx, "failed")
    assert [item.path.name for item in clean(ctx, "caches").removed] == ["merged"]
    end(ctx, "succeeded")
    assert [item.path.name for item in clean(ctx, "caches").removed] == ["cache"]
    assert (sent.root / "base" / "x").is_file()


def test_tokens_go_whole_and_stay_while_a_run_reads_them(ctx, sent, monkeypatch):
    read, idle = ctx.workspace.tokens / ("a" * 32), ctx.workspace.tokens / ("b" * 32)
    lock = share(read)
    os.close(share(idle))
    for folder in (read, idle):
        (folder / "00000.bin").write_bytes(b"x" * 9000)
    assert {kept.name: kept.why for kept in cleaning.plan(ctx).kept}["tokens aaaaaaaa"] == "a run reads it"
    assert [item.path for item in clean(ctx, "caches", dry_run=True).removed] == [idle]
    assert [item.path for item in clean(ctx, "caches").removed] == [idle]
    assert not idle.exists()
    os.close(lock)
    with monkeypatch.context() as patch:  # killed once it has begun to delete
        patch.setattr(shutil, "rmtree", lambda path, **_: None if not path.exists() else os._exit(9))
        child = os.fork()
        if not child:
            clean(ctx, "caches")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = ctx.workspace.root / "tokens-aaaaaaaa"
    assert (left / "00000.bin").is_file()
    assert not read.exists()
    os.utime(left, (1, 1))
    assert [item.path for item in clean(ctx, "scratch").removed] == [left]


def test_tokens_that_cannot_leave_their_place_stay_and_say_why(ctx, sent):
    idle = ctx.workspace.tokens / ("b" * 32)
    os.close(share(idle))
    (ctx.workspace.root / "tokens-bbbbbbbb").write_text("in the way, and no folder")
    found = clean(ctx, "caches")
    assert "cannot be moved" in {kept.name: kept.why for kept in found.kept}["tokens bbbbbbbb"]
    assert idle.is_dir()


def test_an_unknown_kind_and_a_second_clean_up_are_refused(ctx, sent):
    with pytest.raises(WorkspaceError, match="nothing to clean"):
        clean(ctx, "datasets")
    with held(ctx.workspace.runs), pytest.raises(WorkspaceError, match="another clean-up"):
        clean(ctx)
    assert sent.checkpoint_steps() == [2, 4, 6]


def cached_model(ctx, hub, repo_id="ada/base"):
    """A model in the Hub client's cache as that keeps it: blobs, and links to them by revision."""
    commit = hub.state.put("models", repo_id, {"config.json": "{}"})
    folder = ctx.settings.hub_cache / f"models--{repo_id.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "abc").write_bytes(b"x" * 9000)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/abc")
    age(folder)
    return folder


def age(folder):
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)


@pytest.fixture
def on_space(tmp_path, hub):
    env = {"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    env |= {"SPACE_ID": "ada/space", "SYSTEM": "spaces", "HF_HOME": str(tmp_path / "hf")}
    context = open_context(read_settings(env), lambda: NOW, own=False)
    yield context
    context.close()


def test_downloaded_models_go_on_a_space_where_the_hub_still_gives_them(on_space, hub):
    kept, gone = cached_model(on_space, hub, "ada/gone"), cached_model(on_space, hub)
    del hub.state.repos["models/ada/gone"]
    (on_space.settings.hub_cache / "version.txt").write_text("1")
    done = clean(on_space, "models")
    assert [item.name for item in done.removed] == ["ada/base"]
    assert done.size_bytes >= 9000
    assert "does not give it any more" in done.kept[0].why
    assert kept.is_dir()
    assert not gone.exists()
    assert sorted(path.name for path in on_space.settings.hub_cache.iterdir()) == [kept.name, "version.txt"]


@pytest.mark.parametrize("how", ["queued", "chat", "young", "usual", "link", "busy", "revision"])
def test_downloaded_models_stay_where_somebody_may_need_them(on_space, hub, tmp_path, how):
    folder, kinds = cached_model(on_space, hub), ("models",)
    if how == "queued":
        queue(on_space, RECIPE)
    elif how == "chat":
        durable.write_json(on_space.workspace.chatting(1), {**vars(identify(os.getpid())), "path": "ada/base"})
    elif how == "young":
        os.utime(folder / "blobs", (NOW, NOW))
    elif how == "usual":
        kinds = cleaning.USUAL
    elif how == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif how == "revision":
        hub.state.repos["models/ada/base"]["commits"].clear()
        hub.state.put("models", "ada/base", {"config.json": "[]"})
    if how == "busy":
        hub.fail("", status=503, times=99)
        with pytest.raises(HubBusyError):
            clean(on_space, *kinds)
    else:
        clean(on_space, *kinds)
    assert (folder / "blobs" / "abc").is_file()


def test_the_cache_of_a_machine_of_ones_own_is_shared_and_not_offered(ctx, hub, tmp_path, monkeypatch):
    monkeypatch.setitem(ctx.settings.environ, "HF_HOME", str(tmp_path / "hf"))
    folder = cached_model(ctx, hub)
    assert not [item for item in cleaning.plan(ctx).items if item.kind == "models"]
    clean(ctx, "models")
    assert folder.is_dir()


# Killed in between.


@pytest.mark.parametrize("at", ["take", "delete_taken", "rmtree", "set_on_disk"])
def test_killed_at_any_point_rows_and_folders_agree_afterwards(ctx, sent, monkeypatch, at):
    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "rmtree":
            real = shutil.rmtree

            def half(path, **options):
                if not Path(path).name.startswith(".removed") or not Path(path).exists():
                    return real(path, **options)
                for file in list(Path(path).iterdir())[:3]:
                    file.unlink()
                raise KeyboardInterrupt

            patch.setattr(shutil, "rmtree", half)
        elif at == "set_on_disk":
            patch.setattr(checkpoints, "set_on_disk", die)
        else:
            patch.setattr(away, at, die)
        with pytest.raises(KeyboardInterrupt):
            clean(ctx, "checkpoints")
    away.settle(ctx.db, ctx.workspace)
    here = sent.checkpoint_steps()
    assert rows(ctx) == {step: step in here for step in (2, 4, 6)}
    assert not list(sent.root.glob(".removed-*"))
    assert 6 in here
    gone = {2, 4} - set(here)
    assert set(sent.away_steps()) == gone
    for step in gone:
        bring_back(ctx, RUN_ID, step)
    assert sent.checkpoint_steps() == [2, 4, 6]


def test_a_real_kill_in_the_middle_leaves_every_checkpoint_whole_or_gone(ctx, hub):
    steps = tuple(range(2, 42, 2))
    job = add_run(ctx, hub, steps=steps, resume_of=(40,))
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_write"}
    line = [sys.executable, "-m", "codex_space", "workspace", "clean", "--workspace", str(ctx.workspace.root)]
    process = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPO)
    deadline = time.monotonic() + 60
    while len(job.checkpoint_steps()) > 15 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    away.settle(ctx.db, ctx.workspace)
    here = job.checkpoint_steps()
    assert len(here) < 17
    assert 40 in here
    assert rows(ctx) == {step: step in here for step in steps}
    assert job.away_steps() == [step for step in steps if step not in here]
    for step in here:
        assert len(bytes_of(job.checkpoint(step))) == 8
    assert {item.step for item in clean(ctx, "checkpoints").removed} == set(here) - {40}


def test_a_full_disk_is_no_obstacle(ctx, sent, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_text", full)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert len(clean(ctx).removed) == 3
    assert sent.checkpoint_steps() == []


# Bad downloads.


def test_a_download_that_is_cut_off_leaves_nothing_that_looks_complete(ctx, sent, hub):
    clean(ctx)
    hub.fail("/resolve/.*tokenizer.json", status=404, times=99)
    with pytest.raises(HubError):
        bring_back(ctx, RUN_ID, 6)
    assert sent.checkpoint_steps() == []
    assert not rows(ctx)[6]
    assert not list(sent.root.glob("checkpoint-*"))
    hub.heal()
    bring_back(ctx, RUN_ID, 6)
    assert sent.checkpoint_steps() == [6]
    assert not list(sent.root.glob(".*.fetch"))


def test_other_bytes_than_were_removed_are_refused(ctx, sent, hub):
    clean(ctx)
    repo = hub.repo("ada/model")
    tree = repo["commits"][repo["tags"]["step-4"]]["tree"]
    content = b"other weights"
    tree["adapter_model.safetensors"] = {**hub.state.keep(content), "lfs": True}
    with pytest.raises(HubError, match="not the file that was saved"):
        bring_back(ctx, RUN_ID, 4)
    manifest = json.loads(hub.state.blob(tree[MANIFEST]["blob"]).read_text())
    fact = tree["adapter_model.safetensors"]
    manifest["files"]["adapter_model.safetensors"] = {"size": fact["size"], "sha256": fact["blob"]}
    tree[MANIFEST] = hub.state.keep(json.dumps(manifest).encode())  # a manifest that agrees with them
    with pytest.raises(HubError, match="not what was removed here"):
        bring_back(ctx, RUN_ID, 4)
    assert sent.checkpoint_steps() == []


@pytest.mark.parametrize("step", [3, 10**15])
def test_a_step_that_never_was_is_refused_with_those_that_are(ctx, sent, step):
    with pytest.raises(RunError, match="Steps on the Hub: 2, 4, 6"):
        bring_back(ctx, RUN_ID, step)


def test_a_checkpoint_that_is_nowhere_else_is_not_fetched(ctx, sent):
    checkpoints.set_upload(ctx.db, RUN_ID, 4, "failed", error="refused")
    shutil.rmtree(sent.checkpoint(4))
    with pytest.raises(RunError, match="not on the Hub"):
        bring_back(ctx, RUN_ID, 4)
    end(ctx, "running")
    with pytest.raises(RunError, match="worker would delete it"):
        bring_back(ctx, RUN_ID, 4)


def test_two_downloads_of_one_checkpoint_do_not_mix(ctx, sent):
    clean(ctx)
    staging = sent.root / ".checkpoint-4.fetch"
    staging.mkdir()
    with held(staging), pytest.raises(WorkspaceError, match="downloaded already"):
        bring_back(ctx, RUN_ID, 4)
    assert not sent.checkpoint_steps()


# The command line.


def command(ctx, *args):
    env = {**os.environ, "HF_ENDPOINT": ctx.settings.environ["HF_ENDPOINT"], "HF_TOKEN": "hf_write"}
    line = [sys.executable, "-m", "codex_space", *args, "--workspace", str(ctx.workspace.root)]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=60, cwd=REPO, check=False)


def test_the_verbs_tell_what_they_did(ctx, sent, hub):
    measured = json.loads(command(ctx, "workspace", "disk", "--hub", "--json").stdout)
    assert measured["parts"]["checkpoints"] > 0
    assert measured["may_go"]["newest"] > 0
    assert measured["hub"]["owners"]["ada"] > 0
    dry = command(ctx, "workspace", "clean", "newest", "checkpoints", "--dry-run")
    assert dry.stdout.count("would go") == 3
    told = json.loads(command(ctx, "workspace", "clean", "--json").stdout)
    assert [row["step"] for row in told["removed"]] == [2, 4]
    back = command(ctx, "runs", "fetch", RUN_ID, "2")
    assert back.stdout.startswith(f"{RUN_ID}: step 2 is here again")
    hub.fail("", status=503, times=999)
    down = command(ctx, "workspace", "clean", "newest")
    assert (down.returncode, down.stderr.count("\n")) == (1, 1)
    assert sent.checkpoint_steps() == [2, 6]
    assert command(ctx, "workspace", "clean", "everything").returncode == 1
    assert command(ctx, "runs", "fetch", RUN_ID, "-1").returncode == 2


def test_nothing_here_is_an_exception_of_pythons_own(ctx, sent):
    for damage in ("", "{", '{"schema": 1}', "[]"):
        (sent.checkpoint(4) / MANIFEST).write_text(damage)
        assert 4 not in [item.step for item in clean(ctx, "checkpoints", dry_run=True).removed]
    start = time.monotonic()
    with pytest.raises(CodexError):
        bring_back(ctx, "no such run", 4)
    assert time.monotonic() - start < 5
