"""Write the model card that goes up with each checkpoint; never a token, never a path of this machine."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from codex_space.core import scrub
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.recipe import RewardRecipe, TrainingRecipe
from codex_space.core.yaml_text import parse_yaml
from codex_space.hub.manifest import Manifest

_LOCAL = re.compile(r"(/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|file:)")


def render_card(recipe: TrainingRecipe, manifest: Manifest, *, repo_id: str, recipe_text: str) -> str:
    """Return the README of a model repository at this checkpoint; equal input gives equal text."""
    front = yaml.safe_dump(_front_matter(recipe, manifest), sort_keys=False, allow_unicode=True)
    metrics = "\n".join(f"| {name} | {value:.6g} |" for name, value in sorted(manifest.metrics.items()))
    table = f"\n| Metric | Value |\n|---|---|\n{metrics}\n" if metrics else ""
    return scrub.clean(
        f"---\n{front}---\n\n# {_title(recipe, repo_id)}\n\n{_sentence(recipe, manifest)}\n{table}\n"
        f"## Use it\n\n```python\n{_snippet(recipe, manifest, repo_id)}\n```\n\n"
        f'Every checkpoint is a tag of this repository (`revision="step-{manifest.step}"`). The folder `resume/` holds '
        f"the optimizer of the newest one, so that training can go on.\n\n"
        f"## How it was trained\n\n```yaml\n{recipe_text.strip()}\n```\n"
    )


def share_recipe(text: str) -> str:
    """Return a recipe's text with paths of this machine cut to their last part; all else stays as written.

    Raises:
        RecipeError: The text is not YAML.
    """
    for value in sorted(_strings(parse_yaml(text)), key=len, reverse=True):
        if _LOCAL.match(value):
            text = text.replace(value, _last_part(value))
    return scrub.clean(text)


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
