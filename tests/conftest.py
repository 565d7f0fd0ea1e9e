"""What every test gets: a clean environment, no network beyond this machine, a workspace of its own."""

import itertools
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

# Read at import by huggingface_hub and gradio, so set before any test module is loaded.
_HF_HOME = tempfile.mkdtemp(prefix="codex-space-hf-")
for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "CODEX_SPACE", "GRADIO_", "SPACE_"))]:
    del os.environ[name]
os.environ.update(
    HF_HOME=_HF_HOME,
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
    OMP_WAIT_POLICY="PASSIVE",
)

from tests.fakes.hub_fixture import hub, hub_server  # noqa: E402, F401  # fixtures

REPO = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("CODEX_TEST_DATA", REPO.parent / "shared" / "data"))
_connect = socket.socket.connect


def _local_only(self, address):
    host = address[0] if isinstance(address, tuple) else address
    local = self.family == socket.AF_UNIX or str(host) in {"localhost", "::1"} or str(host).startswith("127.")
    if not local:
        raise OSError(f"a test tried to reach {host}: tests have no network")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", _local_only)


@pytest.fixture
def workspace(tmp_path):
    from codex_space.core.paths import Workspace

    return Workspace(tmp_path / "workspace").make()


@pytest.fixture
def ctx(tmp_path):
    """A workspace opened as a guest: services work on it, nothing is started; each look at the clock is a second later."""
    from codex_space.core.settings import read_settings
    from codex_space.services.context import open_context

    ticks = itertools.count(1_700_000_000)
    settings = read_settings({"CODEX_SPACE_HOME": str(tmp_path / "workspace")})
    context = open_context(settings, lambda: float(next(ticks)), own=False)
    yield context
    context.close()


@pytest.fixture
def real_data():
    """The folder of real benchmark data, for tests that want it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real benchmark data is not here ({REAL_DATA})")
    return REAL_DATA


def pytest_unconfigure():
    shutil.rmtree(_HF_HOME, ignore_errors=True)
