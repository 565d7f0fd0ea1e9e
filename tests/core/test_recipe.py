"""The recipe: what parses, what is refused, and in which words."""

import re

import pytest

from codex_space.core.errors import RecipeError
from codex_space.core.presets import list_presets
from codex_space.core.recipe import DPO_LOSSES, parse_recipe, render_recipe, validate
from codex_space.core.train_fields import train_fields
from codex_space.core.yaml_text import parse_yaml

DPO = {"kind": "dpo", "model": {"model_name_or_path": "a/b"}, "datasets": [{"path": "sample:python-preferences"}]}

GOOD = """
kind: sft
name: codex-lora
model: {model_name_or_path: fresh:tiny}
lora: {r: 8}
datasets: [{path: sample:python-first-chat}]
train: {learning_rate: 1e-4, num_train_epochs: 1}
"""


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, list(overrides))
    return str(caught.value)


def test_the_best_by_pass_rate_needs_its_benchmark():
    recipe = "kind: sft\nmodel: {model_name_or_path: a/b}\ndatasets: [{path: sample:x}]\ncheckpoints: {metric: pass@1 first-steps}\n"
    with pytest.raises(RecipeError, match="needs that benchmark"):
        parse_recipe(recipe)
    with pytest.raises(RecipeError, match="needs that benchmark"):
        parse_recipe(recipe + "evaluate: {benchmarks: [mbpp]}\n")
    assert parse_recipe(recipe + "evaluate: {benchmarks: [first-steps]}\n").checkpoints.metric == "pass@1 first-steps"


def test_early_stopping_by_the_validation_loss_needs_validation_rows():
    early = GOOD + "validation: {fraction: 0}\ncheckpoints: {early_stopping_patience: 3}\n"
    with pytest.raises(RecipeError, match="needs validation rows"):
        parse_recipe(early)
    assert parse_recipe(early, ["checkpoints.metric=loss"]).checkpoints.early_stopping_patience == 3
    with pytest.raises(RecipeError, match="greater than or equal to 1"):
        parse_recipe(early, ["checkpoints.early_stopping_patience=0"])


def test_a_learning_rate_written_as_yaml_text_is_the_number_meant():
    assert parse_recipe(GOOD).train["learning_rate"] == 1e-4


def test_rendered_recipe_parses_to_the_same_recipe():
    recipe = parse_recipe(GOOD)
    assert parse_recipe(render_recipe(recipe)) == recipe


def test_an_export_that_follows_is_said_by_one_word_or_in_full():
    short = parse_recipe(GOOD + "after: [export]\n").export_after
    assert (short.gguf, short.checkpoint, short.push) == (["Q8_0", "Q4_K_M"], "best", False)
    full = parse_recipe(GOOD, ["after=[export]", "export={gguf: [F16], checkpoint: last}"])
    assert (full.export_after.gguf, full.export_after.checkpoint) == (["F16"], "last")
    assert parse_recipe(render_recipe(full)) == full
    assert parse_recipe(GOOD).export_after is None


def test_overrides_reach_nested_keys_and_lists():
    recipe = parse_recipe(GOOD, ["train.learning_rate=2e-5", "datasets.0.weight=0.7", "datasets.1.path=more.jsonl"])
    assert recipe.train["learning_rate"] == 2e-5
    assert [entry.path for entry in recipe.datasets] == ["sample:python-first-chat", "more.jsonl"]


