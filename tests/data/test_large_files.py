"""300 MB files are checked and kept in bounded memory: measured in a process of its own."""

import json
import subprocess
import sys

import pytest

SIZE_BYTES = 300_000_000
LIMIT_BYTES = 150_000_000

MEASURE = """
import json, resource, sys
from pathlib import Path
from codex_space.core.paths import Workspace
from codex_space.data import catalog
if sys.argv[1].endswith(".parquet"):
    import pyarrow.parquet
def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
before = peak()
info = catalog.import_file(Workspace(Path(sys.argv[2])).make(), Path(sys.argv[1]), "big", 0.0)
print(json.dumps({"grown": peak() - before, "rows": info.num_rows, "size": info.size_bytes}))
"""


def write_lines(path, head, row, tail):
    block = row * 2000
    with path.open("wb") as file:
        file.write(head)
        while file.tell() < SIZE_BYTES:
            file.write(block)
        file.write(tail)
    return (path.stat().st_size - len(head) - len(tail)) // len(row)


def measure(path, folder):
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


LINE = json.dumps({"prompt": "write " * 40, "completion": "def f():\n    pass\n" * 60})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "row", "tail"),
    [
        ("a.jsonl", b"", LINE.encode() + b"\n", b""),
        ("a.json", b"[", LINE.encode() + b",\n", LINE.encode() + b"]"),
        ("a.csv", b"prompt,completion\n", b'"p","' + b'x = ""1""\n' * 100 + b'"\n', b""),
        ("a.txt", b"", b"a line of text that goes on for a while\n" * 20 + b"\n", b""),
    ],
)
def test_300_mb_are_kept_in_bounded_memory(tmp_path, name, head, row, tail):
    rows = write_lines(tmp_path / name, head, row, tail)
    found = measure(tmp_path / name, tmp_path / "workspace")
    assert found["size"] >= SIZE_BYTES
    assert found["grown"] < LIMIT_BYTES, f"{found['grown']:,} bytes for a file of {SIZE_BYTES:,}"
    if name != "a.txt":
        assert found["rows"] == rows + (name == "a.json")


@pytest.mark.slow
def test_a_parquet_file_of_many_groups_is_kept_in_bounded_memory(tmp_path):
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema, compression="none", use_dictionary=False) as writer:
        for _ in range(30):
            rows = [{"prompt": "p", "completion": os.urandom(5000).hex()} for _ in range(1000)]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    found = measure(tmp_path / "a.parquet", tmp_path / "workspace")
    assert (found["rows"], found["size"] >= SIZE_BYTES) == (30_000, True)
    assert found["grown"] < LIMIT_BYTES
