"""What a run needs, asked as the page and the command line ask; and what is said where it cannot be known."""

import dataclasses
import json
from pathlib import Path

import pytest

from bench import fit
from bench.measure import RESULTS
from codex_space.cli.main import main
from codex_space.core import estimate as core
from codex_space.core.errors import HubBusyError, ModelError, RecipeError
from codex_space.core.hardware import find_hardware, gpu_facts, list_hardware
from codex_space.core.memory import CPU_BASE_GIB
from codex_space.core.presets import list_presets
from codex_space.core.recipe import parse_recipe
from codex_space.services import estimate as service

ROWS = "datasets: [{path: sample:python-first-chat}]\n"
BASE = "kind: sft\nmodel: {model_name_or_path: Qwen/Qwen2.5-Coder-1.5B}\nlora: {r: 16}\n" + ROWS
FOR_A_GPU = [(preset, preset.title) for preset in list_presets() if "(hardware " in preset.title]


def ask(ctx, *overrides, text=BASE, hardware="l4x1"):
    return service.estimate(ctx, text, overrides=list(overrides), hardware=hardware)


@pytest.mark.parametrize(("preset", "title"), FOR_A_GPU, ids=[preset.name for preset, _ in FOR_A_GPU])
def test_a_recipe_fits_the_hardware_it_names(ctx, preset, title):
    named = title.partition("(hardware ")[2].rstrip(")").split(", ")
    for hardware in named:
        found = ask(ctx, text=preset.text, hardware=hardware)
        assert found.fits, f"{found.peak_gib} of {found.memory_gib} GiB"
        assert found.hours


def test_recipes_are_there_for_each_model_and_card():
    text = "".join(title for _, title in FOR_A_GPU)
    for word in ("0.5B", "1.5B", "3B", "7B", "14B", "StarCoder2", "DeepSeek", "70B", "l4x1", "a100-large", "h200"):
        assert word in text
    assert {preset.name.partition("/")[0] for preset, _ in FOR_A_GPU} >= {"sft", "dpo", "kto", "orpo", "reward"}