def test_override_can_replace_a_whole_section():
    assert parse_recipe(GOOD, ["datasets=[{path: my.jsonl}]"]).datasets[0].path == "my.jsonl"


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_every_shipped_recipe_parses_and_has_a_title(preset):
    assert parse_recipe(preset.text).kind == preset.name.partition("/")[0]
    assert 10 < len(preset.title) < 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "modle: 3\n", "Did you mean 'model'?"),
        (GOOD.replace("r: 8", "lora_alfa: 8"), "Did you mean 'lora_alpha'?"),
        (GOOD.replace("learning_rate", "learnig_rate"), "Did you mean 'learning_rate'?"),
        (GOOD.replace("kind: sft", "kind: stf"), "Did you mean 'sft'?"),
        (GOOD.replace("kind: sft", ""), "no kind is given"),
        (GOOD.replace("1e-4", "fast"), "'fast' is not a number"),
        (GOOD.replace("1e-4", ".nan"), "not a finite number"),
        (GOOD.replace("num_train_epochs: 1", "packing: 3"), "is not true or false"),
        (GOOD.replace("num_train_epochs: 1", "max_steps: 1.5"), "not a whole number"),
        (GOOD.replace("num_train_epochs: 1", "output_dir: /tmp"), "belongs to the program"),
        (GOOD.replace("num_train_epochs: 1", "hub_token: x"), "never write one into a recipe"),
        (GOOD.replace("r: 8", "r: -8"), "greater than or equal to 1"),
        (GOOD.replace("[{path: sample:python-first-chat}]", "[]"), "at least 1 item"),
        (GOOD.replace("name: codex-lora", "name: <script>"), "should match pattern"),
        (GOOD + "name: twice\n", "is given twice"),
        (
            GOOD.replace("lora: {r: 8}", "").replace("fresh:tiny", "fresh:tiny, load_in_4bit: true"),
            "needs a lora section",
        ),
        (GOOD + "after: [evaluate]\n", "should be 'export'"),
        (GOOD + "after: [export, export]\n", "at most 1 item"),
        (GOOD + "export: {gguf: [Q8_0]}\n", "set after: [export] too"),
        (GOOD + "after: [export]\nexport: {gguf: [q8_0]}\n", "Did you mean 'Q8_0'?"),
        (GOOD + "after: [export]\nexport: {gguf: []}\n", "at least 1 item"),
        (GOOD + "after: [export]\nexport: {gguf: [Q8_0, Q8_0]}\n", "named twice"),
        (GOOD + "after: [export]\nexport: {gguf: [IQ2_XS]}\n", "needs an importance matrix"),
        (GOOD + "after: [export]\nexport: {push: true}\n", "export.push needs hub.repo_id"),
        (GOOD + "after: [export]\nexport: {checkpont: last}\n", "Did you mean 'checkpoint'?"),
        (
            GOOD + "after: [export]\nhub: {repo_id: a/b, keep_rows: true}\nlaunch: {where: hf-jobs}\n",
            "for runs that train on this machine",
        ),
        ("a: [", "not YAML"),
        ("- 1", "is a mapping"),
        ("", "is a mapping"),
        ("x" * 200_001, "longer than"),
        ("[" * 5000, "recipe"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        (GOOD.replace("{learning_rate: 1e-4", "&a {lr_scheduler_kwargs: *a"), "holds itself"),
        (GOOD.replace("codex-lora", "2026-99-99"), "a date or number that is none"),
        (GOOD.replace("codex-lora", "9" * 5000), "a date or number that is none"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(text, said):
    assert said in refusal(text)


@pytest.mark.parametrize("first", ["[1]", "{k: 1}"])
def test_a_few_lines_that_stand_for_a_million_values_are_refused_and_a_plain_alias_is_not(first):
    repeat = "[{}]" if first == "[1]" else "{{<<: [{}]}}"  # merging copies what lists only name
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} {repeat.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 7)]
    with pytest.raises(RecipeError, match="stands for more than 100,000 values"):
        parse_yaml("\n".join(lines))
    assert len(parse_yaml("\n".join(lines[:3]))) == 3
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: *a}") == {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}}


@pytest.mark.parametrize("override", ["novalue", "=3", "name.deeper.x=1", "datasets.7.path=x"])
def test_a_wrong_override_is_refused(override):
    assert refusal(GOOD, override)


@pytest.mark.parametrize("repo_id", ["../x", "a/..", "a", "a/b/c", "a b/c", "-a/b", "a/", "/b", "a/b?c"])
def test_a_repository_name_that_is_no_owner_and_name_is_refused(repo_id):
    assert "hub.repo_id" in refusal(GOOD, f"hub.repo_id={repo_id!r}")


def test_the_losses_we_know_are_those_the_installed_trainers_name():
    told = train_fields("dpo")["loss_type"].help
    assert set(re.findall(r"`'(\w+)'`", told)) == set(DPO_LOSSES)
    for loss in DPO_LOSSES:
        assert validate({**DPO, "train": {"loss_type": [loss, "sft"]}}).train["loss_type"] == [loss, "sft"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"loss_type": "sigmod"}}, "Did you mean 'sigmoid'"),
        ({"train": {"loss_type": ["sft", "hing"]}}, "Did you mean 'hinge'"),
        ({"kind": "kto", "train": {"loss_type": "kyo"}}, "Did you mean 'kto'"),
        ({"kind": "kto", "train": {"per_device_train_batch_size": 1}}, "must be 2 or more"),
        ({"kind": "reward", "evaluate": {"benchmarks": ["first-steps"]}}, "writes none"),
        ({"kind": "orpo", "model": {"model_name_or_path": "a/b", "load_in_4bit": True}}, "needs a lora section"),
        ({"kind": "reward", "after": ["export"]}, "no use as a GGUF file"),
        ({"kind": "dop"}, "Did you mean 'dpo'"),
    ],
)
def test_what_the_preference_kinds_refuse(changes, words):
    with pytest.raises(RecipeError) as caught:
        validate({**DPO, **changes})
    assert words in f"{caught.value.what} {caught.value.cure}"


@pytest.mark.parametrize(("written", "read"), [("on", "on"), ("off", "off"), ("auto", "auto"), ("'on'", "on")])
def test_the_probe_is_switched_as_yaml_writes_it(written, read):
    text = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: 'sample:x'}]\n"
    assert parse_recipe(f"{text}launch: {{probe: {written}}}\n").launch.probe == read
    assert parse_recipe(text, [f"launch.probe={written}"]).launch.probe == read


def test_what_is_done_to_a_text_once_read_does_not_reach_the_next_reader():
    text = "kind: sft\ndatasets: [{path: a}]\n"
    parse_yaml(text)["datasets"][0]["path"] = "b"
    assert parse_yaml(text)["datasets"] == [{"path": "a"}]


@pytest.mark.parametrize("text", ["[" * 15_000, "[" * 150_000, "{a: " * 4_000, "- " * 9_000])
def test_brackets_without_an_end_are_one_sentence_and_no_crash(text):
    for _ in range(2):  # an error is not remembered as a text
        with pytest.raises(RecipeError):
            parse_yaml(text)
