"""The card beside GGUF files: read from the folder of the run they are of."""

import json
import xml.etree.ElementTree as ET

import pytest
import yaml

from codex_space.core import durable, sources
from codex_space.core.origin import Graded, Origin
from codex_space.core.paths import JobDir
from codex_space.core.sources import Source
from codex_space.grade.origin import read_origin
from codex_space.grade.protocol import Protocol
from codex_space.hub.card_parts import render_curves
from codex_space.hub.gguf_cards import render_gguf_card

RECIPE = "kind: sft\nmodel: {model_name_or_path: ada/base, revision: abc}\ndatasets: [{path: bob/code}, {path: /home/me/x.jsonl}]\n"
ROW = {
    "path": "m-Q8_0.gguf",
    "type": "Q8_0",
    "bytes": 10**9,
    "kl": 0.001,
    "top1": 0.99,
    "num_strings": 500,
    "passed": True,
}
RESULTS = {
    "name": "m", "usual": "m-Q8_0.gguf", "reference": {"dtype": "float32", "num_tokens": 2048},
    "files": [ROW, {**ROW, "path": "m-Q2_K.gguf", "passed": False}],
}  # fmt: skip


PROTOCOL = Protocol("request-begun", "code blocks", ("\n#",), 64, "first-steps.jsonl 3f39", "6ebb").line()


def graded(step, value, solved=None, benchmark="first-steps"):
    numbers = {"value": value, "low": value / 2, "high": min(1, 2 * value), "num_problems": 60}
    return Graded(step, benchmark, PROTOCOL, ({"name": benchmark, "k": 1, **numbers},), solved or {})


SCORES = [graded(0, 0.1), graded(20, 0.4)]


@pytest.fixture
def job(tmp_path):
    run = tmp_path / "20261121-001530-sft-k3f9"
    (run / "checkpoint-20").mkdir(parents=True)
    (run / "recipe.yaml").write_text(RECIPE)
    facts = {
        "packages": {"torch": "2.13.0"},
        "gpus": [{"name": "NVIDIA L4"}],
        "python": "3.11",
        "data": {"train_sha256": "e" * 64},
    }
    (run / "env.json").write_text(json.dumps(facts))
    logs = [
        {"e": "log", "step": step, "t": 60.0 * step, "metrics": {"loss": 5 - step / 10, "eval_loss": 5.5}}
        for step in range(1, 31)
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in logs))
    found = JobDir(run)
    sources.note(found, model=Source("ada/base", "abc", "c" * 40, "apache-2.0"))
    sources.note(found, datasets=[Source("bob/code", "", "d" * 40, "mit"), Source("x.jsonl")])
    return found


