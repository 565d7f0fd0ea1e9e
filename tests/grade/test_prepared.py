"""Problems kept as they are worked with: the same ones, made again where file or code is another, or what is kept is damaged."""

import gc
import json

import pytest

from codex_space.core.errors import GradeError
from codex_space.grade import benchmarks, prepared
from codex_space.grade.prepared import load_prepared
from codex_space.grade.problems import load_problems
from codex_space.grade.score import _loops
from tests.grade import rows

BENCHMARK = benchmarks.find("humaneval")


@pytest.fixture
def file(tmp_path):
    return rows.write_lines(tmp_path / "problems.jsonl", rows.HUMANEVAL)


def kept(folder):
    return sorted(folder.glob("problems-*.json"))


def test_they_are_the_same_with_the_same_digests(file, tmp_path):
    folder = tmp_path / "kept"
    wanted = load_problems(BENCHMARK, file)
    for _ in range(2):
        found = load_prepared(BENCHMARK, file, folder)
        assert found == wanted
        assert [one.digest for one in found] == [one.digest for one in wanted]
    assert len(kept(folder)) == 1


def test_the_second_time_nothing_is_made(file, tmp_path, monkeypatch):
    load_prepared(BENCHMARK, file, tmp_path)
    monkeypatch.setattr(prepared, "load_problems", lambda *_: pytest.fail("made again"))
    assert len(load_prepared(BENCHMARK, file, tmp_path)) == len(rows.HUMANEVAL)


def test_another_file_or_other_code_makes_them_again(file, tmp_path, monkeypatch):
    load_prepared(BENCHMARK, file, tmp_path)
    rows.write_lines(file, rows.HUMANEVAL[:1])
    first = load_prepared(BENCHMARK, file, tmp_path / "sub")
    assert len(first) == len(load_prepared(BENCHMARK, file, tmp_path)) == 1
    (path,) = kept(tmp_path / "sub")
    before = path.read_text()
    monkeypatch.setattr(prepared, "_code", lambda: "other code")
    assert load_prepared(BENCHMARK, file, tmp_path / "sub") == first
    assert path.read_text() != before


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\xfe", b"x\n[]", b"VERSION\n[{}]", b"VERSION\n[1]", b"VERSION\n{", b"VERSION\n" + b"[" * 100_000],
)
def test_what_is_damaged_is_made_again(file, tmp_path, damage):
    wanted = load_prepared(BENCHMARK, file, tmp_path)
    (path,) = kept(tmp_path)
    path.write_bytes(damage.replace(b"VERSION", path.read_bytes().split(b"\n")[0]))
    assert load_prepared(BENCHMARK, file, tmp_path) == wanted


def test_where_nothing_can_be_kept_it_is_done_without(file, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder would be")
    assert load_prepared(BENCHMARK, file, blocked) == load_problems(BENCHMARK, file)


def test_a_file_that_is_not_there_or_is_none_is_said_as_always(tmp_path):
    with pytest.raises(GradeError, match="cannot be read"):
        load_prepared(BENCHMARK, tmp_path / "none.jsonl", tmp_path)
    (tmp_path / "bad.jsonl").write_text(json.dumps({"task_id": "x"}))
    with pytest.raises(GradeError, match="has no field"):
        load_prepared(BENCHMARK, tmp_path / "bad.jsonl", tmp_path)
    assert kept(tmp_path) == []
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("program", "deep"),
    [
        ("", 0),
        ("def f(x):\n    return x\n", 0),
        ("for a in b:\n  pass\nfor a in b:\n  pass\n", 1),
        ("def f(n):\n    for i in n:\n        while i:\n            for k in i:\n                pass\n    for j in n:\n        pass\n", 3),
        ("for a in b:\n\twhile c:\n\t\tpass\n", 2),
        ("format(1)\nfor_ = 2\nwhile_x()\n", 0),
        ("async def f():\n  async for a in b:\n    pass\n", 1),
        ("for a in b: pass\n" * 10_000, 1),
    ],
)  # fmt: skip
def test_how_deep_loops_stand_inside_loops(program, deep):
    assert _loops(program) == deep
