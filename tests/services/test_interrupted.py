"""Runs that lost their machine: what is noted, what is found again, who may take it up, and why one cannot go on."""

import dataclasses
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from codex_space.core import durable
from codex_space.core.errors import HubError, RunError
from codex_space.core.events import EventWriter
from codex_space.core.paths import Workspace
from codex_space.core.recipe import parse_recipe
from codex_space.core.settings import read_settings
from codex_space.hub import parents
from codex_space.hub.push import push_checkpoint
from codex_space.hub.registry import NAME, Registry
from codex_space.jobs.announce import Announcer, make_holder
from codex_space.jobs.launch import launch_facts
from codex_space.jobs.parents import has_to_wait
from codex_space.jobs.uploads import Uploader
from codex_space.services import from_hub
from codex_space.services.context import Context
from codex_space.services.interrupted import MAX_RISES, Interruptions
from codex_space.store import checkpoints, runs
from codex_space.store.db import Database
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID, TOKENIZER_ID, write_checkpoint, write_tokenizer

PRETRAIN = (
    "schema: 1\nkind: pretrain\nname: first\narchitecture: tiny\ntokenizer: 'TOKENIZER'\n"
    "datasets: [{path: 'builtin:python-stdlib'}]\nhub: {repo_id: ada/model, keep_rows: true}\n"
)
ROWS = RECIPE.replace("{repo_id: ada/model}", "{repo_id: ada/model, keep_rows: true}")


class Machine:
    """One workspace on one machine, with its announcer and a clock that moves when told."""

    def __init__(self, root, hub, **environ):
        self.hub = hub
        given = {"HF_TOKEN": "hf_write", "HF_ENDPOINT": hub.endpoint, "CODEX_SPACE_HOLDER": "pc", **environ}
        self.settings = read_settings({"CODEX_SPACE_HOME": str(root), **given})
        self.workspace = Workspace(root).make()
        self.db = Database.open(self.workspace.database)
        self.now = 1_764_000_000.0
        self.ctx = Context(self.settings, self.workspace, self.db, lambda: self.now)
        self.announcer = Announcer(self.db, self.workspace, self.ctx.hub, self.settings)
        self.interruptions = Interruptions(self.ctx)

    def train(self, *, recipe=ROWS, step=6, state="running", rows=True):
        """Do what submit, worker, supervisor and uploader do up to a checkpoint of that step."""
        job = self.workspace.job(RUN_ID)
        job.root.mkdir()
        job.recipe.write_text(recipe)
        job.launch.write_text(json.dumps({"num_threads": 3}))
        runs.insert_run(
            self.db, id=RUN_ID, name="renamed", kind="sft", recipe=recipe, repo_id="ada/model", now=self.now
        )
        for to in {"running": ("preflight", "running"), "lost": ("preflight", "lost")}.get(state, ()):
            runs.change_state(self.db, RUN_ID, to, now=self.now)
        self.hub.client().make_repo("ada/model", private=True)
        if step:
            self.checkpoint(step, recipe)
        if rows:
            self.push_rows(job)
        return job

    def checkpoint(self, step, recipe=ROWS):
        job = self.workspace.job(RUN_ID)
        with EventWriter(job.events) as events:
            events.write("attempt", 1.0, attempt=1, resumed_from_step=0)
            events.write("ready", 1.0, max_steps=20)
            for each in range(1, step + 2):
                events.write("log", 1.0 + each, step=each, metrics={"loss": 1.0 / each})
            events.write("checkpoint", 9.0, step=step, size_bytes=5, metrics={})
        folder = write_checkpoint(job.checkpoint(step), step)
        commit = push_checkpoint(
            self.hub.client(), folder, repo_id="ada/model", card="# x\n", recipe_text=recipe, with_resume=True
        )
        checkpoints.add_checkpoint(self.db, RUN_ID, step, created_at=1.0, size_bytes=5, metrics={}, upload="queued")
        checkpoints.set_upload(self.db, RUN_ID, step, "uploaded", commit_id=commit)

    def push_rows(self, job):
        from codex_space.hub.fetch import push_rows

        job.rows.mkdir()
        (job.rows / "train.parquet").write_bytes(b"rows")
        (job.rows / "prepared.json").write_text("{}")
        push_rows(self.hub.client(), job.rows, repo_id="ada/model", run_id=RUN_ID)

    def tell(self, seconds=0.0):
        self.now += seconds
        self.announcer.step(self.now)

    def run(self):
        return runs.read_run(self.db, RUN_ID)

    def look(self):
        self.interruptions.look()
        return {one.run_id: one for one in self.interruptions.found()}

    def close(self):
        self.db.close()


