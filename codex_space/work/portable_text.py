"""Render a planned run as YAML for the `trl` command, and as the Python script a person would have written by hand."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import yaml

from codex_space.core.shared_recipe import TuningRecipe
from codex_space.work.portable_plan import DATA, TEMPLATE, Plan

YAML_FILE, SCRIPT = "trl.yaml", "train.py"
WIDTH = 110
_TRAINERS = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "orpo": "ORPO", "reward": "Reward"}


def render_yaml(plan: Plan) -> str:
    """Return the text of trl.yaml, which the command reads from its own folder."""
    recipe, lora = plan.recipe, plan.lora
    model: dict[str, Any] = {"model_name_or_path": plan.model}
    if plan.revision:
        model["model_revision"] = plan.revision
    model |= {"dtype": plan.dtype, "attn_implementation": recipe.model.attn_implementation}
    if recipe.model.load_in_4bit:
        model |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    if plan.template:
        model["chat_template_path"] = TEMPLATE
    if lora:
        model |= {"use_peft": True, "lora_r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout}
        model["lora_target_modules"] = _targets(recipe)
        if lora.modules_to_save:
            model["lora_modules_to_save"] = list(lora.modules_to_save)
        model |= {name: True for name in ("use_rslora", "use_dora") if getattr(lora, name)}
        model["lora_task_type"] = str(getattr(lora.task_type, "value", lora.task_type))
    data = {"dataset_name": DATA, **({"dataset_test_split": "validation"} if plan.has_validation else {})}
    values = plan.settings()
    env = {"OMP_NUM_THREADS": str(plan.attempt.num_threads)} if values["use_cpu"] else {}
    if recipe.deterministic:
        values["full_determinism"] = True
    sections = [model, data, values, *([{"env": env}] if env else [])]
    comments = "".join(f"# {line}\n" for line in [*_heading(plan), f"trl {plan.kind} --config {YAML_FILE}"])
    return comments + "\n".join(
        yaml.safe_dump(each, sort_keys=False, allow_unicode=True, width=100) for each in sections
    )


def render_script(plan: Plan) -> str:
    """Return the text of train.py."""
    heading = _heading(plan)
    blocks = [
        ['"""' + heading[0], *(["", *heading[1:]] if heading[1:] else []), '"""'],
        list(_imports(plan)),
        list(_tokenizer(plan)),
        list(_model(plan)),
        *([["", *_new_rows()]] if plan.lora and plan.lora.trainable_token_indices else []),
        list(_trainer(plan)),
        list(_ending(plan)),
    ]
    return "\n\n".join("\n".join(block).strip("\n") for block in blocks if block) + "\n"


def _heading(plan: Plan) -> list[str]:
    """Return what a reader has to know."""
    version, threads = metadata.version("trl"), plan.attempt.num_threads
    name = plan.recipe.name or plan.kind
    told = [f"{name}: {plan.kind} with TRL {version}, as codex_space trains it. Run it in this folder."]
    if plan.values["use_cpu"]:
        told.append(
            f"Written for a machine without a GPU, where OMP_NUM_THREADS={threads} gives the same bits as codex_space. On a "
            "GPU set bf16 to true and take use_cpu, gradient_checkpointing and dataloader_pin_memory out."
        )
    if plan.draws and plan.has_validation:
        told.append(
            "It does not evaluate: dropout or noise draws random numbers, and each evaluation would change what comes after. "
            f"The rows kept out are in {DATA}/validation.parquet."
        )
    return [line for text in [*told, *plan.notes] for line in textwrap.wrap(text, WIDTH)]


def _imports(plan: Plan) -> Iterator[str]:
    name, lora, quantized = _TRAINERS[plan.kind], plan.lora, plan.recipe.model.load_in_4bit
    if plan.template:
        yield "from pathlib import Path"
        yield ""
    yield "import torch"
    yield "from datasets import load_dataset"
    if lora:
        yield f"from peft import LoraConfig{'' if plan.attaches else ', get_peft_model'}"
    if lora and lora.trainable_token_indices:
        yield "from peft.utils.other import TrainableTokensWrapper"
    names = [
        _auto(plan),
        "AutoTokenizer",
        *(["BitsAndBytesConfig"] if quantized else []),
        *(["set_seed"] if plan.scores else []),
    ]
    yield f"from transformers import {', '.join(names)}"
    yield f"from trl{'.experimental.orpo' if plan.kind == 'orpo' else ''} import {name}Config, {name}Trainer"


def _tokenizer(plan: Plan) -> Iterator[str]:
    revision = f", revision={_code(plan.revision)}" if plan.revision else ""
    yield f"MODEL = {_code(plan.model)}"
    if plan.values["use_cpu"]:
        yield f"torch.set_num_threads({plan.attempt.num_threads})"
    if plan.recipe.deterministic:
        yield "torch.use_deterministic_algorithms(True)"
    yield ""
    yield f"tokenizer = AutoTokenizer.from_pretrained(MODEL{revision})"
    if plan.template:
        yield 'tokenizer.chat_template = Path("chat_template.jinja").read_text(encoding="utf-8")'
    yield "if tokenizer.pad_token is None:"
    yield "    tokenizer.pad_token = tokenizer.eos_token"


def _model(plan: Plan) -> Iterator[str]:
    section = plan.recipe.model
    options: dict[str, str] = {"revision": _code(plan.revision)} if plan.revision else {}
    options |= {"dtype": f"torch.{plan.dtype}", "attn_implementation": _code(section.attn_implementation)}
    if plan.scores:
        options["num_labels"] = "1"
    if section.load_in_4bit:
        options["quantization_config"] = (
            'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
            f"bnb_4bit_compute_dtype=torch.{plan.compute_dtype})"
        )
        if not plan.values["use_cpu"]:
            options["device_map"] = '{"": 0}'
    call = f"{_auto(plan)}.from_pretrained"
    if plan.needs_reference:
        yield from ["", "def load_model():", *_call(f"    return {call}", ["MODEL"], options), "", ""]
        yield "model = load_model()"
    else:
        if plan.scores:
            yield f"set_seed({plan.recipe.seed})  # the head that gives the score starts at random"
        yield from _call(f"model = {call}", ["MODEL"], options)
    if plan.lora:
        yield from _call("adapters = LoraConfig", [], {name: _code(value) for name, value in _lora(plan).items()})
    if plan.lora and not plan.attaches:
        yield "model = get_peft_model(model, adapters)"


def _new_rows() -> Iterator[str]:
    yield "# TRL's fused head adds the bias of the head, which PEFT 0.21 does not pass on where it trains new tokens' rows."
    yield 'TrainableTokensWrapper.bias = property(lambda self: getattr(self.original_module, "bias", None))'


def _trainer(plan: Plan) -> Iterator[str]:
    name = _TRAINERS[plan.kind]
    yield 'rows = load_dataset("data")'
    yield f"trainer = {name}Trainer("
    yield "    model=model,"
    if plan.needs_reference:
        yield "    ref_model=load_model(),"
    yield f"    args={name}Config("
    for key, value in plan.settings().items():
        yield f"        {key}={_code(value)},"
    yield "    ),"
    yield '    train_dataset=rows["train"],'
    if plan.has_validation:
        yield '    eval_dataset=rows["validation"],'
    yield "    processing_class=tokenizer,"
    if plan.lora and plan.attaches:
        yield "    peft_config=adapters,"
    yield ")"


def _ending(plan: Plan) -> Iterator[str]:
    if plan.values["fp16"]:
        yield "for weight in trainer.model.parameters():  # the scaler takes gradients in 32 bits alone"
        yield "    weight.data = weight.data.float() if weight.requires_grad else weight.data"
    yield "trainer.train()"
    yield "trainer.save_model()"


def _lora(plan: Plan) -> dict[str, Any]:
    lora = plan.lora
    assert lora is not None  # noqa: S101  # narrows the type
    found: dict[str, Any] = {"task_type": str(getattr(lora.task_type, "value", lora.task_type))}
    found |= {"r": lora.r, "lora_alpha": lora.lora_alpha, "lora_dropout": lora.lora_dropout}
    given = plan.recipe.lora
    found["target_modules"] = given.target_modules if given else None
    if lora.modules_to_save:
        found["modules_to_save"] = list(lora.modules_to_save)
    found |= {name: True for name in ("use_rslora", "use_dora", "ensure_weight_tying") if getattr(lora, name)}
    if lora.trainable_token_indices:
        found["trainable_token_indices"] = lora.trainable_token_indices
    return found


def _auto(plan: Plan) -> str:
    return "AutoModelForSequenceClassification" if plan.scores else "AutoModelForCausalLM"


def _call(start: str, given: list[str], options: Mapping[str, str]) -> list[str]:
    """Return a call on one line where it fits, else with one argument a line."""
    arguments = [*given, *(f"{name}={value}" for name, value in options.items())]
    line = f"{start}({', '.join(arguments)})"
    if len(line) <= 120:
        return [line]
    indent = " " * (len(start) - len(start.lstrip()))
    return [f"{start}(", *(f"{indent}    {each}," for each in arguments), f"{indent})"]


def _code(value: Any) -> str:  # noqa: ANN401  # a value of YAML
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_code(key)}: {_code(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_code, value)) + "]"
    return repr(value)


def _targets(recipe: TuningRecipe) -> list[str]:
    """Return the names as a list; trl turns a list of one into a text, which PEFT reads as a pattern for whole names."""
    given = recipe.lora.target_modules if recipe.lora else []
    if isinstance(given, str):
        return [given]
    return [rf"(.*\.)?{given[0]}"] if len(given) == 1 else list(given)
