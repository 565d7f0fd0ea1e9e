"""TensorBoard, Trackio, W&B and MLflow hold the numbers of our own curves, also after an attempt that went too far."""

import json
import sqlite3
import struct
from collections import defaultdict

import pytest

from tests.work.conftest import chat_rows, sft_recipe

pytestmark = pytest.mark.slow
RUN_ID = "20261121-001540-sft-trak"
ALL = ["tensorboard", "trackio", "wandb", "mlflow"]
RECIPE = sft_recipe(
    track={"to": ALL, "project": "tracked"}, train={"max_steps": 6}, checkpoints={"every_steps": 2, "keep_last": 9}
)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run whose first attempt went on to step 6 and whose second goes on from step 2."""
    from tests.work.conftest import make_folder

    job = make_folder(tmp_path_factory.mktemp("track"), RECIPE, chat_rows(), RUN_ID)
    assert job.start().wait(120) == 0, job.dir.log.read_text()[-3000:]
    assert job.start(attempt=2, resume_from_step=2).wait(120) == 0, job.dir.log.read_text()[-3000:]
    return job


def ours(job):
    names = {name for event in job.said("log") for name in event["metrics"]}
    return {name: job.curve(name) for name in names}


def tensorboard(root):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(root / "tracked" / RUN_ID), size_guidance={"scalars": 0})
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def trackio(root):
    curves = defaultdict(list)
    with sqlite3.connect(root / "tracked.db") as db:
        for step, body in db.execute("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (RUN_ID,)):
            for name, value in json.loads(body).items():
                curves[name].append((step, value))
    return curves


def wandb(root):
    """Read the offline log: LevelDB's log format with W&B's header, each record a protobuf message."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = root.glob("wandb/offline-run-*/*.wandb")
    data, at, parts, curves = path.read_bytes(), 7, b"", defaultdict(list)
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts, at = parts + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            record, parts = Record.FromString(parts), b""
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            for name, value in items.items():
                if not name.startswith("_"):
                    curves[name].append((items["_step"], value))
    return curves


def mlflow(root):
    curves = defaultdict(list)
    with sqlite3.connect(root / "mlflow.db") as db:
        for name, step, value in db.execute("SELECT key, step, value FROM metrics ORDER BY step"):
            curves[name].append((step, value))
    return curves


@pytest.mark.parametrize("read", [tensorboard, trackio, wandb, mlflow], ids=ALL)
def test_each_holds_the_numbers_of_our_curves(tracked, read):
    found, wanted = read(tracked.dir.tracking / read.__name__), ours(tracked)
    assert [step for step, _ in wanted["loss"]] == [1, 2, 3, 4, 5, 6]
    assert set(found) == set(wanted)
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        precision = 1e-6 if read is tensorboard else 0  # TensorBoard keeps 32 bits
        assert [value for _, value in found[name]] == pytest.approx([v for _, v in points], rel=precision, abs=0), name


def test_nothing_is_written_outside_the_job_folder_and_no_warning_said(tracked):
    assert sorted(path.name for path in tracked.dir.tracking.iterdir()) == sorted(ALL)
    assert not tracked.said("warning")
    assert not (tracked.dir.root / "wandb").exists()
    assert not (tracked.dir.root / "mlruns").exists()


def test_what_is_not_installed_is_refused_with_the_line_that_installs_it(make_job, monkeypatch):
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sqlalchemy" else known(name))
    job = make_job(sft_recipe(track={"to": ["tensorboard", "mlflow"]}), chat_rows())
    assert job.run() == 1
    assert job.failure["what"] == "mlflow is not installed here"
    assert job.failure["cure"] == "Run: pip install mlflow-skinny sqlalchemy alembic"
    assert not job.dir.tracking.exists()


def test_a_tracker_that_fails_is_dropped_and_the_run_goes_on(make_job, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    def fail(*_, **__):
        raise OSError("the disk is read-only")

    monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
    job = make_job(sft_recipe(track={"to": ["tensorboard"]}, train={"max_steps": 2}), chat_rows())
    assert job.run() == 0
    assert [event["text"] for event in job.said("warning")] == [
        "tensorboard writes no more (OSError): the disk is read-only"
    ]
    assert job.said("done")[0]["step"] == 2


def test_a_check_writes_nothing(make_job):
    job = make_job(sft_recipe(track={"to": ["tensorboard"]}), chat_rows())
    assert job.run("--check") == 0
    assert not job.dir.tracking.exists()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"to": []}, "at least 1 item"),
        ({"to": ["comet"]}, "tensorboard"),
        ({"to": ["trackio"], "project": "../up"}, "match pattern"),
        ({"to": ["trackio"], "proj": "x"}, "Did you mean 'project'?"),
    ],
)
def test_a_wrong_section_is_refused_by_name(make_job, section, said):
    job = make_job(sft_recipe(track=section), chat_rows())
    assert job.run() == 1
    assert said in job.sentence
