"""The packages with many modules say in their docstring which belong together; none is left out or named twice."""

import re
from collections import Counter
from pathlib import Path

import pytest

from codex_space import services, work


@pytest.mark.parametrize("package", [work, services])
def test_every_module_stands_once_in_what_its_package_says_of_itself(package):
    text = str(package.__doc__)
    named = Counter(name for line in re.findall(r"^- [^:]+: (.+)$", text, re.M) for name in line.split(", "))
    there = {path.stem for path in Path(str(package.__file__)).parent.glob("*.py")} - {"__init__"}
    assert named == Counter(there)
