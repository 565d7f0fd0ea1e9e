"""Write the model card that goes up with each checkpoint; never a token, never a path of this machine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.recipe import RewardRecipe, TrainingRecipe, parse_yaml
from codex_space.hub.manifest import Manifest
from codex_space.hub.ollama import use_lines

_LOCAL = re.compile(r"(/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")


def render_card(recipe: TrainingRecipe, manifest: Manifest, *, repo_id: str, recipe_text: str) -> str:
    """Return the README of a model repository at this checkpoint; equal input gives equal text."""
    front = yaml.safe_dump(_front_matter(recipe, manifest), sort_keys=False, allow_unicode=True)
    metrics = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(manifest.metrics.items()))
    table = f"\n| Metric | Value |\n|---|---|\n{metrics}\n" if metrics else ""
    return (
        f"---\n{front}---\n\n# {_title(recipe, repo_id)}\n\n{_sentence(recipe, manifest)}\n{table}\n"
        f"## Use it\n\n```python\n{_snippet(recipe, manifest, repo_id)}\n```\n\n"
        f'Every checkpoint is a tag of this repository (`revision="step-{manifest.step}"`). The folder `resume/` holds '
        f"the optimizer of the newest one, so that training can go on.\n\n"
        f"## How it was trained\n\n```yaml\n{recipe_text.strip()}\n```\n"
    )


@dataclass(frozen=True)
class Origin:
    """What an exported model came from: the recipe it was trained by, and of what; empty where it is not known.

    Attributes:
        model: Hub id of the base model.
        facts: (name, value) of machine and packages.
    """

    recipe_text: str = ""
    model: str = ""
    revision: str = ""
    licence: str = ""
    datasets: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def render_gguf_card(results: Mapping[str, Any], origin: Origin, *, repo_id: str = "") -> str:
    """Return the README beside GGUF files: what each was found to be against the model, and how to run it."""
    offered = [row for row in results["files"] if row["passed"]]
    front: dict[str, Any] = {"library_name": "gguf", "pipeline_tag": "text-generation"}
    if origin.licence:
        front["license"] = origin.licence
    if origin.model:
        front |= {"base_model": origin.model, "base_model_relation": "quantized"}
    if origin.datasets:
        front["datasets"] = list(origin.datasets)
    front["tags"] = ["codex-space", "gguf", "code"]
    rows = "\n".join(
        f"| `{row['path']}` | {row['type']} | {row['bytes'] / 1e6:,.1f} MB | {row['kl']:.2g} | {100 * row['top1']:.1f} % |"
        for row in offered
    )
    reference = results["reference"]
    lines = "\n\n".join(
        f"**{name}**\n\n```\n{text}\n```" for name, text in use_lines(results["name"], results["usual"], repo_id)
    )
    whence = f" of [{origin.model}](https://huggingface.co/{origin.model})" if origin.model else ""
    pinned = f" at `{origin.revision}`" if origin.revision else ""
    facts = "\n".join(f"- {name}: {value}" for name, value in origin.facts)
    trained = (
        f"## How it was trained\n\n```yaml\n{origin.recipe_text.strip()}\n```\n\n{facts}\n"
        if origin.recipe_text
        else ""
    )
    licence = origin.licence or "not stated by the base model; look there before you pass these files on"
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# {results['name']}\n\n"
        f"GGUF files{whence}{pinned}, for Ollama, LM Studio, llama.cpp and others. Licence: {licence}.\n\n"
        f"| File | Type | Size | KL | Same top token |\n|---|---|---|---|---|\n{rows}\n\n"
        f"KL is the mean divergence from the model in {reference['dtype']}, in nats a token, over {reference['num_tokens']:,} "
        f"tokens of code; each file cuts all of {offered[0]['num_strings']} test strings into the model's own tokens, and carries "
        f"its chat template.\n\n## Use it\n\n{lines}\n\n{trained}"
    )


def share_recipe(text: str) -> str:
    """Return a recipe's text with paths of this machine cut to their last part; all else stays as written.

    Raises:
        RecipeError: The text is not YAML.
    """
    for value in sorted(_strings(parse_yaml(text)), key=len, reverse=True):
        if _LOCAL.match(value):
            text = text.replace(value, _last_part(value))
    return text


def _front_matter(recipe: TrainingRecipe, manifest: Manifest) -> dict[str, Any]:
    adapter = _is_adapter(manifest)
    tags = ["codex-space", recipe.__class__.__name__.removesuffix("Recipe").lower()]
    task = "text-classification" if _scores(recipe) else "text-generation"
    front: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": task}
    base = _model_reference(recipe)
    if looks_like_repo_id(base):
        front["base_model"] = base
        front["base_model_relation"] = "adapter" if adapter else "finetune"
    datasets = sorted({row.path for row in recipe.datasets if looks_like_repo_id(row.path)})
    if datasets:
        front["datasets"] = datasets
    front["tags"] = [*tags, "lora"] if adapter else tags
    return front


def _title(recipe: TrainingRecipe, repo_id: str) -> str:
    return recipe.name or repo_id.split("/")[-1]


def _sentence(recipe: TrainingRecipe, manifest: Manifest) -> str:
    base = _model_reference(recipe)
    what = "A LoRA adapter" if _is_adapter(manifest) else "A reward model" if _scores(recipe) else "A language model"
    origin = f" of [{base}](https://huggingface.co/{base})" if looks_like_repo_id(base) else ""
    sources = ", ".join(f"`{_last_part(row.path)}`" for row in recipe.datasets)
    told = f"{what}{origin}, trained on {sources}, at optimizer step {manifest.step} ({manifest.kind})."
    scores = " It gives an answer one number, higher for the better one; it is not for chatting."
    return told + scores if _scores(recipe) else told


def _scores(recipe: TrainingRecipe) -> bool:
    return isinstance(recipe, RewardRecipe)


def _snippet(recipe: TrainingRecipe, manifest: Manifest, repo_id: str) -> str:
    loader = "AutoModelForSequenceClassification" if _scores(recipe) else "AutoModelForCausalLM"
    package = "transformers"
    if _is_adapter(manifest):
        loader, package = loader.replace("Auto", "AutoPeft", 1), "peft"
    imports = f"from {package} import {loader}\nfrom transformers import AutoTokenizer\n"
    if package == "transformers":
        imports = f"from transformers import {loader}, AutoTokenizer\n"
    revision = f'"{repo_id}", revision="step-{manifest.step}"'
    labels = ", num_labels=1" if _scores(recipe) else ""
    return f"{imports}\nmodel = {loader}.from_pretrained({revision}{labels})\ntokenizer = AutoTokenizer.from_pretrained({revision})"


def _is_adapter(manifest: Manifest) -> bool:
    return "adapter_config.json" in manifest.files


def _model_reference(recipe: TrainingRecipe) -> str:
    model = getattr(recipe, "model", None)
    return model.model_name_or_path if model is not None else ""


def _last_part(value: str) -> str:
    if not _LOCAL.match(value):
        return value
    return PureWindowsPath(value).name if "\\" in value else PurePosixPath(value).name or "local"


def _strings(value: Any) -> list[str]:  # noqa: ANN401  # walks any YAML value
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]
