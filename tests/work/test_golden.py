"""The committed loss trajectory; `python -m tests.work.test_golden` writes it again where a change is meant."""

import json
import tempfile
from pathlib import Path

import pytest

from tests.work.conftest import chat_rows, make_folder, sft_recipe

GOLDEN = Path(__file__).parent.parent / "golden" / "sft.json"


def _train(folder: Path) -> dict[str, float]:
    job = make_folder(folder, sft_recipe(), chat_rows())
    assert job.run(num_threads=1) == 0
    return {str(step): round(loss, 6) for step, loss in job.curve("loss")}


def test_the_losses_are_those_of_the_committed_trajectory(tmp_path):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["loss"]
    assert len(golden) == 20
    assert golden["20"] < golden["1"] - 0.3, "a trajectory that does not learn proves nothing"
    assert _train(tmp_path) == pytest.approx(golden, abs=2e-3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps({"loss": _train(Path(scratch))}, indent=1) + "\n", encoding="utf-8")
