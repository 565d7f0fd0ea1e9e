"""Answers in a job folder become verdicts, scores and points; the sandbox is the real one."""

import csv
import json
import os

import pytest

from codex_space.core.errors import GradeError
from codex_space.core.paths import new_run_id
from codex_space.grade import library
from codex_space.jobs import grader as grader_module
from codex_space.jobs.grader import RESULTS, SAMPLES, SCORES, VERDICTS, Grader
from codex_space.store import evaluations, metrics, runs
from codex_space.store.db import Database

RECIPE = "kind: evaluate\nmodel: {model_name_or_path: ada/base}\nbenchmark: first-steps\nlimit: 6\n"
TRAINING = (
    "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
    "evaluate: {benchmarks: [first-steps], limit: 6}\n"
)
PROBLEMS = library.load("first-steps", library.find("first-steps").file(None), 6).problems
NOW = 1_700_000_000.0


class Room:
    def __init__(self, workspace):
        self.workspace, self.db = workspace, Database.open(workspace.database)
        self.grader = Grader(self.db, workspace, workers=1)

    def add(self, recipe=RECIPE, kind="evaluate", step=0, num_samples=6, at=NOW, benchmark="first-steps"):
        run_id = new_run_id(kind, at)
        self.job(run_id).root.mkdir()
        runs.insert_run(self.db, id=run_id, name="asked", kind=kind, recipe=recipe, repo_id=None, now=at)
        for state in ("preflight", "running"):
            runs.change_state(self.db, run_id, state, now=at)
        self.begin(run_id, step, num_samples, at, benchmark)
        return run_id

    def begin(self, run_id, step, num_samples, at, benchmark="first-steps"):
        target = (run_id, step) if step else (None, 0)
        evaluations.start(
            self.db, run_id, step, benchmark, target=target, num_samples=num_samples, protocol="greedy", now=at
        )

    def job(self, run_id):
        return self.workspace.job(run_id)

    def write(self, run_id, rows, step=0):
        folder = self.job(run_id).evaluation(step, "first-steps")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / SAMPLES).open("a") as file:
            for row in rows:
                file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
        return folder

    def row(self, run_id, step=0):
        return evaluations.read_evaluation(self.db, run_id, step, "first-steps")

    def end(self, run_id, state="succeeded"):
        runs.change_state(self.db, run_id, state, now=NOW)


def answer(problem, program=None, sample=0):
    return {"task_id": problem.task_id, "sample": sample, "program": problem.canonical if program is None else program}


@pytest.fixture
def room(workspace):
    made = Room(workspace)
    yield made
    made.grader.close()
    made.db.close()


def test_answers_are_graded_while_more_are_written(room):
    run_id = room.add()
    room.grader.step(NOW)
    assert room.row(run_id).state == "waiting"
    folder = room.write(run_id, [answer(PROBLEMS[0]), answer(PROBLEMS[1], "")])
    room.grader.step(NOW)
    assert (room.row(run_id).num_graded, room.row(run_id).num_passed) == (2, 1)
    room.write(run_id, [answer(problem) for problem in PROBLEMS[2:]])
    room.grader.step(NOW)
    row = room.row(run_id)
    assert (row.state, row.num_graded, row.num_passed) == ("done", 6, 5)
    whole = row.scores[0]
    assert (whole["name"], whole["num_problems"]) == ("first-steps", 6)
    assert whole["value"] == pytest.approx(5 / 6)
    assert whole["low"] < 5 / 6 < whole["high"]
    assert [score["name"] for score in row.scores[1:]] == [f"first-steps tier {tier}" for tier in (1, 2, 3, 4)]
    assert len((folder / VERDICTS).read_text().splitlines()) == 6
    assert json.loads((folder / SCORES).read_text())["scores"] == row.scores
    table = list(csv.DictReader((folder / RESULTS).open()))
    assert [line["passed"] for line in table] == ["True", "False", "True", "True", "True", "True"]
    assert table[1]["why"]


def test_a_checkpoint_in_training_gets_a_point_under_its_loss(room):
    run_id = room.add(TRAINING, "sft", step=20)
    room.write(run_id, [answer(problem) for problem in PROBLEMS], step=20)
    room.grader.step(NOW)
    curve = metrics.read_curve(room.db, run_id, "pass@1 first-steps")
    assert (curve.steps, curve.values) == ([20], [1.0])


def test_a_run_that_ended_too_soon_has_no_score(room):
    run_id = room.add()
    room.write(run_id, [answer(PROBLEMS[0])])
    room.grader.step(NOW)
    room.end(run_id, "failed")
    room.grader.step(NOW)
    assert room.row(run_id).state == "failed"
    assert "after 1 of 6 answers" in room.row(run_id).reason
    assert room.row(run_id).scores == []