def test_the_command_prints_json_that_adds_up(tmp_path, capsys):
    told = [
        "estimate",
        "sft/tiny-cpu",
        "train.max_steps=7",
        "--hardware",
        "l4x1",
        "--json",
        "--workspace",
        str(tmp_path),
    ]
    assert main(told) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"fits", "peak_gib", "hours", "usd", "disk_gib", "parts"} <= set(found)
    assert sum(found["parts"].values()) == pytest.approx(found["peak_gib"], abs=0.02)
    assert found["usd"] == pytest.approx(found["hours"] * 0.8, abs=0.01)
    assert main([*told[:-3], "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("fits: ")


def test_what_asks_for_more_memory_is_told_to(ctx):
    usual = ask(ctx).peak_gib
    assert ask(ctx, "train.per_device_train_batch_size=16").peak_gib > usual
    assert ask(ctx, "train.max_length=2048").peak_gib > usual
    assert ask(ctx, "train.gradient_checkpointing=false").peak_gib > usual
    assert ask(ctx, "lora=null").peak_gib > 2 * usual
    assert ask(ctx, "train.label_smoothing_factor=0.1").peak_gib > usual
    assert ask(ctx, "model.load_in_4bit=true").peak_gib < usual
    assert ask(ctx, "lora=null", "train.optim=adamw_8bit").peak_gib < ask(ctx, "lora=null").peak_gib
    preferences = ["kind=dpo", "datasets=[{path: sample:python-preferences}]"]
    assert ask(ctx, *preferences).parts["reference"] == 0
    assert ask(ctx, *preferences, "lora=null").parts["reference"] > 5
    assert ask(ctx, "kind=reward", *preferences[1:]).parts["logits"] == 0


def test_several_gpus_share_the_rows_and_each_holds_all(ctx):
    several = ["train.max_steps=20000", "launch.num_processes=4"]
    one, four = ask(ctx, "train.max_steps=80000", hardware="l4x4"), ask(ctx, *several, hardware="l4x4")
    assert four.tokens == one.tokens
    assert four.hours == pytest.approx(one.hours / 4, rel=0.03)
    assert one.parts["buckets"] == 0
    assert four.parts["buckets"] == pytest.approx(4 * four.trained_parameters / 2**30, rel=0.01)
    with pytest.raises(RecipeError, match="4 processes want 4 GPUs, and l4x1 has 1"):
        ask(ctx, *several)
    on_cpu = [ask(ctx, f"launch.num_processes={count}", hardware="cpu-upgrade").peak_gib for count in (1, 2)]
    assert on_cpu[1] > 1.9 * on_cpu[0]


@pytest.mark.parametrize("config", ["fsdp2", "zero3"])
def test_gpus_that_share_a_model_hold_a_part_each(ctx, config):
    whole = ["lora=null", "launch.num_processes=4"]
    each, shared = ask(ctx, *whole, hardware="l4x4"), ask(ctx, *whole, f"launch.config={config}", hardware="l4x4")
    for part in ("weights", "optimizer"):
        assert shared.parts[part] == pytest.approx(each.parts[part] / 4, rel=0.01)
    assert (shared.parts["buckets"], each.parts["gathered"]) == (0, 0)
    assert 0 < shared.parts["gathered"] < each.parts["weights"] / 2
    assert (each.fits, shared.fits) == (False, True)
    assert shared.hours == each.hours
    assert "each of 4 processes reads the whole model" in shared.notes[0]
    assert "not yet measured" in shared.notes[0]


def test_a_base_in_4_bits_is_shared_by_four_small_gpus_where_memory_holds_a_copy_for_each(ctx):
    text = next(preset.text for preset, _ in FOR_A_GPU if preset.name == "sft/codellama-70b-qlora-4xl4")
    found = ask(ctx, text=text, hardware="l4x4")
    assert found.parts["weights"] == pytest.approx(8.5, rel=0.03)  # 35.3 GB in NF4 and 1.05 GB of embeddings, by four
    assert 12 < found.peak_gib < 22
    assert not ask(ctx, "launch.config=ddp", text=text, hardware="l4x4").fits
    poor = dataclasses.replace(find_hardware("l4x4"), ram_gib=96)  # four copies of 34 GiB do not go into it
    recipe = parse_recipe(text)
    assert not core.estimate(recipe, service.find_shape(ctx, recipe), poor, None).fits


def test_it_is_said_how_many_gpus_stay_idle(ctx):
    told = [ask(ctx, f"launch.num_processes={count}", hardware="l4x4").notes for count in (1, 2, 4)]
    assert told[0][0] == "1 of the 4 GPUs is used"
    assert told[1][0] == "2 of the 4 GPUs are used"
    assert not any("GPUs" in note for note in told[2])


def test_a_run_too_large_for_a_machine_does_not_fit(ctx):
    assert not ask(ctx, "lora=null", "train.per_device_train_batch_size=64").fits
    assert ask(ctx, "lora=null", "train.per_device_train_batch_size=64", hardware="h200").fits


def test_hours_follow_the_rows_and_the_machine(ctx):
    once, twice = (ask(ctx, f"train.max_steps={steps}") for steps in (20_000, 40_000))
    assert twice.hours == pytest.approx(2 * once.hours, rel=0.1)
    assert ask(ctx, "train.max_steps=20000", hardware="a100-large").hours < once.hours
    unknown = ask(ctx, "datasets=[{path: owner/rows}]")
    assert unknown.hours is None
    assert "number of rows is not known" in unknown.notes[-1]


def test_a_shape_is_read_from_a_folder(ctx, tmp_path):
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 500,
    }
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    assert ask(ctx, f"model.model_name_or_path={tmp_path}").num_parameters == 146_240
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_')
    with pytest.raises(ModelError, match="cannot be read"):
        ask(ctx, f"model.model_name_or_path={tmp_path}")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="holds no settings"):
        ask(ctx, f"model.model_name_or_path={tmp_path}")


