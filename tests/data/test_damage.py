"""Files that were cut off or lie about their size, and where the words of a refusal point."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codex_space.core.errors import DataError
from codex_space.data import read
from codex_space.data.inspection import inspect_file


def only_problem(path):
    found = inspect_file(path)
    assert found.num_problems == 1
    return found.problems[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_that_ends_in_the_middle_of_a_character_is_refused(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("fine\nfine\né".encode(encoding)[:-1])
    problem = only_problem(path)
    assert (problem.line, "middle of a character" in problem.what) == (3, True)


def test_a_parquet_row_group_that_unpacks_beyond_the_limit_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 1000] * 1000}), path, use_dictionary=False)
    assert inspect_file(path).is_good
    monkeypatch.setattr(read, "MAX_ROW_GROUP_BYTES", 100_000)
    assert "row group" in only_problem(path).what


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ('[{"text": "a"},\n {"text": "b"}', 2, "ends in the middle of the array"),
        ('[{"text": "a"},\n {"text": "b', 2, "ends in the middle of a row"),
        ('[{"text": "a"},\n {"text": "b"},\n', 3, "ends where a row is due"),
        ('[{"text": "a"}\n {"text": "b"}]', 2, "stands where one of"),
        ('[{"text": "a"},\n {"text": }]', 2, "column 11 is not JSON"),
        ('[{"text": "a"}]\n[]', 2, "after the end of the array"),
        ("[" * 100_000, 1, "nested too deeply"),
        ('[{"text": ' + "9" * 5000 + "}]", 1, "thousands of digits"),
    ],
)
def test_a_json_array_that_is_cut_or_broken_names_the_line_of_the_fault(tmp_path, content, line, words):
    path = tmp_path / "a.json"
    path.write_text(content)
    problem = only_problem(path)
    assert (problem.line, problem.unit) == (line, "line")
    assert words in problem.what


def test_after_a_bad_line_the_others_are_still_checked(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n[1]\n{"text": ["b"]}\n{"text": "c"}\n')
    found = inspect_file(path)
    assert [problem.line for problem in found.problems] == [2, 3, 4]
    assert (found.num_rows, found.format, found.is_good) == (5, "text", False)


def test_rows_before_the_end_of_a_damaged_gzip_do_not_make_it_good(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 100_000)[:-20])
    found = inspect_file(path)
    assert not found.is_good
    assert "damaged or cut off" in found.problems[0].what


def test_a_column_that_the_first_row_lacks_is_still_used(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"instruction": "add", "output": "x"}\n{"instruction": "add", "input": "1 and 2", "output": "3"}\n'
    )
    assert inspect_file(path).preview[1] == {"prompt": "add\n\n1 and 2", "completion": "3"}


def test_renames_to_a_column_that_is_not_there_name_the_nearest(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"questions": "a", "reply": "b"}\n')
    with pytest.raises(DataError, match="Did you mean 'questions'"):
        inspect_file(path, {"prompt": "question", "completion": "reply"})
