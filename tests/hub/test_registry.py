"""The notes in the Hub: private, read with care, written one after another."""

import dataclasses
import gzip
import json

import pytest

from codex_space.core.errors import HubBusyError, HubError, HubNotFoundError
from codex_space.hub.registry import MAX_ENTRY_BYTES, NAME, Entry, Holder, Registry, parse_entry
from tests.fakes.checkpoints import OTHER_RUN_ID, RECIPE, RUN_ID

HERE = Holder("ada/space", "aaaa", is_space=True, at=1000.0, beat_s=100.0)
ENTRY = Entry(RUN_ID, "first", "sft", "ada/model", "running", 6, True, RECIPE, HERE, 900.0, 1, 2, (6, 1))


def text_of(**changes):
    return json.dumps({**dataclasses.asdict(ENTRY), **changes})


@pytest.fixture
def registry(hub):
    made = Registry(hub.client(), "ada")
    made.make()
    return made


def test_a_note_comes_back_as_it_was_written(registry) -> None:
    registry.write(registry.read(), [ENTRY])
    assert registry.read().entries == {RUN_ID: ENTRY}


def test_the_dataset_is_private(registry, hub) -> None:
    assert hub.repo(f"ada/{NAME}", "datasets")["private"]


def test_a_public_one_is_not_written_to(hub) -> None:
    hub.client().make_repo(f"ada/{NAME}", private=False, repo_type="dataset")
    with pytest.raises(HubError, match="public"):
        Registry(hub.client(), "ada").make()


def test_an_ended_run_is_moved_out_of_sight(registry, hub) -> None:
    registry.write(registry.read(), [ENTRY])
    ended = dataclasses.replace(ENTRY, state="succeeded")
    registry.write(registry.read(), ended=[ended])
    assert registry.read().entries == {}
    kept = json.loads(hub.state.files("datasets", f"ada/{NAME}")[f"ended/{RUN_ID}.json"])
    assert kept["state"] == "succeeded"
    registry.write(registry.read(), [ENTRY])
    assert registry.read().entries == {RUN_ID: ENTRY}
    assert f"ended/{RUN_ID}.json" not in hub.state.files("datasets", f"ada/{NAME}")


def test_of_two_that_read_the_same_one_is_refused(registry, hub) -> None:
    registry.write(registry.read(), [ENTRY])
    other = Registry(hub.client(), "ada")
    seen, seen_too = registry.read(), other.read()
    registry.write(seen, [dataclasses.replace(ENTRY, step=12)])
    with pytest.raises(HubBusyError):
        other.write(seen_too, [dataclasses.replace(ENTRY, step=18)])
    assert registry.read().entries[RUN_ID].step == 12


def test_what_is_unchanged_is_not_read_again(registry, hub) -> None:
    registry.write(registry.read(), [ENTRY])
    registry.read()
    before = len(hub.asked("/resolve/", "GET"))
    assert registry.read().entries == {RUN_ID: ENTRY}
    assert len(hub.asked("/resolve/", "GET")) == before


def test_nothing_noted_is_not_found(hub) -> None:
    with pytest.raises(HubNotFoundError):
        Registry(hub.client(), "ada").read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "null",
        "[" * 100_000,
        text_of(repo_id="eve/model"),
        text_of(repo_id="../model"),
        text_of(step="six"),
        text_of(step=-1),
        text_of(queued_at=float("nan")),
        text_of(attempt=1e400),
        text_of(num_threads=1 << 40),
        text_of(holder=None),
        text_of(holder={**dataclasses.asdict(HERE), "at": float("inf")}),
        text_of(rises=[1]),
    ],
)
def test_what_is_no_note_of_this_account_is_passed_over(text) -> None:
    assert parse_entry(text, "ada") is None


def test_bad_files_do_not_hide_good_ones(registry, hub) -> None:
    good, claimed = dataclasses.asdict(ENTRY), text_of(run_id=OTHER_RUN_ID)
    hub.state.put(
        "datasets",
        f"ada/{NAME}",
        {
            f"unfinished/{RUN_ID}.json": json.dumps(good),
            "unfinished/20261121-001530-sft-aaaa.json": claimed,  # says it is another run
            "unfinished/20261121-001530-sft-bbbb.json": b"\xff\xfe\x00",
            "unfinished/20261121-001530-sft-cccc.json": " " * (MAX_ENTRY_BYTES + 1) + json.dumps(good),
            "unfinished/../evil.json": "{}",
            "unfinished/readme.md": "x",
        },
    )
    assert list(registry.read().entries) == [RUN_ID]


def test_events_are_kept_and_come_back(registry, tmp_path) -> None:
    packed = gzip.compress(b'{"e": "attempt"}\n')
    registry.write(registry.read(), [ENTRY], events={RUN_ID: packed})
    assert registry.fetch_events(RUN_ID, tmp_path / "events.jsonl")
    assert (tmp_path / "events.jsonl").read_bytes() == b'{"e": "attempt"}\n'
    assert not registry.fetch_events(OTHER_RUN_ID, tmp_path / "other.jsonl")


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 1000, mtime=0)[:-20], b""])
def test_damaged_events_are_no_events(registry, hub, tmp_path, content) -> None:
    registry.write(registry.read(), [ENTRY], events={RUN_ID: content})
    assert not registry.fetch_events(RUN_ID, tmp_path / "events.jsonl")


def test_a_bomb_of_events_is_refused(registry, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("codex_space.hub.registry.MAX_PLAIN_BYTES", 10_000)
    registry.write(registry.read(), [ENTRY], events={RUN_ID: gzip.compress(bytes(1 << 20))})
    assert not registry.fetch_events(RUN_ID, tmp_path / "events.jsonl")
    assert not (tmp_path / "events.jsonl").exists()


def test_who_keeps_a_run_from_whom() -> None:
    other = Holder("bob-pc", "bbbb", at=0.0, beat_s=100.0)
    assert HERE.keeps_from(other, 1200.0)
    assert not HERE.keeps_from(other, 1300.0)  # silent for three heartbeats
    assert not dataclasses.replace(HERE, is_released=True).keeps_from(other, 1001.0)
    assert not HERE.keeps_from(dataclasses.replace(HERE, workspace="cccc"), 1001.0)  # the same Space, started anew
    assert dataclasses.replace(HERE, is_space=False).keeps_from(
        dataclasses.replace(HERE, workspace="cccc", is_space=False), 1001.0
    )  # two workspaces of one machine
    assert not HERE.keeps_from(dataclasses.replace(other, workspace="aaaa"), 1001.0)  # this very workspace