def test_a_run_that_ended_without_an_answer_is_not_waited_for(room):
    run_id = room.add()
    room.end(run_id, "lost")
    room.grader.step(NOW)
    assert room.row(run_id).state == "failed"


def test_lines_that_are_no_answers_change_nothing(room):
    run_id = room.add()
    junk = ["not json", "[]", "null", "{", json.dumps({"task_id": "Nobody/1", "sample": 0, "program": "x"})]
    junk += [json.dumps({"task_id": PROBLEMS[0].task_id, "sample": 0, "program": 7}), "[" * 5000]
    room.write(run_id, [*junk, answer(PROBLEMS[0]), answer(PROBLEMS[0], "")])
    room.grader.step(NOW)
    assert (room.row(run_id).num_graded, room.row(run_id).num_passed) == (1, 1), "the first answer counts, once"


def test_an_answer_cut_off_in_the_middle_waits_for_its_rest(room):
    run_id = room.add()
    folder = room.write(run_id, [])
    text = json.dumps(answer(PROBLEMS[0])) + "\n"
    with (folder / SAMPLES).open("a") as file:
        file.write(text[:30])
    room.grader.step(NOW)
    assert room.row(run_id).num_graded == 0
    with (folder / SAMPLES).open("a") as file:
        file.write(text[30:])
    room.grader.step(NOW)
    assert room.row(run_id).num_passed == 1


def test_a_new_owner_grades_again_from_the_first_answer(room):
    run_id = room.add()
    room.write(run_id, [answer(problem) for problem in PROBLEMS[:3]])
    room.grader.step(NOW)
    second = Grader(room.db, room.workspace, workers=1)
    try:
        folder = room.write(run_id, [answer(problem) for problem in PROBLEMS[3:]])
        second.step(NOW)
    finally:
        second.close()
    assert (room.row(run_id).state, room.row(run_id).num_graded) == ("done", 6)
    assert len((folder / VERDICTS).read_text().splitlines()) == 6


def test_answers_begun_anew_by_a_resumed_run_are_graded_anew(room):
    run_id = room.add(TRAINING, "sft", step=20)
    folder = room.write(run_id, [answer(problem, "") for problem in PROBLEMS[:3]], step=20)
    room.grader.step(NOW)
    (folder / SAMPLES).unlink()
    room.begin(run_id, 20, 6, NOW + 50)
    room.write(run_id, [answer(problem) for problem in PROBLEMS], step=20)
    room.grader.step(NOW)
    assert (room.row(run_id, 20).state, room.row(run_id, 20).num_passed) == ("done", 6)


def test_hostile_programs_fail_and_the_rest_is_graded(room):
    run_id = room.add()
    tricks = ["import os\nos._exit(0)", "while True: pass", "raise SystemExit", "import os\nos.fork()\n"]
    room.write(run_id, [answer(problem, trick) for problem, trick in zip(PROBLEMS, tricks, strict=False)])
    room.write(run_id, [answer(problem) for problem in PROBLEMS[4:]])
    room.grader.step(NOW)
    assert (room.row(run_id).state, room.row(run_id).num_passed) == ("done", 2)


def test_a_machine_without_a_sandbox_gets_a_sentence_and_no_score(room, monkeypatch):
    def refuse(self):
        raise GradeError("the kernel has no seccomp", cure="Evaluation of generated code stays off.")

    monkeypatch.setattr(grader_module.Sandbox, "__enter__", refuse)
    run_id = room.add()
    room.write(run_id, [answer(PROBLEMS[0])])
    room.grader.step(NOW)
    assert room.row(run_id).state == "failed"
    assert "no seccomp" in room.row(run_id).reason


def test_a_problems_file_that_went_away_is_said(room, tmp_path):
    run_id = room.add(RECIPE + f"problems: {tmp_path / 'gone.jsonl'}\n")
    room.write(run_id, [answer(PROBLEMS[0])])
    room.grader.step(NOW)
    assert "gone.jsonl" in room.row(run_id).reason


def test_a_grader_that_is_closed_leaves_the_evaluation_to_the_next_owner(room, monkeypatch):
    run_id = room.add()
    room.write(run_id, [answer(problem) for problem in PROBLEMS])
    real = grader_module._Work.graded

    def close_in_the_middle(self, sandbox):
        for told in real(self, sandbox):
            yield told
            room.grader.close()

    with monkeypatch.context() as patched:
        patched.setattr(grader_module._Work, "graded", close_in_the_middle)
        room.grader.step(NOW)
    assert room.row(run_id).state == "waiting"
    second = Grader(room.db, room.workspace, workers=1)
    try:
        second.step(NOW)
    finally:
        second.close()
    assert (room.row(run_id).state, room.row(run_id).num_passed) == ("done", 6)


