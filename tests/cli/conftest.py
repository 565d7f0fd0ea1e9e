"""The command line in this process, on a workspace of the test's own."""

import json
from dataclasses import dataclass

import pytest

from codex_space.cli.main import main

RECIPE = (
    "kind: sft\nname: quiet\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
)


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run_command(ctx, capsys):
    """Run `codex-space WORDS` on `ctx`'s workspace."""

    def run(*words):
        code = main([*words, "--workspace", str(ctx.workspace.root)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Said(code, captured.out, captured.err)

    return run
