"""Events: whole lines only, torn ones passed over, earlier attempts cut."""

import json
import os

from codex_space.core.events import EventWriter, current_events, read_events


def test_events_come_back_in_order_with_an_offset_to_go_on_from(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write("attempt", 1.0, attempt=1, resumed_from_step=0)
        writer.write("log", 2.0, step=1, metrics={"loss": 3.0})
    events, offset = read_events(path)
    assert [event["e"] for event in events] == ["attempt", "log"]
    assert read_events(path, offset) == ([], offset)


def test_a_line_without_its_end_waits_for_the_next_call(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"t":1,"e":"log"}\n{"t":2,"e"')
    events, offset = read_events(path)
    assert len(events) == 1
    with path.open("ab") as file:
        file.write(b':"log"}\n')
    assert [event["t"] for event in read_events(path, offset)[0]] == [2]


def test_a_new_attempt_closes_the_torn_line_of_a_killed_one(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"t":1,"e":"log"}\n{"t":2,"e"')
    with EventWriter(path) as writer:
        writer.write("attempt", 3.0, attempt=2, resumed_from_step=0)
    assert [event["t"] for event in read_events(path)[0]] == [1, 3.0]


def test_nan_and_infinity_become_null_so_that_every_reader_can_parse(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write("log", 1.0, step=1, metrics={"loss": float("nan"), "x": [float("inf")]})
    assert json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)["metrics"] == {"loss": None, "x": [None]}


def test_garbage_between_lines_is_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\xfe\n[1]\n{"no":"type"}\n"text"\n{"t":1,"e":"log"}\n')
    assert len(read_events(path)[0]) == 1


def test_reading_is_bounded_and_steps_over_one_endless_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * 5000 + b'\n{"t":1,"e":"log"}\n')
    events, offset = read_events(path, 0, limit_bytes=1000)
    assert (events, offset) == ([], 1000)


def test_a_missing_file_is_no_events(tmp_path):
    assert read_events(tmp_path / "none", 5) == ([], 5)


def test_what_a_killed_attempt_logged_beyond_its_checkpoint_is_dropped():
    events = [
        {"e": "attempt", "resumed_from_step": 0},
        *({"e": "log", "step": step} for step in range(1, 8)),
        {"e": "attempt", "resumed_from_step": 5},
        {"e": "log", "step": 6},
    ]
    assert [event["step"] for event in current_events(events) if event["e"] == "log"] == [1, 2, 3, 4, 5, 6]


def test_a_file_name_that_is_no_utf8_can_be_told_of(tmp_path):
    name = os.fsdecode(b"caf\xe9.jsonl")
    with EventWriter(tmp_path / "events.jsonl") as events:
        events.write("failed", 1.0, what="there is no such file", where=name)
    (event,) = read_events(tmp_path / "events.jsonl")[0]
    assert event["where"] == "caf?.jsonl"
