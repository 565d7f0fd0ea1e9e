"""What sets up llama.cpp: a missing compiler and a refused download are one sentence, and what was built is built once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
SCRIPT = REPO / "scripts" / "export_tools.py"


def set_up(tmp_path, **environ):
    """Run the script where nothing is installed: site-packages are left out, and the cache is empty."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return subprocess.run(
        [sys.executable, "-S", str(SCRIPT)], env={**kept, **environ}, capture_output=True, text=True, timeout=60
    )


def test_without_a_compiler_it_says_what_to_install(tmp_path):
    (tmp_path / "bin").mkdir()
    told = set_up(tmp_path, PATH=str(tmp_path / "bin"))
    assert told.returncode == 1
    assert "there is no C++ compiler. Install g++" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_pip_that_fails_is_one_sentence_with_the_log(tmp_path):
    for name in ("c++", "g++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    told = set_up(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", PIP_NO_INDEX="1")  # no test has a network
    assert told.returncode == 1
    assert "pip download failed" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_make_and_the_image_run_it(name):
    assert "scripts/export_tools.py" in (REPO / name).read_text()