def test_a_problems_file_changed_after_the_asking_gives_no_score(room, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(library.find("first-steps").file(tmp_path).read_bytes())
    run_id = room.add(RECIPE + f"problems: {path}\n")
    folder = room.write(run_id, [answer(PROBLEMS[0])])
    (folder / "protocol.json").write_text(json.dumps({"dataset_version": library.version_of(path)}))
    path.write_text(path.read_text().replace("FirstSteps/5", "FirstSteps/500"))
    room.grader.step(NOW)
    assert room.row(run_id).state == "failed"
    assert "changed after" in room.row(run_id).reason


def test_a_disk_that_is_full_ends_one_evaluation_and_not_the_others(room, monkeypatch):
    first, second = room.add(at=NOW), room.add(at=NOW + 60)
    for run_id in (first, second):
        room.write(run_id, [answer(problem) for problem in PROBLEMS])
    real = grader_module._Work._take

    def full(self, verdict):
        if first in str(self._folder):
            raise OSError(28, "No space left on device")
        return real(self, verdict)

    monkeypatch.setattr(grader_module._Work, "_take", full)
    room.grader.step(NOW)
    assert (room.row(first).state, room.row(second).state) == ("failed", "done")
    assert "No space left" in room.row(first).reason


def test_several_samples_give_pass_at_k_with_an_interval_of_some_width(room):
    run_id = room.add(RECIPE + "num_samples: 10\ntemperature: 0.8\n", num_samples=60)
    room.write(run_id, [answer(problem, "", number) for problem in PROBLEMS for number in range(10)])
    room.grader.step(NOW)
    names = [score["name"] for score in room.row(run_id).scores]
    assert names[:2] == ["first-steps", "first-steps pass@10"]
    assert all(score["low"] == 0.0 < score["high"] for score in room.row(run_id).scores)


def test_half_characters_and_formulas_in_what_a_program_says_harm_no_file(room):
    run_id = room.add()
    tricks = [
        'raise ValueError("\\ud800")',
        'raise type("=1+1", (Exception,), {})("x")',
        "import sys\nsys.exit('A' * (30 << 20))",
    ]
    folder = room.write(run_id, [answer(problem, trick) for problem, trick in zip(PROBLEMS, tricks, strict=False)])
    room.write(run_id, [answer(problem) for problem in PROBLEMS[3:]])
    room.grader.step(NOW)
    assert (room.row(run_id).state, room.row(run_id).num_passed) == ("done", 3)
    table = list(csv.DictReader((folder / RESULTS).open()))
    assert not [line["why"] for line in table if line["why"].startswith("=") or len(line["why"]) > 2100]


def test_a_worker_cannot_choose_which_answers_count(room):
    few = room.add(num_samples=1)
    room.write(few, [answer(PROBLEMS[0])])
    room.grader.step(NOW)
    assert (room.row(few).state, "announced" in room.row(few).reason) == ("failed", True)
    many = room.add(at=NOW + 60)
    room.write(many, [answer(PROBLEMS[0], sample=number) for number in range(6)])
    room.grader.step(NOW)
    assert (room.row(many).state, room.row(many).num_graded) == ("waiting", 1)


@pytest.mark.parametrize("name", [RESULTS, VERDICTS, SCORES])
@pytest.mark.parametrize("how", ["link", "pipe", "folder"])
def test_what_lies_in_the_way_of_a_result_is_neither_followed_nor_waited_for(room, tmp_path, name, how):
    run_id, other = room.add(), room.add(at=NOW + 60)
    for each in (run_id, other):
        folder = room.write(each, [answer(problem) for problem in PROBLEMS])
    path, victim = room.job(run_id).evaluation(0, "first-steps") / name, tmp_path / "victim"
    victim.write_text("mine")
    {"link": lambda: path.symlink_to(victim), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[how]()
    room.grader.step(NOW)
    assert victim.read_text() == "mine"
    assert room.row(run_id).state in {"done", "failed"}
    assert room.row(other).state == "done"
    assert folder.is_dir()


def test_a_linked_folder_of_answers_is_refused(room, tmp_path):
    run_id = room.add()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / SAMPLES).write_text(json.dumps(answer(PROBLEMS[0])) + "\n")
    folder = room.job(run_id).evaluation(0, "first-steps")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "elsewhere")
    room.grader.step(NOW)
    assert (room.row(run_id).state, "is a link" in room.row(run_id).reason) == ("failed", True)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [SAMPLES]
