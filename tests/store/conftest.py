import pytest

from codex_space.store.db import Database
from codex_space.store.runs import insert_run


@pytest.fixture
def db(tmp_path):
    database = Database.open(tmp_path / "codex_space.db")
    yield database
    database.close()


@pytest.fixture
def new_run(db):
    """Queue a run under a running number."""
    count = iter(range(1, 10_000))

    def queue(name="one", now=100.0, **given):
        number = next(count)
        values = {"id": f"20261121-{number:06d}-sft-aaaa", "kind": "sft", "recipe": "kind: sft\n", "repo_id": None}
        return insert_run(db, **{**values, "name": name, "now": now, **given})

    return queue