def test_of_an_unknown_model_only_its_config_is_fetched(ctx, hub, monkeypatch):
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 500,
    }
    hub.state.put(
        "models", "bob/known", {"config.json": json.dumps({"model_type": "llama", **sizes}), "model.safetensors": "x"}
    )
    monkeypatch.setattr(type(ctx), "hub", lambda self: hub.client())
    for _ in range(2):
        assert ask(ctx, "model.model_name_or_path=bob/known").num_parameters == 146_240
    asked = [line["path"] for line in hub.asked("", "GET")]
    assert asked
    assert all(path.endswith("config.json") or path.startswith("/api/models/") for path in asked)


def test_prices_of_the_hub_are_taken_when_asked_for(ctx, hub, monkeypatch):
    before = ask(ctx, "train.max_steps=20000")
    monkeypatch.setattr(type(ctx), "hub", lambda self: hub.client())
    assert service.refresh_prices(ctx) == 2
    dearer = ask(ctx, "train.max_steps=20000")
    assert dearer.usd == pytest.approx(dearer.hours * 0.9, abs=0.01)
    assert dearer.usd > before.usd
    hub.fail("/api/jobs/hardware", status=503, message="busy")
    with pytest.raises(HubBusyError):
        service.refresh_prices(ctx)
    assert ask(ctx, "train.max_steps=20000").usd == dearer.usd
    (ctx.workspace.root / service.PRICES).write_text('{"usd_per_hour": {"l4x1": "free"}}')
    assert ask(ctx, "train.max_steps=20000").usd == before.usd


BAD = {
    "hardware": (["model.revision=main"], "l4x2", RecipeError, "Did you mean 'l4x4'?"),
    "no such hardware": ([], "", RecipeError, "Known: a100-large"),
    "a model nobody knows": (
        ["model.model_name_or_path=owner/unknown"],
        "l4x1",
        ModelError,
        "Known without the Hub: Qwen/",
    ),
    "no batch": (["train.per_device_train_batch_size=0"], "l4x1", RecipeError, "0 is no size"),
    "a batch beyond all bounds": (
        ["train.per_device_train_batch_size=100000000000"],
        "l4x1",
        RecipeError,
        "is no size",
    ),
    "a row below zero": (["train.max_length=-5"], "l4x1", RecipeError, "-5 is no size"),
}


@pytest.mark.parametrize(("overrides", "hardware", "kind", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_told_in_one_sentence(ctx, overrides, hardware, kind, says):
    with pytest.raises(kind) as caught:
        ask(ctx, *overrides, hardware=hardware)
    assert says in str(caught.value)


def test_a_tokenizer_run_has_nothing_to_estimate(ctx):
    with pytest.raises(RecipeError, match="trains no model"):
        ask(ctx, text="kind: tokenizer\n" + ROWS)


def test_each_flavour_is_whole_and_names_of_drivers_are_known():
    for one in list_hardware().values():
        assert one.memory_gib > 0
        assert one.tflops > 0
        assert bool(one.gpu) == (one.num_gpus > 0)
    assert gpu_facts("NVIDIA A100-SXM4-80GB")["tflops"] == 312
    assert gpu_facts("NVIDIA L40S")["tflops"] == 362
    assert gpu_facts("NVIDIA H200")["tflops"] == 989
    assert gpu_facts("some card")["tflops"] == 121


@pytest.mark.parametrize("case", fit.CASES)
def test_the_estimate_is_near_what_was_measured_on_a_cpu(case):
    """The figures of `python -m bench fit`, against the formula of today."""
    measured = json.loads((RESULTS / "fit-cpu.json").read_text(encoding="utf-8"))["runs"][case]["measured_gib"]
    _, expected = fit.describe(fit.CASES[case], Path("/model"), Path("/rows.jsonl"))
    assert expected.peak_gib - CPU_BASE_GIB == pytest.approx(measured, rel=0.2)


def test_our_own_loop_makes_all_logits_at_once(ctx):
    more = ["train.max_length=2048", "train.per_device_train_batch_size=8"]
    trl, own = ask(ctx, *more), ask(ctx, *more, "engine=loop")
    assert own.parts["logits"] > 2 * trl.parts["logits"]
