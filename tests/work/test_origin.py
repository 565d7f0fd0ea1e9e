"""The card beside GGUF files: read from the folder of the run they are of."""

import json
import xml.etree.ElementTree as ET

import pytest
import yaml

from codex_space.core import durable
from codex_space.grade.protocol import Protocol
from codex_space.hub.gguf_cards import Origin, render_curves, render_gguf_card
from codex_space.work import origin

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


def write_scores(run, step, value):
    folder = run / "evaluations" / f"step-{step}" / "first-steps"
    folder.mkdir(parents=True)
    score = {
        "name": "first-steps",
        "value": value,
        "low": value / 2,
        "high": min(1, 2 * value),
        "num_problems": 60,
        "k": 1,
    }
    durable.write_json(folder / "scores.json", {"schema": 1, "scores": [score]})
    asked = Protocol("request-begun", "code blocks", ("\n#",), 64, "first-steps.jsonl 3f39", "6ebb")
    (folder / "protocol.json").write_text(json.dumps(asked.as_dict()))


@pytest.fixture
def run(tmp_path):
    run, base = tmp_path / "20261121-001530-sft-k3f9", tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# Base\n")
    (run / "checkpoint-20").mkdir(parents=True)
    (run / "recipe.yaml").write_text(RECIPE)
    (run / "env.json").write_text(json.dumps({"packages": {"torch": "2.13.0"}, "gpus": [{"name": "NVIDIA L4"}]}))
    logs = [
        {"e": "log", "step": step, "t": 60.0 * step, "metrics": {"loss": 5 - step / 10, "eval_loss": 5.5}}
        for step in range(1, 31)
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in logs))
    write_scores(run, 0, 0.1)
    write_scores(run, 20, 0.4)
    return run, base


def test_the_card_tells_licence_recipe_scores_and_curves_of_the_checkpoint(run):
    folder, base = run
    found = origin.read(folder / "checkpoint-20", base, "run:20261121-001530-sft-k3f9@step-20")
    assert found.losses[-1] == (20, 3.0), "what came after the checkpoint is not its own"
    page = render_gguf_card(RESULTS, found, repo_id="ada/m-GGUF")
    _, front, body = page.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "apache-2.0"
    assert values["base_model"] == "ada/base"
    assert values["datasets"] == ["bob/code"]
    assert values["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.4
    assert "| first-steps | 40.0 % | 20 to 80 % | 10.0 % | 60 |" in body
    assert "prompt: request-begun" in body
    assert "m-Q2_K" not in body, "a file that failed is not told of"
    assert "ollama run hf.co/ada/m-GGUF:Q8_0" in body
    assert "NVIDIA L4" in body
    assert "/home/me" not in page


@pytest.mark.parametrize(
    "spoil", ["events.jsonl", "env.json", "evaluations/step-20/first-steps/scores.json", "recipe.yaml"]
)
def test_a_run_of_which_something_is_gone_still_has_a_card(run, spoil):
    folder, base = run
    (folder / spoil).unlink()
    found = origin.read(folder / "checkpoint-20", base, "run:20261121-001530-sft-k3f9@step-20")
    assert "# m" in render_gguf_card(RESULTS, found)


def test_a_model_without_a_run_names_what_is_known():
    page = render_gguf_card(RESULTS, Origin(model="ada/base"))
    assert "GGUF files of [ada/base]" in page
    assert "not stated by the base model" in page
    assert "How it was trained" not in page


def test_curves_are_an_image_of_the_loss():
    root = ET.fromstring(render_curves([(0, 5.0), (10, 4.0)], [(10, 4.5)]))  # our own text
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert render_curves([(1, 2.0)], []) == ""
    assert "nan" not in render_curves([(0, 1.0), (5, 1.0)], [])
