"""What only `make image` builds is checked here too: the Dockerfile's paths, pins and commands, and the README's front matter."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.dockerfile import parse_dockerfile

REPO = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())


def dockerfile_steps():
    return [(step.name, step.text) for step in parse_dockerfile((REPO / "Dockerfile").read_text())]


def pins(name):
    lines = (REPO / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_everything_the_dockerfile_copies_and_runs_is_there():
    steps = dockerfile_steps()
    for _, rest in [step for step in steps if step[0] == "COPY"]:
        *sources, _target = [part for part in rest.split() if not part.startswith("--")]
        assert all((REPO / source).exists() for source in sources)
    command = ast.literal_eval(next(rest for step, rest in steps if step == "CMD"))
    assert (REPO / command[-1]).is_file()


def test_the_container_runs_as_uid_1000_in_app_with_tini_and_a_compiler():
    steps = dockerfile_steps()
    text = "\n".join(f"{step} {rest}" for step, rest in steps)
    assert "--uid 1000 user" in text
    assert [rest for step, rest in steps if step == "USER"][-1] == "user"
    assert [rest for step, rest in steps if step == "WORKDIR"] == ["/app"]
    assert "tini" in next(rest for step, rest in steps if step == "ENTRYPOINT")
    for package in ("gcc", "g++", "libc6-dev", "tini", "git", "curl", "procps"):
        assert f" {package} " in text


def test_no_secret_is_needed_at_build_and_the_environment_block_is_whole():
    text = (REPO / "Dockerfile").read_text()
    assert "--mount=type=secret" not in text
    assert "TOKEN" not in text
    for line in (
        "SYSTEM=spaces",
        "GRADIO_SERVER_NAME=0.0.0.0",
        "GRADIO_ANALYTICS_ENABLED=False",
        "GRADIO_RUN_HISTORY=False",
    ):
        assert line in text


def test_debian_knows_every_package_the_dockerfile_installs():
    if shutil.which("apt-cache") is None:
        pytest.skip("no apt-cache on this machine")
    run = next(rest for step, rest in dockerfile_steps() if step == "RUN" and "apt-get install" in rest)
    names = run.split("--no-install-recommends")[1].split("&&")[0].split()
    shown = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *names], capture_output=True, text=True, check=False
    )
    if not shown.stdout:
        pytest.skip("apt-cache holds no package lists on this machine")
    assert set(re.findall(r"^Package: (\S+)", shown.stdout, re.M)) == set(names)


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-cuda.txt", "requirements-dev.txt", "requirements-export.txt"]
)
def test_requirements_hold_exact_pins_and_no_index(name):
    for line in (REPO / name).read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.]+", line), line


def test_pins_satisfy_the_ranges_of_pyproject():
    project = PYPROJECT["project"]
    pinned = pins("requirements.txt") | pins("requirements-dev.txt")
    for text in [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]:
        requirement = Requirement(text)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, text


@pytest.mark.slow
def test_train_fields_are_those_of_the_installed_trl():
    code = (
        "import json, sys; sys.path.insert(0, 'scripts'); import write_train_fields as w\n"
        "for kind, config in w.configs().items():\n"
        "    kept = json.loads((w.FIELDS / f'{kind}.json').read_text())\n"
        "    assert kept == w.describe(config), f'{kind}: run make fields'\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=REPO, check=True, timeout=120)


def test_readme_front_matter_is_what_a_docker_space_reads():
    _, front, _ = (REPO / "README.md").read_text().split("---", 2)
    values = yaml.safe_load(front)
    assert values["sdk"] == "docker"
    assert values["app_port"] == 7860
    assert values["suggested_hardware"] == "l4x1"
    assert "suggested_storage" not in values


def test_the_wheel_carries_configs_and_data():
    include = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert include == {"configs": "codex_space/_share/configs", "data": "codex_space/_share/data"}
    assert all((REPO / folder).is_dir() for folder in include)
