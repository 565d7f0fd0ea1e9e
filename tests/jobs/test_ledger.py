"""What a Space has spent outlives its disk, and a cap is not passed by starting anew."""

import json
import shutil

import pytest

from codex_space.core.errors import CodexError
from codex_space.core.paths import Workspace
from codex_space.core.settings import read_settings
from codex_space.hub.registry import NAME
from codex_space.jobs.ledger import IDLE_EVERY_S, Ledger, parse, render
from codex_space.jobs.spending import Spending
from codex_space.services import backup, money, runs
from codex_space.services.context import open_context
from codex_space.store import costs, facts, hub_jobs
from codex_space.store import runs as run_rows

NOVEMBER = 1_795_000_000.0  # 2026-11-18
DECEMBER = NOVEMBER + 14 * 86_400
RECIPE = "kind: sft\nname: one\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
NOTES = f"lab/{NAME}"
FILE = "spent/lab--studio.json"


class Machine:
    """A Space's container: `lose` takes its disk."""

    def __init__(self, hub, folder):
        self.hub, self.folder, self.now = hub, folder, NOVEMBER
        self.ctx = None

    def boot(self, **environ):
        if self.ctx is not None:
            self.ctx.close()
        env = {"SPACE_ID": "lab/studio", "SYSTEM": "spaces", "ACCELERATOR": "l4x1", "HF_TOKEN": "hf_write"}
        env |= {"HF_ENDPOINT": self.hub.endpoint, "CODEX_SPACE_HOME": str(self.folder), **environ}
        self.ctx = open_context(read_settings(env), lambda: self.now, own=False)
        self.ledger = Ledger(self.ctx.db, self.ctx.hub, self.ctx.settings)
        return self.ctx

    def lose(self, **environ):
        self.ctx.close()
        self.ctx = None
        shutil.rmtree(self.folder)
        return self.boot(**environ)

    def spend(self, usd, run_id=""):
        costs.add(self.ctx.db, run_id, at=self.now, seconds=60, usd=usd)

    def tell(self):
        self.now += IDLE_EVERY_S
        self.ledger.step(self.now)

    def spent(self):
        return costs.of_month(self.ctx.db, costs.month_of(self.now))


@pytest.fixture
def machine(hub, tmp_path):
    made = Machine(hub, tmp_path / "workspace")
    made.boot()
    yield made
    made.ctx.close()


def test_what_was_spent_before_the_disk_was_lost_counts_and_the_cap_holds(machine):
    run = runs.submit(machine.ctx, RECIPE)
    machine.spend(3.0, run.id)
    machine.spend(1.0)
    machine.tell()
    machine.lose(CODEX_SPACE_MONTHLY_CAP_USD="5")
    assert machine.spent() == 0
    runs.submit(machine.ctx, RECIPE)  # this asks the Hub first
    assert machine.spent() == pytest.approx(4.0)
    assert costs.by_run(machine.ctx.db, (run.id,)) == {run.id: pytest.approx(3.0)}  # its own cap holds, too
    machine.spend(1.5)
    with pytest.raises(CodexError, match=r"\$5\.50 are spent"):
        runs.submit(machine.ctx, RECIPE)
    machine.tell()
    for _ in range(2):  # lost again: nothing counts twice
        machine.lose(CODEX_SPACE_MONTHLY_CAP_USD="5")
        with pytest.raises(CodexError, match=r"\$5\.50 are spent"):
            runs.submit(machine.ctx, RECIPE)
        machine.tell()
    machine.now = DECEMBER
    runs.submit(machine.ctx, RECIPE)
    assert money.read(machine.ctx).months == {"2026-11": pytest.approx(5.5)}


def test_the_cap_stops_what_trains_once_the_hub_has_told(machine):
    machine.spend(6.0)
    machine.tell()
    ctx = machine.lose(CODEX_SPACE_MONTHLY_CAP_USD="5")
    run = run_rows.insert_run(
        ctx.db, id="20261118-001530-sft-k3f9", name="x", kind="sft", recipe=RECIPE, repo_id=None, now=1.0
    )
    for state in ("preflight", "running"):
        run_rows.change_state(ctx.db, run.id, state, now=machine.now)
    accountant = Spending(ctx.db, usd_per_hour=lambda: 0.8, monthly_cap_usd=5.0)
    accountant.step(machine.now)
    assert not run_rows.take_wishes(ctx.db)
    machine.tell()
    accountant.step(machine.now + 1)
    assert [(wish.run_id, wish.verb) for wish in run_rows.take_wishes(ctx.db)] == [(run.id, "stop")]