@pytest.fixture
def machine(tmp_path, hub):
    made = []

    def make(name="one", **environ):
        made.append(Machine(tmp_path / name, hub, **environ))
        return made[-1]

    yield make
    for one in made:
        one.close()


def noted(hub):
    return Registry(hub.client(), "ada").read().entries


def test_a_queued_run_is_noted_before_it_has_any_checkpoint(machine, hub):
    here = machine()
    here.train(step=0, state="queued", rows=False)
    here.tell()
    entry = noted(hub)[RUN_ID]
    assert (entry.state, entry.step, entry.keep_rows, entry.repo_id) == ("queued", 0, True, "ada/model")
    assert (entry.holder.name, entry.holder.is_released, entry.num_threads) == ("pc", False, 3)


def test_nothing_new_asks_the_hub_nothing_until_the_next_heartbeat(machine, hub):
    here = machine()
    here.train()
    here.tell()
    before = len(hub.state.requests)
    here.tell(200)
    assert len(hub.state.requests) == before
    here.tell(100)
    assert noted(hub)[RUN_ID].holder.at == here.now


def test_the_note_says_when_the_run_has_ended(machine, hub):
    here = machine()
    here.train()
    here.tell()
    runs.change_state(here.db, RUN_ID, "succeeded", now=here.now)
    here.tell()
    assert noted(hub) == {}
    assert f"ended/{RUN_ID}.json" in hub.state.files("datasets", f"ada/{NAME}")
    before = len(hub.state.requests)
    here.tell(1000)
    assert len(hub.state.requests) == before


def test_a_deleted_run_is_not_looked_for_any_more(machine, hub):
    here = machine()
    here.train(state="lost")
    runs.change_state(here.db, RUN_ID, "queued", now=here.now)
    here.tell()
    runs.delete_run(here.db, RUN_ID)
    here.tell()
    assert noted(hub) == {}


def test_no_token_of_ours_and_no_path_stands_in_a_note(machine, hub, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    here = machine()
    here.train(recipe=ROWS.replace("sample:python-first-chat", str(tmp_path / "rows.jsonl")), step=0, rows=False)
    here.tell()
    for content in hub.state.files("datasets", f"ada/{NAME}").values():
        assert b"hf_write" not in content
        assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"how": "drop"}])
def test_a_hub_that_is_down_delays_the_note(machine, hub, fault):
    here = machine()
    here.train()
    hub.fail("/codex-space-runs/commit/", times=1, **fault)
    here.tell()
    assert noted(hub) == {}
    here.tell(1)
    assert noted(hub) == {}
    here.tell(10)
    assert RUN_ID in noted(hub)


def test_a_token_that_may_not_make_the_dataset_is_a_log_line_and_nothing_else(machine, hub, caplog):
    hub.state.users["hf_one"] = {"name": "ada", "role": "fineGrained", "orgs": [], "writes": ["ada/model"]}
    here = machine(HF_TOKEN="hf_one")
    here.train()
    here.tell()
    assert "an empty machine will not find these runs" in caplog.text
    asked = len(hub.state.requests)
    here.tell(100)
    assert len(hub.state.requests) == asked


