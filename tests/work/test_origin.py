"""The origin of what is exported that is no run's: the model's own card is asked, and no path is told."""

import pytest

from codex_space.core.origin import Origin
from codex_space.core.sources import Source
from codex_space.work import origin


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: gpl-3.0\n---\n# x\n")
    return folder


@pytest.mark.parametrize(
    ("where", "model"),
    [
        ("ada/base", Source("ada/base", "", "c" * 40, "gpl-3.0")),
        ("run:20261101-000000-sft-aaaa@step-3", Source("run:20261101-000000-sft-aaaa@step-3", "", "c" * 40, "gpl-3.0")),
        ("/home/ada/secret/my-model", Source("my-model", "", "c" * 40, "gpl-3.0")),
    ],
)
def test_a_model_is_named_and_inherits_its_licence(base, where, model):
    found = origin.read(base, base, where, "c" * 40)
    assert found.model == model
    assert found.licence.licence == "gpl-3.0"


def test_without_a_card_the_licence_is_unknown_and_a_fresh_model_comes_from_nothing(base):
    (base / "README.md").unlink()
    assert origin.read(base, base, "/home/ada/secret/my-model").licence.name == "unknown"
    assert origin.read(base, base, "fresh:tiny") == Origin()
