"""Write the model card that goes up with each checkpoint; never a token, never a path of this machine."""

from typing import Any

from codex_space.core import scrub
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.origin import Origin
from codex_space.core.recipe import RewardRecipe
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.core.sharing import last_part
from codex_space.hub import card_parts
from codex_space.hub.card_parts import code, front_matter, plain
from codex_space.hub.manifest import Manifest

NO_ORIGIN = Origin()


def render_card(
    recipe: TrainingRecipe,
    manifest: Manifest,
    *,
    repo_id: str,
    recipe_text: str,
    origin: Origin = NO_ORIGIN,
    cost: str = "",
) -> str:
    """Return the README of a model repository at this checkpoint; equal input gives equal text.

    `cost` says what the run has cost so far on machines that are paid for, empty where nothing was paid.
    """
    front = front_matter(_front_matter(recipe, manifest, origin, repo_id))
    metrics = "\n".join(f"| {plain(name)} | {value:.6g} |" for name, value in sorted(manifest.metrics.items()))
    spent = (("Cost", f"{cost} by the time this was pushed"),) if cost else ()
    parts = [
        f"{front}\n# {plain(_title(recipe, repo_id))}\n",
        f"{_sentence(recipe, manifest)}\n",
        f"| Metric | Value |\n|---|---|\n{metrics}\n" if metrics else "",
        card_parts.render_sources(origin),
        card_parts.render_scores(origin, "Of this run's checkpoint at optimizer step"),
        f"## Use it\n\n{card_parts.block(_snippet(recipe, manifest, repo_id), 'python')}\n\n"
        f'Every checkpoint is a tag of this repository (`revision="step-{manifest.step}"`). The folder `resume/` holds '
        f"the optimizer of the newest one, so that training can go on.\n",
        card_parts.render_training(origin, recipe_text, spent),
    ]
    return scrub.clean("\n".join(part for part in parts if part))


def _front_matter(recipe: TrainingRecipe, manifest: Manifest, origin: Origin, repo_id: str) -> dict[str, Any]:
    adapter = _is_adapter(manifest)
    tags = ["codex-space", recipe.__class__.__name__.removesuffix("Recipe").lower()]
    task = "text-classification" if _scores(recipe) else "text-generation"
    front: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": task}
    if origin.recipe_text:
        front |= card_parts.licence_front(origin)
    base = _base(recipe, origin)
    if base:
        front |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    datasets = sorted({row.path for row in recipe.datasets if looks_like_repo_id(row.path)})
    front |= card_parts.dataset_front(origin) or ({"datasets": datasets} if datasets else {})
    front["tags"] = [*tags, "lora"] if adapter else tags
    return front | card_parts.model_index(_title(recipe, repo_id), origin.scores)


def _base(recipe: TrainingRecipe, origin: Origin) -> str:
    """Return the base model's Hub id, also where the run goes on from another run's result."""
    ref = getattr(getattr(recipe, "model", None), "model_name_or_path", "")
    known = ref if looks_like_repo_id(ref) else origin.model.id if origin.model else ""
    return known if looks_like_repo_id(known) else ""


def _title(recipe: TrainingRecipe, repo_id: str) -> str:
    return recipe.name or repo_id.split("/")[-1]


def _sentence(recipe: TrainingRecipe, manifest: Manifest) -> str:
    ref = getattr(getattr(recipe, "model", None), "model_name_or_path", "")
    base = ref if looks_like_repo_id(ref) else ""
    what = "A LoRA adapter" if _is_adapter(manifest) else "A reward model" if _scores(recipe) else "A language model"
    origin = f" of [{plain(base)}](https://huggingface.co/{base})" if base else ""
    sources = ", ".join(code(last_part(row.path)) for row in recipe.datasets)
    told = f"{what}{origin}, trained on {sources}, at optimizer step {manifest.step} ({plain(manifest.kind)})."
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
