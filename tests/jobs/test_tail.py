"""The end of a log, however the log looks."""

import pytest

from codex_space.jobs.tail import READ_BYTES, tail


@pytest.fixture
def log(tmp_path):
    def write(content):
        path = tmp_path / "worker.log"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_the_last_lines_come_in_order(log):
    path = log("".join(f"line {number}\n" for number in range(1000)))
    assert tail(path, lines=3) == "line 997\nline 998\nline 999"


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_log_is_empty(log, content):
    assert tail(log(content)) == ""


def test_a_log_that_is_not_there_yet_is_empty(tmp_path):
    assert tail(tmp_path / "worker.log") == ""


def test_no_lines_asked_for_gives_none(log):
    assert tail(log("a\nb\n"), lines=0) == ""


def test_a_line_without_its_end_is_shown(log):
    assert tail(log("done\nhalf a li")) == "done\nhalf a li"


def test_of_a_progress_bar_only_the_last_state_is_shown(log):
    assert tail(log("start\n 1%|#\r 50%|####\r100%|########\r\nend\n")) == "start\n100%|########\nend"


def test_colours_and_control_characters_are_left_out(log):
    assert tail(log("\x1b[31mred\x1b[0m \x00\x07bell\ttab\n")) == "red bell\ttab"


def test_bytes_that_are_no_text_do_not_break_it(log):
    assert tail(log(b"good\n\xff\xfe bad\n")).startswith("good\n")


def test_a_search_ignores_case(log):
    path = log("Loss 1\nother\nLOSS 2\n")
    assert tail(path, search="loss") == "Loss 1\nLOSS 2"
    assert tail(path, search="loss", lines=1) == "LOSS 2"
    assert tail(path, search="nothing") == ""


def test_only_the_end_of_a_huge_log_is_read(log, tmp_path):
    path = tmp_path / "worker.log"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # a hole: five GiB that take no disk
        file.seek(0, 2)
        file.write(b"\n" + b"".join(b"line %d\n" % number for number in range(100)))
    text = tail(path, lines=100_000)
    assert text.endswith("line 99")
    assert len(text) < READ_BYTES


def test_a_cut_first_line_is_left_out(log):
    path = log("x" * READ_BYTES + "\nwhole\n")
    assert tail(path) == "whole"


def test_one_endless_line_is_shown_from_where_it_was_cut(log):
    assert tail(log("y" * (2 * READ_BYTES))) == "y" * READ_BYTES