def test_an_empty_machine_of_the_same_space_finds_its_run_and_goes_on(machine, hub):
    space = {"SPACE_ID": "ada/space", "CODEX_SPACE_HOLDER": "", "SYSTEM": "spaces"}
    gone = machine("gone", **space)
    gone.train()
    gone.tell()
    found = machine("found", **space)
    one = found.look()[RUN_ID]
    assert (one.where, one.step, one.blocked, one.is_own) == ("hub", 6, "", True)
    run = found.interruptions.go_on(RUN_ID, by_itself=True)
    job = found.workspace.job(RUN_ID)
    assert (run.state, run.name, run.repo_id) == ("queued", "renamed", "ada/model")
    assert job.checkpoint_steps() == [6]
    assert json.loads(job.launch.read_text())["num_threads"] == 3
    assert (job.rows / "train.parquet").read_bytes() == b"rows"
    assert run.attempt == 1
    from codex_space.store.metrics import last_step

    assert last_step(found.db, RUN_ID, "loss") == 7  # the curve from before
    assert [(row.step, row.upload) for row in checkpoints.list_checkpoints(found.db, RUN_ID)] == [(6, "uploaded")]
    assert noted(hub)[RUN_ID].holder.workspace != ""
    assert noted(hub)[RUN_ID].rises == (6, 1)
    found.tell()
    assert noted(hub)[RUN_ID].state == "queued"


def test_the_old_container_lets_go_of_what_the_new_one_took_up(machine, hub):
    space = {"SPACE_ID": "ada/space", "CODEX_SPACE_HOLDER": "", "SYSTEM": "spaces"}
    old = machine("old", **space)
    old.train()
    old.tell()
    new = machine("new", **space)
    new.look()
    new.interruptions.go_on(RUN_ID)
    old.tell(300)
    assert (old.run().state, old.run().intent) == ("stopping", "yield")
    new.now = old.now
    new.tell()
    assert new.run().state == "queued"


def test_another_machine_waits_until_the_first_has_been_silent(machine, hub):
    first, second = machine("first", CODEX_SPACE_HOLDER="one"), machine("second", CODEX_SPACE_HOLDER="two")
    first.train()
    first.tell()
    assert second.look() == {}
    second.now += 899
    assert second.look() == {}
    second.now += 2
    one = second.look()[RUN_ID]
    assert not one.is_own  # a person's to say
    assert "one, last heard of 15 minutes ago" in one.told
    second.interruptions.go_on(RUN_ID)
    assert noted(hub)[RUN_ID].holder.name == "two"


def test_two_that_look_at_once_do_not_both_take_it_up(machine, hub):
    first = machine("first")
    first.train()
    first.tell()
    second, third = machine("second"), machine("third")
    for one in (second, third):
        one.now += 1000
        assert RUN_ID in one.look()
    second.interruptions.go_on(RUN_ID)
    with pytest.raises(RunError, match="pc trains it"):
        third.interruptions.go_on(RUN_ID)
    assert not runs.list_runs(third.db)


def test_a_claim_that_meets_another_is_refused_by_the_hub(machine, hub, monkeypatch):
    first = machine("first")
    first.train()
    first.tell()
    second, third = machine("second"), machine("third")
    for one in (second, third):
        one.now += 1000
        one.look()
    write = Registry.write

    def be_overtaken(self, seen, *args, **kwargs):
        monkeypatch.setattr(Registry, "write", write)
        second.interruptions.go_on(RUN_ID)
        return write(self, seen, *args, **kwargs)

    monkeypatch.setattr(Registry, "write", be_overtaken)
    with pytest.raises(Exception, match="tried again"):
        third.interruptions.go_on(RUN_ID)
    assert not runs.list_runs(third.db)
    assert runs.read_run(second.db, RUN_ID).state == "queued"


