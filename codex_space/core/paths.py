"""Every file and folder name of a workspace and of a job folder, spelled once."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from codex_space.core.errors import RunError

_RUN_ID = re.compile(r"\d{8}-\d{6}-[a-z]+-[a-z0-9]{4}")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SAMPLES = re.compile(r"step-(\d{1,15})\.json")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: ids are read aloud


def new_run_id(kind: str, now: float) -> str:
    """Return an id that reads and sorts by time: `20261121-001530-sft-k3f9`."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{kind}-{''.join(secrets.choice(_ALPHABET) for _ in range(4))}"


def share_dir(name: str) -> Path:
    """Return `configs` or `data`, from the wheel's `_share` or from the checkout."""
    packaged = Path(__file__).parent.parent / "_share" / name
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / name


@dataclass(frozen=True)
class JobDir:
    """One run's folder: all that is needed to replay or resume it elsewhere."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe text the run was submitted with."""
        return self.root / "recipe.yaml"

    @property
    def launch(self) -> Path:
        """What the owner fixed at submission: threads, resolved references (JSON)."""
        return self.root / "launch.json"

    @property
    def events(self) -> Path:
        """JSON lines appended by the worker, read by the owner."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """Standard output and error of the worker."""
        return self.root / "worker.log"

    @property
    def env(self) -> Path:
        """Packages, hardware and data hashes of the latest attempt (JSON)."""
        return self.root / "env.json"

    @property
    def worker(self) -> Path:
        """Pid, start time and boot id of the live process (JSON)."""
        return self.root / "worker.json"

    @property
    def exit(self) -> Path:
        """Exit code or signal of the last process (JSON), written by the shim."""
        return self.root / "exit.json"

    @property
    def stop_request(self) -> Path:
        """Its presence asks the worker to save a checkpoint and end."""
        return self.root / "stop.request"

    @property
    def save_request(self) -> Path:
        """Its presence asks the worker for a checkpoint without ending."""
        return self.root / "save.request"

    @property
    def failed(self) -> Path:
        """Made by that of several processes which fails first: it alone tells why."""
        return self.root / "failed.first"

    @property
    def rows(self) -> Path:
        """The rows the run trains on, prepared and split once: train.parquet, validation.parquet."""
        return self.root / "rows"

    @property
    def tracking(self) -> Path:
        """What TensorBoard, Trackio, W&B and MLflow read, where the recipe asks for them."""
        return self.root / "tracking"

    @property
    def base(self) -> Path:
        """A base model that the run itself built (`fresh:` models)."""
        return self.root / "base"

    @property
    def portable(self) -> Path:
        """What plain TRL trains the recipe from, where that was asked for."""
        return self.root / "portable"

    @property
    def export(self) -> Path:
        """What an export made: GGUF files, card, Ollama's files, and export.json that says what was proven of each."""
        return self.root / "export"

    @property
    def merged(self) -> Path:
        """An adapter merged into its base, for an export."""
        return self.root / "merged"

    @property
    def spool(self) -> Path:
        """Hard links of checkpoints that wait for their upload: spool/step-N/."""
        return self.root / "spool"

    @property
    def rows_upload(self) -> Path:
        """How the push of the rows to their private dataset ended (JSON)."""
        return self.root / "rows_upload.json"

    @property
    def parents(self) -> Path:
        """Where on the Hub what it builds on lies, in a folder that is brought to another machine (JSON)."""
        return self.root / "parents.json"

    @property
    def announced(self) -> Path:
        """What the Hub was last told of the run (JSON)."""
        return self.root / "announced.json"

    @property
    def card(self) -> Path:
        """For which end of the run its card on the Hub was last brought up to date (JSON)."""
        return self.root / "card.json"

    @property
    def after(self) -> Path:
        """What became of the export that was to come after the run (JSON)."""
        return self.root / "after.json"

    @property
    def record(self) -> Path:
        """What else only the database knows of the run (JSON)."""
        return self.root / "run.json"

    @property
    def rises(self) -> Path:
        """How often the run went on by itself without getting further (JSON)."""
        return self.root / "rises.json"

    def away(self, step: int) -> Path:
        """Return what is kept of a checkpoint that clean-up took off this machine: its manifest (JSON)."""
        return self.root / f"away-step-{step}.json"

    def away_steps(self) -> list[int]:
        """Return the steps of checkpoints that clean-up took off this machine and nobody has brought back, in order."""
        found = (_SAMPLES.fullmatch(path.name.removeprefix("away-")) for path in self.root.glob("away-step-*.json"))
        steps = {int(match[1]) for match in found if match}
        return sorted(steps.difference(self.checkpoint_steps()))

    def removed(self, step: int) -> Path:
        """Return where a checkpoint lies while its files are being deleted; no longer a checkpoint."""
        return self.root / f".removed-checkpoint-{step}"

    def evaluation(self, step: int, benchmark: str) -> Path:
        """Return the folder of a model's answers to a benchmark at that step: samples, verdicts, results."""
        return self.root / "evaluations" / f"step-{step}" / benchmark

    def samples(self, step: int) -> Path:
        """Return the file of what the model wrote after that step (JSON)."""
        return self.root / "samples" / f"step-{step}.json"

    def sample_steps(self) -> list[int]:
        """Return the first thousand steps that have samples, in order."""
        found = (_SAMPLES.fullmatch(path.name) for path in islice((self.root / "samples").glob("step-*.json"), 1000))
        return sorted(int(match[1]) for match in found if match)

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at that optimizer step."""
        return self.root / f"checkpoint-{step}"

    def asked(self, step: int) -> Path:
        """Return the file that asks the worker to keep the checkpoint of that step: another run is to read it."""
        return self.root / "asked" / f"step-{step}"

    def spooled(self, step: int) -> Path:
        """Return the folder of hard links for the checkpoint at that step."""
        return self.spool / f"step-{step}"

    def checkpoint_steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, oldest first.

        Complete means that the manifest, written last, is there.
        """
        found = (_CHECKPOINT.fullmatch(path.name) for path in self.root.glob("checkpoint-*"))
        steps = [int(match.group(1)) for match in found if match]
        return sorted(step for step in steps if (self.checkpoint(step) / MANIFEST).is_file())


