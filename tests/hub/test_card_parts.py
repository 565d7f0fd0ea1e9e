"""Cards are read back by huggingface_hub's own parser, and text from outside is never markup."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard

from codex_space.core.licences import Stated, judge
from codex_space.core.origin import Origin, Score
from codex_space.core.paths import MANIFEST
from codex_space.core.recipe import parse_recipe
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.core.sharing import share_recipe
from codex_space.core.sources import Source
from codex_space.hub.card_parts import block, code, plain
from codex_space.hub.cards import render_card
from codex_space.hub.gguf_cards import render_gguf_card
from codex_space.hub.licences import parse_licence
from codex_space.hub.manifest import Manifest, parse_manifest
from tests.fakes.checkpoints import RECIPE, write_checkpoint

HOSTILE = [
    "a|b", "`x`", "``` end", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://evil/x.png)", "a\n\n# Title",
    "---\nlicense: mit\n---", "a: b # c", "\u202egnp.exe", "\x1b[31m", "${HOME}", "*b* _i_ ~s~", "&lt;b&gt;", "'\"", "%s {0}",
]  # fmt: skip
ROW = {
    "path": "m-Q8_0.gguf",
    "type": "Q8_0",
    "bytes": 10,
    "kl": 0.001,
    "top1": 0.99,
    "num_strings": 500,
    "passed": True,
}
BASE, DATA = Source("ada/base", "main", "c" * 40, "apache-2.0"), Source("bob/code", "", "d" * 40, "cc-by-4.0")


def origin_of(*datasets, model=BASE, **more):
    verdict = judge(model.stated if model else None, [each.stated for each in datasets])
    return Origin(recipe_text=RECIPE, model=model, datasets=datasets, licence=verdict, **more)


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    folder = write_checkpoint(tmp_path / "checkpoint-30", 30)
    return parse_manifest((folder / MANIFEST).read_text(), "here")


def card_of(manifest, origin, text=RECIPE, **more):
    recipe = parse_recipe(text)
    assert isinstance(recipe, TrainingRecipe)
    return render_card(recipe, manifest, repo_id="ada/model", recipe_text=share_recipe(text), origin=origin, **more)


def gguf_of(origin, name="m"):
    results = {
        "name": name,
        "usual": "m-Q8_0.gguf",
        "reference": {"dtype": "float32", "num_tokens": 2048},
        "files": [ROW],
    }
    return render_gguf_card(results, origin, repo_id="ada/m-GGUF")


SCORE = Score(
    "first-steps", 0.4, 0.3, 0.5, 60, base=0.1, step=20,
    flips="Better than the base: 20 gained and 2 lost of 60 problems (p < 0.001, exact McNemar test on 22 flips).",
    gained=tuple(f"first/{number}" for number in range(25)), lost=("first/90",),
)  # fmt: skip


def test_both_cards_are_read_back_by_the_hubs_own_parser(manifest):
    origin = origin_of(
        DATA, scores=(SCORE, Score("first-steps tier 1", 0.9, 0.8, 1.0, 20)), losses=((1, 2.0), (2, 1.0))
    )
    for page, relation in ((card_of(manifest, origin), "adapter"), (gguf_of(origin), "quantized")):
        data = ModelCard(page).data
        assert data.license == "apache-2.0"
        assert data.base_model == "ada/base"
        assert data.datasets == ["bob/code"]
        assert data.base_model_relation == relation
        assert data.eval_results is not None
        results = {each.dataset_name: each.metric_value for each in data.eval_results}
        assert results == {"first-steps": 0.4, "first-steps tier 1": 0.9}
        assert {each.metric_type for each in data.eval_results} == {"pass@1"}
        assert data.model_name in {"first", "m"}
        again = ModelCard(page).data.to_dict()
        assert ModelCard(f"---\n{yaml.safe_dump(again)}---\n").data.eval_results == data.eval_results


def test_a_card_without_scores_has_no_model_index(manifest):
    assert ModelCard(card_of(manifest, origin_of(DATA))).data.eval_results is None


def test_the_card_tells_commits_scores_flips_and_money(manifest):
    origin = origin_of(
        DATA,
        scores=(SCORE,),
        protocol=("greedy; prompt: request",),
        losses=((1, 2.0), (2, 1.0)),
        facts=(("Hardware", "NVIDIA L4"),),
    )
    page = card_of(manifest, origin, cost="$1.23")
    assert f"| base model | [ada/base](https://huggingface.co/ada/base) | `{'c' * 40}` | apache-2.0 |" in page
    assert f"| data | [bob/code](https://huggingface.co/datasets/bob/code) | `{'d' * 40}` | cc-by-4.0 |" in page
    assert "Licence: apache-2.0, as the base model's." in page
    assert "| first-steps | 40.0 % | 30 to 50 % | 10.0 % | 60 |" in page
    assert "20 gained and 2 lost of 60 problems" in page
    assert "Gained: `first/0`, " in page
    assert "and 5 more" in page
    assert "Lost: `first/90`." in page
    assert "![Loss by step](curves.svg)" in page
    assert "- Hardware: NVIDIA L4" in page
    assert "- Cost: \\$1.23 by the time this was pushed" in page
    assert "Cost" not in card_of(manifest, origin), "nothing is said of money where none was spent"


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (Source("bob/nc", licence="cc-by-nc-4.0"), "conflict-see-card", "not for commercial use"),
        (Source("bob/none"), "unknown", "states no licence"),
        (Source("mine.jsonl"), "unknown", "mine.jsonl states no licence"),
    ],
)
def test_a_conflict_or_an_unknown_licence_is_said_and_none_is_claimed(manifest, data, name, said):
    for page in (card_of(manifest, origin_of(data)), gguf_of(origin_of(data))):
        found = ModelCard(page).data
        assert (found.license, found.license_name) == ("other", name)
        assert said in page
        assert "as the base model's" not in page


def unfenced(page):
    """The page without what is code."""
    return re.sub(r"(`+)(?:.|\n)*?\1", "", page)


def unescaped(page, text):
    """Where the text stands as it is, outside code."""
    return text in unfenced(page)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_shown_and_is_no_markup(manifest, text):
    score = Score(text, 0.4, 0.3, 0.5, 2, base=0.1, step=20, flips=f"Better: {text}", gained=(text,), lost=(text,))
    origin = origin_of(
        Source(text, text, text, text, text), model=Source(text, text, text, "other", text), scores=(score,),
        protocol=(text,), facts=((text, text),), losses=((1, 2.0), (2, 1.0)),
    )  # fmt: skip
    for page in (card_of(manifest, origin), gguf_of(origin, name=text)):
        front = ModelCard(page).data
        assert (front.license, front.pipeline_tag) == ("other", "text-generation")
        body = page.split("\n---\n", 1)[1]
        assert not unescaped(body, "<script>")
        assert not re.search(r"(?<!\\)\]\((javascript|http://evil)", unfenced(body))
        assert not unescaped(body, "\n# Title")
        assert "\x1b" not in body
        assert "\u202e" not in body
        rows = [line for line in body.splitlines() if line.startswith("| ")]
        assert all(len(re.findall(r"(?<!\\)\|", line)) in {3, 5, 6} for line in rows), rows


@pytest.mark.parametrize("text", ["```\n# out\n```", "````\n", "a ``` b", "x"])
def test_a_recipe_cannot_end_its_own_block(manifest, text):
    recipe = RECIPE + f"samples: {{prompts: [{yaml.safe_dump(text, default_style=chr(34)).strip()}]}}\n"
    page = card_of(manifest, origin_of(DATA), text=recipe.replace("\\n", "\n"))
    fence = re.findall(r"^(`{3,})yaml$", page, re.MULTILINE)[0]
    inside = page.split(f"{fence}yaml\n")[1].split(f"\n{fence}\n")[0]
    assert "hub: {repo_id: ada/model}" in inside
    assert not re.search(rf"^{fence}", inside, re.MULTILINE)


def test_spans_and_blocks_hold_what_they_are_given():
    assert code("a`b") == "``a`b``"
    assert code("`a") == "`` `a ``"
    assert code("a|b") == "`a\\|b`"
    assert code("") == "` `"
    assert block("``` x").startswith("````\n")
    assert plain("a" * 500) == "a" * 300
    assert plain("2 < 3\nand *x*") == "2 \\< 3 and \\*x\\*"
    assert plain("# Title") == "\\# Title"
    assert plain("- [x](y)") == "\\- \\[x\\](y)"
    assert plain("eval_loss (2.13+cpu) _i_ a_") == "eval_loss (2.13+cpu) \\_i\\_ a\\_"


GROWS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 7))


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (f"---\nlicense: mit\na0: &a0 [1]\n{GROWS}---\n", ("", "")),
        ("---\nlicense: MIT\n---\n# x", ("mit", "")),
        ("---\nlicense: other\nlicense_name: Qwen Research\n---\n", ("other", "Qwen Research")),
        ("---\nlicense: [mit, apache-2.0]\n---\n", ("other", "mit, apache-2.0")),
        ("---\nlicense: unknown\n---\n", ("", "")),
        ("---\nlicense: {a: b}\n---\n", ("", "")),
        ("---\nlicense: [\n---\n", ("", "")),
        ("---\n- 1\n---\n", ("", "")),
        ("license: mit\n", ("", "")),
        ("# no front\n---\nlicense: mit\n---\n", ("", "")),
        ("", ("", "")),
        ("---\nlicense: " + "x" * 500 + "\n---\n", ("x" * 80, "")),
    ],
)
def test_a_cards_licence_is_read_with_care(card, said):
    assert parse_licence(card) == said


def test_judging_what_hostile_cards_state_claims_nothing():
    assert judge(Stated("a", "mit\nlicense: x"), []).licence == "other"
