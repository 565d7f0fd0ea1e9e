"""What comes home through a Job's log: hostile, cut, lost and repeated lines, and restarts in between."""

import json

import pytest

from codex_space.core.events import read_events
from codex_space.core.job_lines import MARK, MAX_CHARS, read_line, render_line
from codex_space.core.paths import JobDir
from codex_space.jobs.mirror import MAX_JUMP, Mirror


@pytest.fixture
def job(tmp_path):
    return JobDir(tmp_path)


def line(number, **fields):
    return render_line(number, {"t": 1.0, "e": "log", "step": number, "metrics": {"loss": 1.0}, **fields})


def open_mirror(job, attempt=1, log_offset=0):
    return Mirror(job, attempt=attempt, log_offset=log_offset)


def steps(job):
    return [event["step"] for event in read_events(job.events)[0]]


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", MARK, MARK + "{", MARK + "[]", MARK + "null", MARK + '{"n": 1}', MARK + '{"n": 1, "event": []}',
        MARK + '{"n": true, "event": {"e": "log"}}', MARK + '{"n": 0, "event": {"e": "log"}}',
        MARK + '{"n": "1", "event": {"e": "log"}}', MARK + '{"n": 1, "event": {"e": "samples"}}',
        MARK + '{"n": 1, "event": {"e": ["log"]}}', MARK + '{"n": 1, "event": {"e": null}}',
        MARK + "[" * 50_000, MARK + '{"n": 1, "event": {"e": "log", "x": "' + "y" * MAX_CHARS + '"}}',
        "| " + MARK + '{"n": 1, "event": {"e": "log"}}', " " + line(1), line(1)[:-1], line(1)[1:],
    ],
)  # fmt: skip
def test_what_is_no_whole_marked_line_is_log_text(job, text):
    assert read_line(text) is None
    mirror = open_mirror(job)
    assert mirror.take([text, line(1)])
    assert steps(job) == [1]
    assert len(job.log.read_text().splitlines()) == 1


def test_a_line_says_the_same_after_its_way():
    event = {"t": 1.5, "e": "phase", "phase": "läuft\n\x1b[1m", "detail": "\u2028 \U0001f600"}
    text = render_line(7, event)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert read_line(text) == (7, event)


def test_a_log_read_again_from_its_beginning_adds_nothing_twice(job):
    mirror = open_mirror(job)
    lines = ["booting", line(1), "| one", line(2), line(3)]
    for _ in range(3):
        assert mirror.take(lines)
    assert steps(job) == [1, 2, 3]
    assert job.log.read_text() == "booting\none\n"


def test_a_new_owner_goes_on_after_what_is_there(job):
    mirror = open_mirror(job)
    mirror.take([line(1), line(2)])
    mirror.close()
    with job.events.open("ab") as file:
        file.write(b'{"t": 1, "e": "log", "st')  # a kill tears a line
    assert open_mirror(job).take([line(1), line(2), line(3)])
    assert steps(job) == [1, 2, 3]


def test_a_second_attempt_is_numbered_anew_and_its_log_follows_the_first(job):
    first = open_mirror(job)
    first.take([line(1), line(2), "| first"])
    first.close()
    second = open_mirror(job, attempt=2, log_offset=job.log.stat().st_size)
    second.take([line(1), "| second"])
    second.take([line(1), "| second"])
    assert steps(job) == [1, 2, 1]
    assert job.log.read_text() == "first\nsecond\n"


def test_a_line_that_was_lost_is_looked_for_once_and_then_passed_over(job):
    mirror = open_mirror(job)
    assert not mirror.take([line(1), line(3), line(4)])  # read it again
    assert mirror.take([line(1), line(2), line(3), line(4)])
    assert not mirror.take([line(6)])
    assert mirror.take([line(6), line(7)])
    assert steps(job) == [1, 2, 3, 4, 6, 7]


def test_a_number_out_of_this_world_stops_nothing(job):
    mirror = open_mirror(job)
    assert mirror.take([line(1), line(MAX_JUMP * 10), line(2)])
    assert steps(job) == [1, 2]


def test_a_closed_one_writes_nothing_more(job):
    mirror = open_mirror(job)

    def lines():
        yield line(1)
        mirror.close()
        yield line(2)
        yield "text"

    assert mirror.take(lines())
    assert mirror.take([line(3)])
    assert steps(job) == [1]


def test_fields_of_our_own_cannot_be_given_from_outside(job):
    mirror = open_mirror(job, attempt=4)
    mirror.take([MARK + json.dumps({"n": 1, "event": {"e": "log", "t": 1, "step": 1, "n": 99, "a": 7}})])
    (event,) = read_events(job.events)[0]
    assert (event["n"], event["a"]) == (1, 4)
    assert open_mirror(job, attempt=4).last == 1


@pytest.mark.parametrize("fields", [{"self": 1}, {"e": "log", "fields": {}}, {"t": "x"}, {"": None}, {"x": "\ud800"}])
def test_an_event_of_odd_fields_is_written_like_any_other(job, fields):
    mirror = open_mirror(job)
    assert mirror.take([render_line(1, {"e": "log", "step": 1, **fields}), line(2)])
    assert steps(job) == [1, 2]
