"""A supervisor over fake workers, with its own clock; no test leaves a process behind."""

import os
import sys
import time
from pathlib import Path

import pytest

from codex_space.core.paths import new_run_id
from codex_space.jobs.process import find_leftovers, kill_leftovers, read_identity
from codex_space.jobs.supervisor import Supervisor
from codex_space.store import runs
from codex_space.store.db import Database
from codex_space.store.runs import FINAL

FAKE = Path(__file__).parent.parent / "fakes" / "worker.py"
DEADLINE_S = 20.0
RECIPE = (
    "schema: 1\nkind: sft\nname: {name}\nmodel: {{model_name_or_path: {model}}}\ndatasets: [{{path: 'sample:x'}}]\n"
)


def fake_command(job):
    return [sys.executable, str(FAKE), str(job.root)]


class Bench:
    """One workspace with its supervisor; `now` moves only when a test says so."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.db = Database.open(workspace.database)
        self.now = 1_700_000_000.0
        self.supervisor = self.new_supervisor()

    def new_supervisor(self, **given):
        environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        values = {"environ": environ, "command_for": fake_command, "num_cores": 2}
        return Supervisor(self.db, self.workspace, **{**values, **given})

    def submit(self, name, model="fresh:tiny", **given):
        self.now += 1
        run_id = new_run_id("sft", self.now)
        recipe = given.pop("recipe", RECIPE.format(name=name, model=model))
        job = self.workspace.job(run_id)
        job.root.mkdir()
        job.recipe.write_text(recipe)
        values = {"id": run_id, "name": name, "kind": "sft", "recipe": recipe, "repo_id": None, "now": self.now}
        return runs.insert_run(self.db, **{**values, **given})

    def wish(self, run, verb):
        runs.add_wish(self.db, run.id, verb, self.now)

    def read(self, run):
        return runs.read_run(self.db, run.id)

    def job(self, run):
        return self.workspace.job(run.id)

    def step(self, seconds=0.0):
        self.now += seconds
        self.supervisor.step(self.now)

    def until(self, condition, seconds=0.0):
        """Step until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.step(seconds)
            if condition():
                return
            assert time.monotonic() < deadline, [(run.name, run.state, run.reason) for run in runs.list_runs(self.db)]
            time.sleep(0.01)

    def until_state(self, run, *states):
        self.until(lambda: self.read(run).state in states)
        return self.read(run)

    def until_ended(self, run):
        return self.until_state(run, *FINAL)

    def alive(self, run):
        """Return the pids of all processes of a run that live."""
        identity = read_identity(self.job(run).worker)
        marker = f"CODEX_SPACE_JOB={self.job(run).root}"
        return [each.pid for each in find_leftovers(identity, marker)] if identity else []

    def close(self):
        for run in runs.list_runs(self.db, limit=1000):
            identity = read_identity(self.job(run).worker)
            if identity:
                kill_leftovers(identity, f"CODEX_SPACE_JOB={self.job(run).root}")
        self.supervisor.close()
        self.db.close()


@pytest.fixture
def bench(workspace):
    made = Bench(workspace)
    yield made
    made.close()