def test_a_run_whose_machine_let_go_of_it_is_found_at_once(machine, hub):
    first = machine("first")
    first.train(state="queued")
    first.tell()
    runs.change_state(first.db, RUN_ID, "preflight", now=first.now)
    runs.change_state(first.db, RUN_ID, "lost", now=first.now)
    first.tell()
    assert "let go of it" in machine("second").look()[RUN_ID].told


def test_rows_that_were_not_kept_are_the_reason(machine, hub):
    first = machine("first")
    first.train(recipe=RECIPE, rows=False)
    first.tell()
    second = machine("second")
    second.now += 1000
    assert second.look()[RUN_ID].blocked == "its rows were not kept on the Hub"
    with pytest.raises(RunError, match="rows were not kept"):
        second.interruptions.go_on(RUN_ID)


def test_rows_that_were_to_be_kept_and_are_not_there_give_the_run_back(machine, hub):
    first = machine("first")
    first.train(rows=False)
    first.tell()
    second = machine("second")
    second.now += 1000
    second.look()
    with pytest.raises(RunError, match="rows were not kept"):
        second.interruptions.go_on(RUN_ID)
    assert noted(hub)[RUN_ID].holder.is_released
    assert not runs.list_runs(second.db)


def test_without_a_checkpoint_it_begins_anew_where_its_data_can_be_had(machine, hub):
    first = machine("first")
    first.train(step=0, rows=False)
    first.tell()
    second = machine("second")
    second.now += 1000
    assert second.look()[RUN_ID].step == 0
    run = second.interruptions.go_on(RUN_ID)
    assert run.state == "queued"
    assert second.workspace.job(RUN_ID).recipe.is_file()


def test_without_a_checkpoint_and_without_its_file_it_cannot_go_on(machine, hub, tmp_path):
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    first = machine("first")
    first.train(recipe=ROWS.replace("sample:python-first-chat", str(rows)), step=0, rows=False)
    first.tell()
    second = machine("second")
    second.now += 1000
    assert "no checkpoint of it had reached the Hub" in second.look()[RUN_ID].blocked


def test_a_run_that_ends_the_machine_each_time_is_left_alone(machine, hub):
    space = {"SPACE_ID": "ada/space", "CODEX_SPACE_HOLDER": "", "SYSTEM": "spaces"}
    first = machine("first", **space)
    first.train()
    first.tell()
    for number in range(MAX_RISES):
        again = machine(f"again-{number}", **space)
        assert again.look()[RUN_ID].is_own
        again.interruptions.go_on(RUN_ID, by_itself=True)
    last = machine("last", **space)
    one = last.look()[RUN_ID]
    assert not one.is_own
    assert "3 times without getting further" in one.told
    last.interruptions.go_on(RUN_ID)  # a person may
    assert noted(hub)[RUN_ID].rises == (0, 0)


def test_a_lost_run_of_this_workspace_is_offered_and_goes_on(machine, hub):
    here = machine()
    here.train(state="lost")
    one = here.look()[RUN_ID]
    assert (one.where, one.step, one.blocked) == ("here", 6, "")
    here.interruptions.go_on(RUN_ID, by_itself=True)
    (wish,) = runs.take_wishes(here.db)
    assert (wish.run_id, wish.verb) == (RUN_ID, "resume")
    assert json.loads(here.workspace.job(RUN_ID).rises.read_text()) == {"step": 6, "times": 1}


def test_a_lost_run_whose_folder_is_gone_says_so(machine, hub):
    here = machine()
    here.train(state="lost")
    shutil.rmtree(here.workspace.job(RUN_ID).root)
    assert here.look()[RUN_ID].blocked == "its folder is gone from this machine"
    with pytest.raises(RunError, match="folder is gone"):
        here.interruptions.go_on(RUN_ID)


def test_a_run_that_was_lost_long_ago_is_not_offered(machine, hub):
    here = machine()
    here.train(state="lost")
    here.now += 8 * 86_400
    assert here.look() == {}


