"""Files of rows, good and bad: what is read, and which sentence a bad one gets."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codex_space.core.errors import DataError
from codex_space.data import text
from codex_space.data.read import iter_rows

ROWS = [{"prompt": "grüße", "completion": "print('👋')"}, {"prompt": "b\nc", "completion": 'x, "y"'}]


def read(path):
    return [row for _, row in iter_rows(path)]


def refusal(path):
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.cure, "a refusal says what to do"
    return str(caught.value)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CSV = 'prompt,completion\ngrüße,print(\'👋\')\n"b\nc","x, ""y"""\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("a.JSONL", jsonl(ROWS)),
        ("a.jsonl", jsonl(ROWS).replace("\n", "\r\n\r\n")),
        ("a.jsonl", jsonl(ROWS).rstrip("\n")),
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.json", jsonl(ROWS)),
        ("a.json", "\n\n".join(json.dumps(row, indent=1) for row in ROWS)),
        ("a.csv", CSV),
        ("a.csv", 'prompt;completion\ngrüße;print(\'👋\')\n"b\nc";"x, ""y"""\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_text_format_is_read_in_every_marked_encoding(tmp_path, name, content, encoding):
    assert read(write(tmp_path, name, content.encode(encoding))) == ROWS


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl.gz", jsonl(ROWS)), ("a.json.gz", json.dumps(ROWS)), ("a.csv.gz", CSV)]
)
def test_packed_files_are_read(tmp_path, name, content):
    assert read(write(tmp_path, name, gzip.compress(content.encode()))) == ROWS


def test_parquet_rows_are_numbered_from_one(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(iter_rows(tmp_path / "a.parquet")) == [(1, ROWS[0]), (2, ROWS[1])]


def test_lines_are_numbered_as_an_editor_does(tmp_path):
    path = write(tmp_path, "a.jsonl", '\n{"text": "a"}\n\n{"text": "b"}\n')
    assert [number for number, _ in iter_rows(path)] == [2, 4]
    path = write(tmp_path, "a.csv", 'text\n"a\nb"\nc\n')
    assert [number for number, _ in iter_rows(path)] == [2, 4]


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_a_text_file_becomes_pieces_that_together_are_the_file(tmp_path, name):
    content = "".join(f"line {number}\n" + ("\n" if number % 50 == 0 else "") for number in range(20_000))
    rows = read(write(tmp_path, name, content))
    assert "".join(row["text"] for row in rows) == content
    assert 5 < len(rows) < 40


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_characters_and_values_cut_by_a_chunk_are_whole(tmp_path, monkeypatch, size):
    monkeypatch.setattr(text, "CHUNK_BYTES", size)
    assert read(write(tmp_path, "a.jsonl", jsonl(ROWS))) == ROWS
    assert read(write(tmp_path, "a.json", json.dumps(ROWS, ensure_ascii=False, indent=1))) == ROWS
    if size >= 4:  # a byte order mark is looked for in the first chunk
        assert read(write(tmp_path, "a.csv", CSV.encode("utf-16"))) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.md"])
@pytest.mark.parametrize("content", ["", "\n\n \n", "\ufeff"])
def test_a_file_without_rows_yields_none(tmp_path, name, content):
    assert read(write(tmp_path, name, content)) == []


def test_an_empty_list_yields_no_rows(tmp_path):
    assert read(write(tmp_path, "a.json", " [ ] ")) == []


def test_broken_json_in_line_70001_names_it(tmp_path):
    lines = ['{"text": "fine"}'] * 70_000 + ['{"text": "broken"', '{"text": "fine"}']
    said = refusal(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert "a.jsonl line 70001" in said
    assert "not JSON" in said


def test_broken_json_in_a_list_names_the_line(tmp_path):
    lines = ["["] + ['{"text": "fine"},'] * 69_999 + ['{"text" "broken"},', '{"text": "fine"}', "]"]
    assert "line 70001" in refusal(write(tmp_path, "a.json", "\n".join(lines)))


def test_latin_1_names_byte_line_and_cure(tmp_path):
    said = refusal(write(tmp_path, "a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9!"}\n'))
    assert "line 2" in said
    assert "0xE9" in said
    assert "offset 27" in said
    assert "UTF-8" in said


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_the_offset_of_a_bad_byte_counts_from_the_start_of_the_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr(text, "CHUNK_BYTES", size)
    content = "größer 👋\n".encode() * 7
    said = refusal(write(tmp_path, "a.txt", content + b"\xff\n"))
    assert f"offset {len(content)}" in said
    assert "line 8" in said


def test_utf_16_without_a_mark_is_named(tmp_path):
    said = refusal(write(tmp_path, "a.jsonl", '{"text": "a"}\n'.encode("utf-16-le")))
    assert "NUL" in said
    assert "UTF-16" in said


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
@pytest.mark.parametrize("content", [b'text\n{"text": "a\0b"}\n', b"\n" + b"\0" * 100])
def test_nul_bytes_are_refused_by_line(tmp_path, name, content):
    assert f"{name} line 2: there is a NUL byte" in refusal(write(tmp_path, name, content))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"PAR1....", "Parquet"), (b"PK\x03\x04....", "ZIP"), (b"\x1f\x8b\x08..", "gzip"), (b"%PDF-1.7", "PDF")],
)
def test_another_kind_of_file_under_a_wrong_name_is_recognised(tmp_path, content, kind):
    assert kind in refusal(write(tmp_path, "a.jsonl", content))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_a_line_without_end_is_refused_and_not_held(tmp_path, name, monkeypatch):
    for module in ("text", "json_stream", "read"):
        monkeypatch.setattr(f"codex_space.data.{module}.MAX_LINE_CHARS", 10_000)
    monkeypatch.setattr(text, "CHUNK_BYTES", 1000)
    said = refusal(write(tmp_path, name, '{"text": "' + "x" * 1_000_000 + '"}'))
    assert "longer than" in said


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_gzip_bomb_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(text, "GZIP_FREE_BYTES", 1 << 20)
    said = refusal(write(tmp_path, name, gzip.compress(b'{"text": "a"}\n' * 1_000_000)))
    assert "unpacks to more than" in said


