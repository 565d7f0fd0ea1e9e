"""A workspace opened as a guest: services work on it, nothing is started."""

import itertools

import pytest

from codex_space.core.settings import read_settings
from codex_space.services.context import open_context


@pytest.fixture
def ctx(tmp_path):
    ticks = itertools.count(1_700_000_000)
    context = open_context(
        read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace")}), lambda: float(next(ticks)), own=False
    )
    yield context
    context.close()
