"""A file is the old text or the new one, whoever else writes it at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

from codex_space.core import durable


def test_threads_that_write_one_file_at_once_leave_a_whole_one_and_nothing_else(tmp_path):
    path, both = tmp_path / "x.json", threading.Barrier(2, timeout=30)
    texts = ["a" * 200_000, "b" * 200_000]

    def write(text):
        for _ in range(20):
            both.wait()
            durable.write_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, text) for text in texts]:
            done.result()
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]