def test_a_gzip_file_cut_off_or_false_is_refused(tmp_path):
    whole = gzip.compress(jsonl(ROWS * 1000).encode())
    assert "gzip" in refusal(write(tmp_path, "a.jsonl.gz", whole[: len(whole) // 2]))
    assert "gzip" in refusal(write(tmp_path, "b.jsonl.gz", jsonl(ROWS)))


@pytest.mark.parametrize("value", ["[1]", "1", '"text"', "null", "true"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_row_that_is_no_object_is_refused(tmp_path, value, name):
    content = f"[{value}]" if name == "a.json" else value
    assert "an object is due" in refusal(write(tmp_path, name, content))


@pytest.mark.parametrize(
    "content",
    ['[{"text": "a"}', '[{"text": "a"},', '[{"text": "a"} {"text": "b"}]', '[{"text": "a"}] extra', '[{"text": "a',
     '{"text": "a"', "nonsense", '[{"text": "a"}]]'],
)  # fmt: skip
def test_json_that_is_cut_off_or_goes_on_is_refused(tmp_path, content):
    assert "a.json" in refusal(write(tmp_path, "a.json", content))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_nested_too_deeply_is_a_refusal_and_no_crash(tmp_path, name):
    assert "nested" in refusal(write(tmp_path, name, '{"text": ' + "[" * 200_000 + "]" * 200_000 + "}"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_number_of_thousands_of_digits_is_refused(tmp_path, name):
    assert "number" in refusal(write(tmp_path, name, '{"text": ' + "9" * 10_000 + "}"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n1,2,3\n", ("line 3", "3 fields")),
        ("a,b\n1\n", ("line 2", "1 fields")),
        ("a,a\n1,2\n", ("line 1", "'a'")),
        ('a,b\n1,2\n"open,3\n4,5\n', ("line 3", "never closed")),
    ],
)
def test_csv_that_is_not_a_table_is_refused(tmp_path, content, words):
    said = refusal(write(tmp_path, "a.csv", content))
    assert all(word in said for word in words), said


def test_a_parquet_file_cut_off_or_false_is_refused(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS * 100), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    assert "Parquet" in refusal(write(tmp_path, "b.parquet", whole[:-10]))
    assert "Parquet" in refusal(write(tmp_path, "c.parquet", "text"))
    assert "Parquet" in refusal(write(tmp_path, "d.parquet", whole[:20] + b"\xff" * 40 + whole[60:]))


@pytest.mark.parametrize("name", ["a.exe", "a", "a.jsonl.zip", "a.tar.gz", "a.xlsx", ".jsonl.bak"])
def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path, name):
    assert ".jsonl" in refusal(write(tmp_path, name, "{}"))


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    refusal(tmp_path / "folder.jsonl")
    assert "no such file" in refusal(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("name", "num_rows"), [("mbpp.jsonl.gz", 974), ("sanitized-mbpp.json.gz", 427), ("gsm8k_train.jsonl.gz", 7473)]
)
def test_real_files_are_read_whole(real_data, name, num_rows):
    assert sum(1 for _ in iter_rows(real_data / name)) == num_rows