def test_a_hub_that_does_not_answer_starts_nothing_that_a_cap_might_forbid(machine, hub):
    machine.spend(6.0)
    machine.tell()
    hub.fail("/api/", status=503, times=-1)
    machine.lose(CODEX_SPACE_MONTHLY_CAP_USD="5")
    with pytest.raises(CodexError, match="is not known"):
        runs.submit(machine.ctx, RECIPE)
    hub.heal()
    with pytest.raises(CodexError, match=r"\$6\.00 are spent"):
        runs.submit(machine.ctx, RECIPE)
    hub.fail("/api/", status=503, times=-1)
    machine.boot(CODEX_SPACE_MONTHLY_CAP_USD="7")  # its disk is there, so it is known
    runs.submit(machine.ctx, RECIPE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"parts": {"a": [["x", "2026-11", -1, -5]]}}',
        '{"parts": {"a": 7}}',
        '{"parts": {"a": [["", "2026-11", 1, 1e999]]}}',
        r'{"parts": {"\ud800": [["", "2026-11", 1, 5]]}}',
        r'{"parts": {"a": [["\ud800", "2026-11", 1, 5]]}}',
        b"\xff\xfe{",
    ],
)
def test_books_that_cannot_be_read_are_neither_believed_nor_written_over(machine, hub, text):
    machine.spend(6.0)
    machine.tell()
    hub.state.put("datasets", NOTES, {FILE: text}, private=True)
    machine.lose(CODEX_SPACE_MONTHLY_CAP_USD="5")
    with pytest.raises(CodexError, match="is not known"):
        runs.submit(machine.ctx, RECIPE)
    machine.tell()
    assert hub.state.files("datasets", NOTES)[FILE] == (text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(("token", "public"), [("hf_read", False), ("hf_write", True)])
def test_where_nothing_can_be_kept_the_disk_alone_counts(machine, hub, token, public):
    if public:
        hub.state.make_repo("datasets", NOTES)
    machine.boot(HF_TOKEN=token, CODEX_SPACE_MONTHLY_CAP_USD="5")
    machine.spend(1.0)
    runs.submit(machine.ctx, RECIPE)
    machine.spend(9.0)
    with pytest.raises(CodexError, match="are spent"):
        runs.submit(machine.ctx, RECIPE)
    assert not public or FILE not in hub.state.files("datasets", NOTES)


def test_a_machine_of_ones_own_tells_nobody(machine, hub, tmp_path):
    machine.boot(SPACE_ID="", SYSTEM="", CODEX_SPACE_MONTHLY_CAP_USD="5")
    machine.spend(1.0)
    machine.tell()
    runs.submit(machine.ctx, RECIPE)
    assert not [name for name in hub.state.repos if NAME in name]


def test_it_is_told_once_an_hour_while_idle_and_with_each_heartbeat_while_training(machine, hub):
    machine.tell()
    head = hub.repo(NOTES, "datasets")["heads"]

    def commits_after(seconds, every_s=5.0):
        before, end = len(hub.repo(NOTES, "datasets")["commits"]), machine.now + seconds
        while machine.now < end:
            machine.now += every_s
            machine.spend(0.001)
            machine.ledger.step(machine.now)
        return len(hub.repo(NOTES, "datasets")["commits"]) - before

    assert commits_after(2 * IDLE_EVERY_S + 10) == 2
    run = runs.submit(machine.ctx, RECIPE)
    run_rows.change_state(machine.ctx.db, run.id, "preflight", now=machine.now)
    assert 11 <= commits_after(3600) <= 13
    run_rows.change_state(machine.ctx.db, run.id, "failed", now=machine.now)
    assert commits_after(10) == 1  # at its end, at once
    told = json.loads(hub.state.files("datasets", NOTES, head["main"])[FILE])["parts"]
    assert sum(usd for rows in told.values() for *_, usd in rows) == pytest.approx(machine.spent(), abs=0.002)


def test_a_database_of_an_older_copy_catches_up_with_what_it_had_said(machine, tmp_path):
    machine.spend(1.0)
    machine.tell()
    backup.backup(machine.ctx, tmp_path / "copy.tar.gz")
    machine.spend(2.0)
    machine.tell()
    machine.ctx.close()
    shutil.rmtree(machine.folder)
    machine.ctx = None
    backup.restore(tmp_path / "copy.tar.gz", Workspace(machine.folder))
    machine.boot()
    assert machine.spent() == pytest.approx(1.0)
    machine.tell()
    assert machine.spent() == pytest.approx(3.0)
    machine.ledger = Ledger(machine.ctx.db, machine.ctx.hub, machine.ctx.settings)  # the page restarts
    machine.tell()
    assert machine.spent() == pytest.approx(3.0)


@pytest.mark.parametrize("noted", [True, False])
def test_a_copy_that_follows_the_same_job_again_does_not_count_it_twice(machine, tmp_path, noted):
    run = run_on_jobs(machine)

    def runs_for(seconds):
        hub_jobs.add_job(machine.ctx.db, run.id, 1, flavor="l4x1", timeout_s=9e9, now=machine.now, log_offset=0)
        hub_jobs.update_job(machine.ctx.db, run.id, 1, usd_per_hour=2.0, running_s=seconds, stage="RUNNING")

    machine.tell()
    if noted:
        runs_for(1800.0)
        machine.tell()
    backup.backup(machine.ctx, tmp_path / "copy.tar.gz")  # or before the Job was there
    runs_for(5400.0)
    machine.tell()
    machine.ctx.close()
    machine.ctx = None
    shutil.rmtree(machine.folder)
    backup.restore(tmp_path / "copy.tar.gz", Workspace(machine.folder))
    machine.boot()
    machine.tell()
    assert machine.spent() == pytest.approx(3.0)
    runs_for(3600.0)  # seen anew, from its log's beginning
    assert machine.spent() == pytest.approx(3.0)
    runs_for(9000.0)
    assert machine.spent() == pytest.approx(5.0)
    machine.tell()
    machine.boot()  # the page restarts
    machine.tell()
    assert machine.spent() == pytest.approx(5.0)
    assert costs.by_run(machine.ctx.db, (run.id,)) == {run.id: pytest.approx(5.0)}
    run_rows.change_state(machine.ctx.db, run.id, "stopped", now=machine.now)
    runs.delete(machine.ctx, run.id)
    assert machine.spent() == pytest.approx(5.0)
    assert not machine.ctx.db.query("SELECT 1 FROM told_jobs")


def run_on_jobs(machine):
    return run_rows.insert_run(
        machine.ctx.db,
        id="20261118-001530-sft-k3f9",
        name="x",
        kind="sft",
        recipe=RECIPE,
        repo_id="ada/x",
        now=1.0,
        place="hf-jobs",
    )


def test_what_a_deleted_run_has_cost_as_a_job_stays_spent(machine):
    run = run_on_jobs(machine)
    for attempt in (1, 2):
        hub_jobs.add_job(machine.ctx.db, run.id, attempt, flavor="l4x1", timeout_s=60, now=NOVEMBER, log_offset=0)
        hub_jobs.update_job(machine.ctx.db, run.id, attempt, usd_per_hour=2.0, running_s=1800.0)
    run_rows.change_state(machine.ctx.db, run.id, "stopped", now=NOVEMBER)
    before = costs.own(machine.ctx.db)
    assert machine.spent() == pytest.approx(2.0)
    runs.delete(machine.ctx, run.id)
    assert costs.own(machine.ctx.db) == before
    assert not hub_jobs.list_jobs(machine.ctx.db)


def test_the_books_read_as_they_were_written():
    parts = {"a": {("", "2026-11"): (1.0, 2.0), ("x", "2026-10"): (0.5, 0.25)}, "b": {}}
    assert parse(render(parts), "there") == parts


def test_a_fact_is_kept_as_it_was_first(machine):
    assert facts.keep(machine.ctx.db, "x", "1") == facts.keep(machine.ctx.db, "x", "2") == "1"
    facts.forget(machine.ctx.db, "x")
    assert facts.read(machine.ctx.db, "x") is None