def test_off_neither_tells_nor_asks_the_hub(machine, hub):
    here = machine(CODEX_SPACE_RESUME="off")
    assert here.look() == {}
    assert hub.state.requests == []


def test_a_run_from_the_hub_by_name_takes_it_from_whoever_holds_it(machine, hub):
    first = machine("first", CODEX_SPACE_HOLDER="one")
    first.train()
    first.tell()
    second = machine("second", CODEX_SPACE_HOLDER="two")
    run = from_hub.resume_from_hub(second.ctx, "ada/model")
    assert run.name == "renamed"
    assert noted(hub)[RUN_ID].holder.name == "two"
    second.tell()
    assert second.run().state == "queued"
    first.tell(300)
    assert first.run().intent == "yield"


def test_a_run_unknown_to_the_notes_is_refused(machine, hub):
    with pytest.raises(RunError, match="not among"):
        machine().interruptions.go_on(RUN_ID)


def test_a_note_that_names_a_recipe_we_cannot_read_says_so(machine, hub):
    first = machine("first")
    first.train()
    first.tell()
    registry = Registry(hub.client(), "ada")
    seen = registry.read()
    registry.write(seen, [dataclasses.replace(seen.entries[RUN_ID], recipe="kind: sorcery\n")])
    second = machine("second")
    second.now += 1000
    assert second.look()[RUN_ID].blocked
    assert not list(second.workspace.runs.iterdir())


def test_a_run_that_trains_as_a_job_is_not_noted_and_the_hub_is_not_asked_again(machine, hub):
    here = machine()
    here.train(recipe=ROWS + "launch: {where: hf-jobs}\n", step=0, state="queued", rows=False)
    here.tell()
    assert noted(hub) == {}
    before = len(hub.state.requests)
    here.tell(1)
    assert len(hub.state.requests) == before


def test_a_note_in_somebody_elses_organisation_starts_nothing_by_itself(machine, hub):
    """Whoever may write there could leave one under this machine's name."""
    there = machine("there")
    there.train()
    there.tell()
    hub.state.users["hf_bob"] = {"name": "bob", "role": "write", "orgs": ["ada"]}
    for environ, is_own in (({}, False), ({"SPACE_ID": "ada/space", "SYSTEM": "spaces"}, True)):
        here = machine(f"here-{is_own}", HF_TOKEN="hf_bob", CODEX_SPACE_HOLDER="pc", **environ)
        here.now = there.now + 901
        assert here.look()[RUN_ID].is_own is is_own


@pytest.mark.parametrize("ref", ["", "@step-10"])
def test_a_run_on_another_run_brings_that_ones_checkpoint_along(machine, hub, ref):
    gone = machine("gone")
    base = trained_base(gone, hub)
    gone.train(recipe=ROWS.replace("ada/base", f"'run:{OTHER_RUN_ID}{ref}'"), rows=False)
    push_rows_of(gone, {f"run:{OTHER_RUN_ID}{ref}": str(base)})
    gone.tell(1)
    found, _ = goes_on_elsewhere(machine, f"run:{OTHER_RUN_ID}{ref}", base)
    assert found.workspace.job(OTHER_RUN_ID).checkpoint_steps() == [10]


@pytest.mark.parametrize("ref", ["", "@step-0"])
def test_a_pretraining_run_brings_its_tokenizer_along(machine, hub, ref):
    gone = machine("gone")
    words = learnt_tokenizer(gone)
    ref = f"run:{TOKENIZER_ID}{ref}"
    gone.train(recipe=PRETRAIN.replace("TOKENIZER", ref), rows=False)
    push_rows_of(gone, {ref: str(words)})
    gone.tell(1)
    found, brought = goes_on_elsewhere(machine, ref, words)
    push_rows_of(found, {ref: str(brought)})  # and from there to a third machine, though no row tells of the tokenizer
    assert parents.tokenizer_files(brought).keys() <= hub.state.files("datasets", "ada/model-rows", RUN_ID).keys()