def test_the_card_tells_sources_recipe_scores_and_curves_of_the_checkpoint(job):
    found = read_origin(job, 20, SCORES)
    assert found.losses[-1] == (20, 3.0), "what came after the checkpoint is not its own"
    assert found.model == Source("ada/base", "abc", "c" * 40, "apache-2.0")
    assert [each.id for each in found.datasets] == ["bob/code", "x.jsonl"]
    page = render_gguf_card(RESULTS, found, repo_id="ada/m-GGUF")
    _, front, body = page.split("---\n", 2)
    values = yaml.safe_load(front)
    assert (values["license"], values["license_name"]) == ("other", "unknown"), "x.jsonl states none"
    assert values["base_model"] == "ada/base"
    assert values["datasets"] == ["bob/code"]
    assert values["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.4
    assert "| first-steps | 40.0 % | 20 to 80 % | 10.0 % | 60 |" in body
    assert "prompt: request-begun" in body
    assert "m-Q2_K" not in body, "a file that failed is not told of"
    assert "ollama run hf.co/ada/m-GGUF:Q8_0" in body
    assert "NVIDIA L4" in body
    assert "/home/me" not in page


def test_flips_are_told_problem_by_problem_with_the_exact_test(job):
    base = graded(0, 0.1, {"a": False, "b": True, "c": False, "d": False})
    (score,) = read_origin(job, 20, [base, graded(20, 0.4, {"a": True, "b": False, "c": True, "d": True})]).scores
    assert (score.gained, score.lost) == (("a", "c", "d"), ("b",))
    assert (
        score.flips
        == "No difference can be claimed: 3 gained and 1 lost of 4 problems (p = 0.625, exact McNemar test on 4 flips)."
    )


def test_what_a_worker_writes_beside_its_answers_is_not_believed(job):
    folder = job.evaluation(20, "first-steps")
    folder.mkdir(parents=True)
    score = {"name": "first-steps", "value": 1.0, "low": 1.0, "high": 1.0, "num_problems": 60, "k": 1}
    durable.write_json(folder / "scores.json", {"schema": 1, "scores": [score]})
    (folder / "verdicts.jsonl").write_text('{"task_id": "a", "sample": 0, "passed": {"base": true}}\n')
    (score,) = read_origin(job, 20, SCORES).scores
    assert score.value == 0.4
    assert read_origin(job, 20, []).scores == ()


@pytest.mark.parametrize(
    "base",
    [
        graded(0, 0.1, {"a": False, "other": True}),  # not asked the same
        graded(0, 0.1),  # graded elsewhere: a score, no verdicts
    ],
)
def test_flips_that_cannot_be_told_are_not_told(job, base):
    tuned = graded(20, 0.4, {"a": True, "b": True})
    assert read_origin(job, 20, [graded(0, 0.1, {"a": False, "b": True}), tuned]).scores[0].gained == ("a",)
    (score,) = read_origin(job, 20, [base, tuned]).scores
    assert (score.flips, score.gained, score.lost, score.base) == ("", (), (), 0.1)


def test_scores_are_the_last_that_were_graded_up_to_the_checkpoint(job):
    assert read_origin(job, 25, SCORES).scores[0].step == 20
    assert read_origin(job, 10, SCORES).scores == ()
    assert read_origin(job, 25, [*SCORES, graded(30, 0.9)]).scores[0].value == 0.4
    nameless = Graded(22, "first-steps", PROTOCOL, ({"value": 0.5}, {"name": "perplexity", "value": "x"}))
    assert read_origin(job, 25, [*SCORES, nameless]).scores[0].step == 20


def test_time_is_that_of_the_attempts_and_energy_only_what_was_read(job):
    facts = dict(read_origin(job, 20, SCORES).facts)
    assert facts["Time"] == "29 minutes"
    assert "Energy" not in facts, "no reading, no figure"
    assert facts["Training rows, SHA-256"] == "e" * 64
    events = [{"e": "attempt", "t": 0.0}, {"e": "log", "step": 1, "t": 10.0, "metrics": {"gpu_power_w": 100.0}}]
    events += [{"e": "log", "step": 2, "t": 20.0, "metrics": {"gpu_power_w": 300.0}}]
    events += [
        {"e": "attempt", "t": 100_000.0},
        {"e": "log", "step": 3, "t": 100_030.0, "metrics": {"gpu_power_w": 200.0}},
    ]
    job.events.write_text("".join(json.dumps(each) + "\n" for each in events))
    facts = dict(read_origin(job, 20, SCORES).facts)
    assert facts["Time"] == "50 seconds", "not the day between the attempts"
    assert facts["Energy"].startswith(f"{2000 / 3.6e6:.2g} kWh"), "10 s at 200 W; nothing across a break"


@pytest.mark.parametrize("spoil", ["events.jsonl", "env.json", "rows/sources.json"])
def test_a_run_of_which_something_is_gone_still_has_a_card(job, spoil):
    (job.root / spoil).unlink()
    assert "# m" in render_gguf_card(RESULTS, read_origin(job, 20, SCORES))


@pytest.mark.parametrize("spoil", ["events.jsonl", "env.json", "rows/sources.json"])
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"scores": 3, "gpus": [], "datasets": 4}', '{"e": "log"}\n{"e": 4}\n', "\x00\xff"]
)
def test_a_run_of_which_something_is_damaged_still_has_a_card(job, spoil, text):
    (job.root / spoil).write_text(text)
    assert "# m" in render_gguf_card(RESULTS, read_origin(job, 20, SCORES))


@pytest.mark.parametrize(
    ("ref", "base"),
    [
        ("fresh:tiny", None),
        ("/srv/models/mine", Source("mine")),
        ("run:20261101-000000-sft-aaaa@step-3", Source("run:20261101-000000-sft-aaaa@step-3")),
    ],
)
def test_a_base_of_which_nothing_is_written_down_is_unknown_and_a_fresh_one_is_none(job, ref, base):
    (job.rows / sources.FILE).unlink()
    job.recipe.write_text(RECIPE.replace("ada/base, revision: abc", ref))
    found = read_origin(job, 20, SCORES)
    assert found.model == base
    assert found.licence.licence == "other"


def test_a_model_without_a_run_names_what_is_known():
    page = render_gguf_card(RESULTS, Origin(model=Source("ada/base")))
    assert "GGUF files of [ada/base]" in page
    assert "How it was trained" not in page


def test_curves_are_an_image_of_the_loss():
    root = ET.fromstring(render_curves([(0, 5.0), (10, 4.0)], [(10, 4.5)]))  # our own text
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert render_curves([(1, 2.0)], []) == ""
    assert "nan" not in render_curves([(0, 1.0), (5, 1.0)], [])
    assert "nan" not in render_curves([(0, 1.0), (0, 1.0)], [])