MANIFEST = "codex_manifest.json"
"""Written last into each checkpoint: a folder without it is not a checkpoint."""


@dataclass(frozen=True)
class Workspace:
    """The folder that one owner process holds."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held with flock by the owner."""
        return self.root / "owner.lock"

    @property
    def database(self) -> Path:
        """The SQLite file (WAL, local disk only)."""
        return self.root / "codex_space.db"

    @property
    def identity(self) -> Path:
        """A random name of this very folder (JSON), by which its own notes in the Hub are known again."""
        return self.root / "identity.json"

    @property
    def disk(self) -> Path:
        """What the last measuring of the disk found (JSON)."""
        return self.root / "disk.json"

    def chatting(self, pid: int) -> Path:
        """Return the note of which model a process has loaded to chat with (JSON)."""
        return self.root / f"chatting-{pid}.json"

    @property
    def runs(self) -> Path:
        """One job folder a run."""
        return self.root / "runs"

    @property
    def datasets(self) -> Path:
        """One folder a dataset: the file and dataset.json."""
        return self.root / "datasets"

    @property
    def benchmarks(self) -> Path:
        """Problems files from the Hub, and what canonical solutions gave."""
        return self.root / "benchmarks"

    @property
    def tokens(self) -> Path:
        """Texts of pretraining turned into tokens, a folder for each text and tokenizer (work/shards.py)."""
        return self.root / "tokens"

    def job(self, run_id: str) -> JobDir:
        """Return the run's folder.

        Raises:
            RunError: The id is not one this program makes (it comes from outside at times).
        """
        if not _RUN_ID.fullmatch(run_id):
            raise RunError(f"{run_id!r} is not a run id", cure="`codex-space runs list` shows them.")
        return JobDir(self.runs / run_id)

    def make(self) -> "Workspace":
        """Create the folders (private to this user) and return self."""
        for folder in (self.root, self.runs, self.datasets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self
