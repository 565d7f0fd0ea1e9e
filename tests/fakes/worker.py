"""A worker that trains nothing: it does what the recipe's `name` says, and writes real events and checkpoints.

ok, hang, crash, sentence, silent, killed, oom-after-log, grandchild, setsid-grandchild, ignore-term, logs-N, environ,
die-once (killed at its first attempt two steps after checkpoint-2, goes to its end at the second).
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from codex_space.core.events import EventWriter
from codex_space.core.paths import MANIFEST, JobDir

LIVES_S = 60.0
STEPS = 6


def main(root: str) -> int:
    job = JobDir(Path(root))
    found = re.search(r"^name: (.+)$", job.recipe.read_text(), re.MULTILINE)
    launch = json.loads(job.launch.read_text())
    with EventWriter(job.events) as events:
        worker = Fake(job, found[1].strip("'") if found else "ok", launch, events)
        return worker.run()


class Fake:
    def __init__(self, job, name, launch, events):
        self.job, self.name, self.launch, self.events = job, name, launch, events
        self.attempt, self.step = launch["attempt"], launch["resume_from_step"]

    def write(self, e, **fields):
        self.events.write(e, time.time(), **fields)

    def run(self):
        name = self.name.partition("-")[0] if self.name.startswith("logs-") else self.name
        if name == "ignore-term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if "grandchild" in name:
            self.start_grandchild(apart=name.startswith("setsid"))
        self.write("attempt", attempt=self.attempt, resumed_from_step=self.step)
        self.write("phase", phase="loading", detail="the fake model")
        if name == "sentence":
            self.write("failed", what="no token would be trained", where="rows", cure="Add a completion.")
            return 1
        self.write("ready", max_steps=STEPS, num_rows=10, trained_tokens=50, total_tokens=100)
        print(f"fake worker {name}, attempt {self.attempt}", flush=True)
        return {
            "ok": self.train,
            "logs": lambda: self.train(int(self.name.partition("-")[2])),
            "crash": lambda: 3,
            "silent": lambda: 0,
            "killed": self.kill_self,
            "die-once": self.die_once,
            "environ": self.dump_environ,
        }.get(name, self.hang)()

    def train(self, steps=STEPS):
        while self.step < steps:
            self.log()
        self.checkpoint()
        self.write("done", step=self.step, summary={})
        return 0

    def log(self):
        self.step += 1
        self.write("log", step=self.step, epoch=0.1, metrics={"loss": 10.0 * self.attempt + self.step})

    def checkpoint(self):
        folder = self.job.checkpoint(self.step)
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"w" * 100)
        (folder / MANIFEST).write_text(json.dumps({"schema": 1, "step": self.step}))
        self.write("checkpoint", step=self.step, size_bytes=100, metrics={"eval_loss": 1.0})

    def hang(self):
        """Train on until told to stop, as a real worker does; the stubborn one is not told."""
        stubborn = self.name == "ignore-term"
        deadline = time.monotonic() + LIVES_S
        self.log()
        while time.monotonic() < deadline:
            if self.job.save_request.exists():
                self.job.save_request.unlink()
                self.checkpoint()
            if self.job.stop_request.exists() and not stubborn:
                self.checkpoint()
                self.write("done", step=self.step, summary={}, stopped=True)
                return 0
            time.sleep(0.01)
        return 9

    def kill_self(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self):
        if self.attempt > 1:
            return self.train()
        self.log()
        self.log()
        self.checkpoint()
        self.log()
        self.log()
        with self.job.events.open("ab") as file:
            file.write(b'{"t": 1, "e": "log", "step": 5, "metr')  # a kill tears a line
        return self.kill_self()

    def dump_environ(self):
        (self.job.root / "environ.json").write_text(json.dumps(dict(os.environ)))
        return self.train()

    def start_grandchild(self, *, apart):
        program = f"import time; time.sleep({LIVES_S})"
        child = subprocess.Popen([sys.executable, "-c", program], start_new_session=apart)
        (self.job.root / "grandchild.pid").write_text(str(child.pid))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
