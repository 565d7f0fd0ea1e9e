"""The card beside GGUF files: what each was found to be against its model, where that came from, and how to run it."""

from collections.abc import Mapping
from typing import Any

from codex_space.core import scrub
from codex_space.core.hub_names import looks_like_repo_id
from codex_space.core.origin import Origin
from codex_space.hub import card_parts
from codex_space.hub.card_parts import block, code, front_matter, plain
from codex_space.hub.ollama import use_lines

CARD = "README.md"


def render_gguf_card(results: Mapping[str, Any], origin: Origin, *, repo_id: str = "") -> str:
    """Return the README of an export; equal input gives equal text."""
    name, base = str(results["name"]), origin.model
    whence = f" of {card_parts.link(base)}" if base else ""
    parts = [
        f"{front_matter(_front_matter(name, origin))}\n# {plain(name)}\n",
        f"GGUF files{whence}, for Ollama, LM Studio, llama.cpp and others.\n",
        _files(results),
        f"{said}\n" if (said := say_trained_in_4bit(results["reference"])) else "",
        card_parts.render_sources(origin) or card_parts.render_licence(origin),
        card_parts.render_scores(origin, "Of the model before it became these files, at optimizer step"),
        _use(results, repo_id),
        card_parts.render_training(origin, origin.recipe_text) if origin.recipe_text else "",
    ]
    return scrub.clean("\n".join(part for part in parts if part))


def _front_matter(name: str, origin: Origin) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "gguf", "pipeline_tag": "text-generation"}
    front |= card_parts.licence_front(origin)
    if origin.model and looks_like_repo_id(origin.model.id):
        front |= {"base_model": origin.model.id, "base_model_relation": "quantized"}
    front |= card_parts.dataset_front(origin)
    front["tags"] = ["codex-space", "gguf", "code"]
    return front | card_parts.model_index(name, origin.scores)


def _files(results: Mapping[str, Any]) -> str:
    offered, reference = [row for row in results["files"] if row["passed"]], results["reference"]
    rows = "\n".join(
        f"| {code(row['path'])} | {row['type']} | {row['bytes'] / 1e6:,.1f} MB | {row['kl']:.2g} | {100 * row['top1']:.1f} % |"
        for row in offered
    )
    return (
        f"| File | Type | Size | KL | Same top token |\n|---|---|---|---|---|\n{rows}\n\n"
        f"KL is the mean divergence from the model in {reference['dtype']}, in nats a token, over {reference['num_tokens']:,} "
        f"tokens of code; each file cuts all of {offered[0]['num_strings']} test strings into the model's own tokens, and "
        f"carries its chat template.\n"
    )


def say_trained_in_4bit(reference: Mapping[str, Any]) -> str:
    """Return what it means for an export that the adapter was trained on 4 bits, empty where it was not."""
    if not reference.get("trained_in_4bit"):
        return ""
    far = reference.get("kl_as_trained")
    measured = f": the model as it was trained is KL {far:.2g} nats a token away from it" if far is not None else ""
    return (
        "The adapter was trained on a base held in 4 bits (QLoRA). Here it is merged into the unquantised base, and that "
        f"model is what every file was compared with{measured}. Pass rates measured while it trained are those of the 4-bit model."
    )


def _use(results: Mapping[str, Any], repo_id: str) -> str:
    lines = use_lines(str(results["name"]), str(results["usual"]), repo_id)
    return "## Use it\n\n" + "\n\n".join(f"**{name}**\n\n{block(text)}" for name, text in lines) + "\n"
