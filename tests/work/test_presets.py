"""Every shipped recipe is valid, and the small ones run to their end from an empty folder."""

import pytest
import yaml

from codex_space.core.architectures import read_architecture
from codex_space.core.export_tools import find_converter
from codex_space.core.presets import list_presets, read_recipe_text
from codex_space.core.recipe import KINDS, PretrainRecipe, parse_recipe
from tests.work.conftest import make_folder

PRESETS = list_presets()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_shipped_recipe_is_valid_and_has_a_title(preset):
    recipe = parse_recipe(preset.text)
    assert preset.text.startswith("# ")
    assert 10 < len(preset.title) <= 120
    assert recipe.kind == preset.name.split("/")[0]
    if isinstance(recipe, PretrainRecipe) and isinstance(recipe.architecture, str):
        assert recipe.block_size <= read_architecture(recipe.architecture).fields["max_position_embeddings"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_smallest_recipe(kind):
    assert f"{kind}/tiny-cpu" in {preset.name for preset in PRESETS}


@pytest.mark.slow
@pytest.mark.parametrize("name", [preset.name for preset in PRESETS if preset.name.endswith("/tiny-cpu")])
def test_the_smallest_recipe_runs_to_its_end(tmp_path, name):
    if name.startswith("export/") and find_converter() is None:
        pytest.skip("llama.cpp is not set up on this machine: make export-tools")
    job = make_folder(tmp_path, yaml.safe_load(read_recipe_text(name)))
    assert job.run() == 0, job.sentence
    assert job.dir.checkpoint_steps() or job.said("samples") or list(job.dir.export.glob("*.gguf"))