@pytest.mark.parametrize("step", [0, 6])
def test_a_tokenizer_that_went_with_its_machine_is_said_before_anything_is_queued(machine, hub, step):
    gone = machine("gone")
    learnt_tokenizer(gone)
    gone.train(recipe=PRETRAIN.replace("TOKENIZER", f"run:{TOKENIZER_ID}"), step=step, rows=bool(step))
    gone.tell(1)
    found = machine("found")
    found.now += 1e6
    assert bool(found.look()[RUN_ID].blocked) == (step == 0)
    with pytest.raises(RunError, match=rf"the run it builds on, {TOKENIZER_ID}, is not here"):
        found.interruptions.go_on(RUN_ID)
    assert runs.list_runs(found.db) == []
    runs.insert_run(
        found.db, id=TOKENIZER_ID, name="w", kind="tokenizer", recipe=PRETRAIN, repo_id=None, now=1.0
    )  # it is there and still to train
    found.look()
    assert found.interruptions.go_on(RUN_ID).state == "queued"


def test_the_note_of_what_a_run_builds_on_follows_the_upload_of_that(machine, hub):
    gone = machine("gone")
    base = trained_base(gone, hub)
    ref = f"run:{OTHER_RUN_ID}"
    commit = checkpoints.list_checkpoints(gone.db, OTHER_RUN_ID)[0].commit_id
    checkpoints.set_upload(gone.db, OTHER_RUN_ID, 10, "failed")
    gone.train(recipe=ROWS.replace("ada/base", ref), rows=False)
    push_rows_of(gone, {ref: str(base)})
    assert parents.read_parents(hub.client(), "ada/model", RUN_ID) == []
    checkpoints.set_upload(gone.db, OTHER_RUN_ID, 10, "uploaded", commit_id=commit)
    save(gone, 9)
    (told,) = parents.read_parents(hub.client(), "ada/model", RUN_ID)
    assert (told.run_id, told.step, told.commit_id) == (OTHER_RUN_ID, 10, commit)
    runs.delete_run(gone.db, OTHER_RUN_ID)  # what is known on the Hub is not forgotten with the row here
    save(gone, 12)
    assert parents.read_parents(hub.client(), "ada/model", RUN_ID) == [told]


def test_a_disk_that_takes_nothing_ends_no_watch(machine, hub, caplog):
    gone = machine("gone")
    gone.train(state="lost")
    gone.tell(1)
    found = machine("found")
    found.now += 1e6
    found.look()
    found.workspace.job(RUN_ID).root.write_text("a file where the folder is to be")
    found.interruptions._try(RUN_ID)
    assert "does not go on by itself" in caplog.text


