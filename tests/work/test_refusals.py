"""What the worker refuses before the first step, and how a run ends that goes wrong later."""

import json

import pytest

from tests.work.conftest import chat_rows, sft_recipe

pytestmark = pytest.mark.slow
OTHER_ID = "20261121-001540-sft-bbbb"


@pytest.mark.parametrize(
    ("changes", "rows", "sentence"),
    [
        ({"train": {"max_length": 8}}, chat_rows(), "has a token to train on"),
        ({"lora": {"target_modules": ["q_prj"]}}, chat_rows(), "Did you mean 'q_proj'"),
        ({"lora": {"target_modules": ["lm_head"]}}, chat_rows(), "lm_head"),
        ({"lora": {"target_modules": "nothing_like_it"}}, chat_rows(), "lora"),
        ({"lora": {"r": 4, "modules_to_save": ["embeddings"]}}, chat_rows(), "embeddings"),
        ({"model": {"model_name_or_path": "/no/such/folder"}}, chat_rows(), "no such model folder"),
        ({"model": {"model_name_or_path": "fresh:huge"}}, chat_rows(), "fresh:tiny"),
        ({"model": {"model_name_or_path": "run:20261121-001530-sft-zzzz"}}, chat_rows(), "Train it first"),
        ({"model": {"model_name_or_path": "nobody/nothing"}}, chat_rows(), "nobody/nothing"),
        ({"train": {"padding_free": True}}, chat_rows(), "padding_free"),
        ({"train": {"optim": "no_such_optimizer"}}, chat_rows(), "no_such_optimizer"),
        ({}, [{"messages": "not a list"}], "'messages'"),
        ({}, [{"unknown": "column"}], "unknown"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_sentence(make_job, changes, rows, sentence):
    job = make_job(sft_recipe(**changes), rows)
    assert job.run() == 1
    assert sentence in job.sentence
    assert not job.said("ready")
    assert not job.dir.checkpoint_steps()


def test_answers_that_all_lose_their_end_are_refused(make_job):
    rows = [{"prompt": f"p{number}", "completion": "x" * 400} for number in range(20)]
    job = make_job(sft_recipe(train={"max_length": 64}), rows)
    assert job.run() == 1
    assert "never stop" in job.sentence
    assert not job.said("ready")


def test_some_answers_that_lose_their_end_are_a_warning(make_job):
    rows = [{"prompt": f"p{number}", "completion": "x" * (10 if number % 2 else 400)} for number in range(20)]
    job = make_job(sft_recipe(train={"max_length": 64, "max_steps": 1}), rows)
    assert job.run() == 0
    assert "max_length 64" in job.said("warning")[0]["text"]


def test_a_set_without_validation_rows_trains(make_job):
    """Equal rows all lie on one side of the split, so none is held back."""
    job = make_job(sft_recipe(train={"max_steps": 1}), [chat_rows(1)[0]] * 20)
    assert job.run() == 0
    assert not job.curve("eval_loss")


def test_a_template_that_never_ends_an_answer_is_refused_and_ours_cures_it(make_job):
    whole = sft_recipe(train={"max_steps": 1})
    del whole["lora"]
    parent = make_job(whole, chat_rows())
    assert parent.run() == 0
    base = parent.dir.checkpoint(1)
    (base / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    model = {"model_name_or_path": str(base)}
    refused = make_job(sft_recipe(model=model), chat_rows(), OTHER_ID)
    assert refused.run() == 1
    assert "chat_template: codex" in refused.sentence
    cured = make_job(
        sft_recipe(model=model, chat_template="codex", train={"max_steps": 1}), chat_rows(), OTHER_ID[:-1] + "c"
    )
    assert cured.run() == 0


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(make_job):
    from safetensors.torch import load_file

    wild = {"learning_rate": 1e25, "max_grad_norm": 0, "lr_scheduler_type": "constant"}
    recipe = sft_recipe(train=wild, checkpoints={"every_steps": 1, "keep_last": 20})
    del recipe["lora"]
    job = make_job(recipe, chat_rows())
    assert job.run() == 1
    assert "nan" in job.failure["what"] or "inf" in job.failure["what"]
    assert "learning_rate" in job.failure["cure"]
    for step in job.dir.checkpoint_steps():
        tensors = load_file(job.dir.checkpoint(step) / "model.safetensors").values()
        assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_a_folder_without_a_recipe_and_a_broken_recipe_are_named(make_job):
    job = make_job(sft_recipe(), chat_rows())
    job.dir.recipe.write_text("kind: sft\nmodel: [")
    assert job.run() == 1
    assert "not YAML" in job.sentence
    job.dir.recipe.unlink()
    assert job.run() == 1
    assert "recipe.yaml" in job.sentence


def test_weights_that_are_a_pickle_are_not_loaded(make_job):
    import torch

    whole = sft_recipe(train={"max_steps": 1})
    del whole["lora"]
    parent = make_job(whole, chat_rows())
    assert parent.run() == 0
    base = parent.dir.checkpoint(1)
    torch.save({}, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    job = make_job(sft_recipe(model={"model_name_or_path": str(base)}), chat_rows(), OTHER_ID)
    assert job.run() == 1
    assert "safetensors" in job.sentence


def test_code_that_comes_with_a_model_is_not_run(make_job, tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    mark = tmp_path / "it-ran"
    auto = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model", "AutoTokenizer": ["code.T", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto}))
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')\n")
    job = make_job(sft_recipe(model={"model_name_or_path": str(folder)}), chat_rows())
    assert job.run() == 1
    assert not mark.exists()
