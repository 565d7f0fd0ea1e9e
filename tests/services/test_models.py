"""Which base models are offered: those trained here, those shipped, and what the Hub finds."""

import time

import pytest

from codex_space.core.errors import HubError
from codex_space.core.settings import read_settings
from codex_space.services import models
from codex_space.services.context import open_context


@pytest.fixture
def on_hub(tmp_path, hub):
    settings = read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace"), "HF_ENDPOINT": hub.endpoint})
    context = open_context(settings, time.time, own=False)
    yield context
    context.close()


def test_a_search_names_downloads_and_gates(on_hub, hub):
    hub.state.put("models", "bob/coder-1b", {"config.json": "{}"})
    hub.state.put("models", "eve/coder-secret", {"config.json": "{}"}, gated=True)
    notes = {base.ref: base.note for base in models.search_bases(on_hub, "coder")}
    assert notes["bob/coder-1b"] == "Hub; 7 downloads"
    assert "gated" in notes["eve/coder-secret"]


@pytest.mark.parametrize("typed", ["", "co", "run:20260101", "fresh:tiny"])
def test_what_is_no_part_of_a_name_asks_nobody(on_hub, hub, typed):
    assert models.search_bases(on_hub, typed) == []
    assert hub.asked("/api/models", "GET") == []


def test_a_dead_hub_is_an_error_of_ours(on_hub, hub):
    hub.fail("/api/models", status=503, times=99)
    with pytest.raises(HubError):
        models.search_bases(on_hub, "coder")