def test_a_note_adds_nothing_to_a_run_of_this_workspace(machine, hub):
    gone = machine("gone")
    base = trained_base(gone, hub)
    gone.train(recipe=ROWS.replace("ada/base", f"run:{OTHER_RUN_ID}"), rows=False)
    push_rows_of(gone, {f"run:{OTHER_RUN_ID}": str(base)})
    gone.tell(1)
    found = machine("found")
    runs.insert_run(found.db, id=OTHER_RUN_ID, name="b", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    found.now += 1e6
    found.look()
    found.interruptions.go_on(RUN_ID)
    assert not found.workspace.job(OTHER_RUN_ID).root.exists()


def test_a_base_that_has_left_the_hub_is_said_before_anything_is_queued(machine, hub):
    gone = machine("gone")
    base = trained_base(gone, hub)
    gone.train(recipe=ROWS.replace("ada/base", f"run:{OTHER_RUN_ID}"), rows=False)
    push_rows_of(gone, {f"run:{OTHER_RUN_ID}": str(base)})
    gone.tell(1)
    del hub.state.repos["models/ada/parent"]
    found = machine("found")
    found.now += 1e6
    found.look()
    with pytest.raises(HubError, match="ada/parent"):
        found.interruptions.go_on(RUN_ID)
    assert runs.list_runs(found.db) == []


def trained_base(here, hub):
    """Give a machine a run that has ended and whose checkpoint is on the Hub."""
    folder = write_checkpoint(here.workspace.job(OTHER_RUN_ID).checkpoint(10), 10, run_id=OTHER_RUN_ID)
    hub.client().make_repo("ada/parent", private=True)
    commit = push_checkpoint(hub.client(), folder, repo_id="ada/parent", card="#", recipe_text=RECIPE, with_resume=True)
    runs.insert_run(here.db, id=OTHER_RUN_ID, name="b", kind="sft", recipe=RECIPE, repo_id="ada/parent", now=1.0)
    for state in ("preflight", "running", "succeeded"):
        runs.change_state(here.db, OTHER_RUN_ID, state, now=1.0)
    checkpoints.add_checkpoint(here.db, OTHER_RUN_ID, 10, created_at=1.0, size_bytes=5, metrics={}, upload="queued")
    checkpoints.set_upload(here.db, OTHER_RUN_ID, 10, "uploaded", commit_id=commit)
    return folder


def push_rows_of(here, references):
    """Let the uploader push the rows of a run that was launched on those checkpoints, with its next checkpoint."""
    job = here.workspace.job(RUN_ID)
    job.launch.write_text(json.dumps({"num_threads": 3, "references": references}))
    job.rows.mkdir(exist_ok=True)
    (job.rows / "train.parquet").write_bytes(b"rows")
    (job.rows / "prepared.json").write_text("{}")
    save(here, 8)


def save(here, step):
    job = here.workspace.job(RUN_ID)
    shutil.rmtree(job.checkpoint(step), ignore_errors=True)
    write_checkpoint(job.checkpoint(step), step)
    checkpoints.add_checkpoint(here.db, RUN_ID, step, created_at=2.0, size_bytes=5, metrics={}, upload="queued")
    checkpoints.set_upload(here.db, RUN_ID, step, "queued")
    Uploader(here.db, here.workspace, here.ctx.hub, spool_budget_bytes=1 << 30).step(here.now)
    assert (durable.read_json(job.rows_upload) or {})["error"] == ""


def goes_on_elsewhere(machine, ref, made):
    """Let another machine take the run up, with all that it builds on; return that machine and the folder brought."""
    found = machine("found")
    found.now += 1e6
    found.look()
    run = found.interruptions.go_on(RUN_ID)
    brought = found.workspace.job(made.parent.name).root / made.name
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }
    recipe = parse_recipe(run.recipe)
    assert not has_to_wait(found.db, found.workspace, run, recipe)
    facts = launch_facts(recipe, found.workspace, found.workspace.job(RUN_ID), attempt=2)
    assert facts["references"] == {ref: str(brought)}
    return found, brought


def learnt_tokenizer(here):
    """Give a machine a tokenizer run that has ended."""
    folder = write_tokenizer(here.workspace.job(TOKENIZER_ID).checkpoint(0))
    runs.insert_run(here.db, id=TOKENIZER_ID, name="w", kind="tokenizer", recipe=PRETRAIN, repo_id=None, now=1.0)
    for state in ("preflight", "running", "succeeded"):
        runs.change_state(here.db, TOKENIZER_ID, state, now=1.0)
    checkpoints.add_checkpoint(here.db, TOKENIZER_ID, 0, created_at=1.0, size_bytes=5, metrics={}, upload="none")
    return folder


def test_a_workspace_gives_itself_one_name_whoever_asks_first(machine):
    here = machine()
    both = threading.Barrier(8, timeout=30)

    def name(_):
        both.wait()
        return make_holder(here.settings, here.workspace, 1.0).workspace

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(name, range(8)))) == 1
