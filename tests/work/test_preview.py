"""What the preview shows is what the run's own trainer, with its real model, gives to the model."""

import importlib
import io
import json
import time

import pytest

from codex_space.core.errors import CodexError
from codex_space.core.events import EventWriter
from codex_space.work import preview, tuning
from codex_space.work.attempt import StopFlag, read_attempt
from tests.work.conftest import chat_rows, sft_recipe, text_rows

MESSAGES = [{"messages": [*row["messages"], *chat_rows(1)[0]["messages"]]} for row in chat_rows(12)]
PAIRS = [{"prompt": f"Write a sum of {n}.", "completion": "x = 0\n" * (n + 1)} for n in range(12)]
WISHES = [{"prompt": f"Add {n}.", "chosen": f"x + {n}\n" * n + "y", "rejected": "print()"} for n in range(12)]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # as in the worker

KINDS = [
    ("sft", text_rows(12), {}),
    ("sft", PAIRS, {"train": {"max_length": 64}}),
    ("sft", PAIRS, {"train": {"max_length": 64, "truncation_mode": "keep_end"}}),
    ("sft", PAIRS, {"chat_template": "none", "train": {"completion_only_loss": False}}),
    ("sft", MESSAGES, {"train": {"max_length": 96}}),
    ("sft", MESSAGES, {"train": {"assistant_only_loss": False}}),
    ("dpo", WISHES, {"train": {"max_length": 64}}),
    ("kto", WISHES, {"train": {"max_length": 64}}),
    ("orpo", WISHES, {"train": {"max_length": 64}}),
    ("reward", WISHES, {"train": {"max_length": 1000}}),
]


def read(job):
    return read_attempt(job.dir, EventWriter(job.dir.events), clock=time.time, stop=StopFlag(), check_only=True)


def recipe_of(kind, changes):
    changes = {**changes, "train": {"max_steps": 2, **changes.get("train", {})}}
    return {**sft_recipe(**changes), "kind": kind, "validation": {"fraction": 0}}


@pytest.fixture
def open_job(make_job):
    """Return a job's preview, its own real trainer, and the job."""

    def open_it(kind, rows, changes):
        job = make_job(recipe_of(kind, changes), rows).launch()
        start = tuning.begin(read(job))
        trainer = importlib.import_module(f"codex_space.work.{kind}").make(start)
        return preview.Opened(read(job)), trainer, start

    return open_it


def shown(opened, number):
    """The tokens of a row that are not cut off, as (id, is trained), for each side."""
    return [
        [(each["id"], each["state"] in {"trained", "stop"}) for each in side["tokens"] if each["state"] != "cut"]
        for side in opened.row(number, None)["sides"]
    ]


def pairs_of(sequence):
    return list(zip(sequence.ids, sequence.trained, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rows", "changes"), KINDS)
def test_tokens_labels_and_cuts_are_those_of_the_real_batches(open_job, kind, rows, changes):
    opened, trainer, _ = open_job(kind, rows, changes)
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])
    real = [pairs_of(each) for each in preview.sequences_of(batch)]
    told = [side for number in range(opened.num_rows) for side in shown(opened, number) if side]
    assert sorted(told) == sorted(real)
    counts = opened.counts()
    assert counts["trained_tokens"] == sum(is_trained for row in real for _, is_trained in row)
    assert counts["total_tokens"] - counts["truncated_tokens"] == sum(len(row) for row in real)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed_rows_are_those_of_the_real_batches(open_job, strategy):
    train = {"packing": True, "packing_strategy": strategy, "max_length": 64}
    opened, trainer, _ = open_job("sft", PAIRS, {"train": train})
    rows = [trainer.data_collator([row]) for row in trainer.train_dataset]
    real = []
    for batch in rows:
        (sequence,) = preview.sequences_of(batch)
        starts = batch["position_ids"][0].tolist() if "position_ids" in batch else range(len(sequence.ids))
        for pair, place in zip(pairs_of(sequence), starts, strict=True):
            real += [[]] if not place else []
            real[-1].append(pair)
    told = [shown(opened, number)[0] for number in range(opened.num_rows)]
    if strategy == "bfd":
        assert sorted(told) == sorted(real)
    else:  # a long row goes on in a second one: nothing is cut
        assert sorted(pair[0] for row in told for pair in row) == sorted(pair[0] for row in real for pair in row)
        assert opened.counts()["truncated_tokens"] == 0


def test_states_say_masked_trained_stop_and_cut(open_job):
    opened, _, start = open_job("sft", PAIRS, {"train": {"max_length": 64}})
    short, long = (opened.row(number, None)["sides"][0] for number in (0, 11))
    states = [each["state"] for each in short["tokens"]]
    assert states.index("trained") == states.count("masked") > 0
    assert states[-1] == "stop" or states[-2] == "stop"
    assert short["counts"]["stop"] == 1
    assert short["counts"]["cut"] == 0
    assert [each["state"] for each in long["tokens"]][64:] == ["cut"] * long["counts"]["cut"]
    assert long["counts"]["cut"] == long["num_tokens"] - 64 > 0
    assert long["counts"]["stop"] == 0
    text = "".join(each["text"] for each in long["tokens"])
    assert text == start.tokenizer.decode([each["id"] for each in long["tokens"]])


def test_a_row_whose_prompt_fills_max_length_is_shown_as_cut_off_whole(open_job):
    rows = [*PAIRS, {"prompt": "long " * 60, "completion": "x"}]
    opened, _, _ = open_job("sft", rows, {"train": {"max_length": 64}})
    (side,) = opened.row(12, None)["sides"]
    assert side["counts"] == {"trained": 0, "masked": 0, "cut": side["num_tokens"], "stop": 0}


def test_no_weights_are_read_and_settings_of_the_machine_do_not_matter(make_job, tmp_path):
    model = make_job(recipe_of("sft", {}), PAIRS).launch()
    start = tuning.begin(read(model))
    (tmp_path / "only").mkdir()
    start.tokenizer.save_pretrained(tmp_path / "only")
    recipe = recipe_of(
        "sft", {"train": {"fp16": True, "tf32": True}, "model": {"model_name_or_path": str(tmp_path / "only")}}
    )
    (model.dir.root / "recipe.yaml").write_text(
        json.dumps({**recipe, "datasets": start.recipe.model_dump()["datasets"]})
    )
    assert preview.Opened(read(model)).counts()["is_stop_trained"]


def test_a_long_row_shows_its_beginning_and_its_end(open_job):
    opened, _, _ = open_job("sft", [{"text": "a" * 50_000}, {"text": "b"}], {})
    (side,) = opened.row(0, 400)["sides"]
    assert len(side["tokens"]) == 400
    assert side["num_hidden"] == side["num_tokens"] - 400
    assert side["hidden_at"] == 300
    assert side["counts"]["cut"] == side["num_tokens"] - 128
    assert [each["state"] for each in side["tokens"]] == ["trained"] * 128 + ["cut"] * 272


def test_characters_of_several_tokens_and_hostile_ones_come_back_whole(open_job):
    text = "<script>\u202e\x00\x1b[31m \N{PILE OF POO}\N{COMBINING ACUTE ACCENT}\u00e9\n"
    opened, _, _ = open_job("sft", [{"text": text}, {"text": "b"}], {})
    (side,) = opened.row(0, None)["sides"]
    assert "".join(each["text"] for each in side["tokens"]).startswith(text)


@pytest.mark.parametrize("number", [-1, 12, 10**9])
def test_a_row_that_is_not_there_is_refused(open_job, number):
    opened, _, _ = open_job("sft", PAIRS, {})
    with pytest.raises(CodexError, match="there is no row"):
        opened.row(number, None)


def test_lengths_are_told_and_a_max_length_is_proposed():
    assert preview.propose_max_length([10] * 99 + [5000]) == 64
    assert preview.propose_max_length([10] * 98 + [65, 5000]) == 128
    assert preview.propose_max_length([64] * 10) == 64
    assert preview.propose_max_length([3000] * 10, 2048) == 2048
    assert preview.propose_max_length([]) == 64
    bars = preview.histogram([1, 64, 65, 700, 701])
    assert sum(bar["count"] for bar in bars) == 5
    assert bars[0] == {"upto": 64, "count": 2}
    assert bars[-1]["upto"] >= 701
    assert preview.histogram([1, 1]) == [{"upto": 1, "count": 2}]
    assert preview.histogram([]) == []


def test_the_worker_answers_a_wrong_request_with_one_sentence_and_goes_on(make_job):
    job = make_job({"kind": "pretrain", "architecture": "tiny", "tokenizer": "fresh:bytes"}, text_rows(2)).launch()
    asked = [
        {"id": 1, "op": "row", "row": 0},
        {"id": 2, "op": "open", "job": str(job.dir.root)},
        {"id": 3, "op": "row"},
    ]
    out = io.StringIO()
    preview.Server(io.StringIO("".join(json.dumps(each) + "\n" for each in asked)), out).serve()
    replies = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [reply["id"] for reply in replies] == [1, 2, 3]
    assert "trains every token" in replies[1]["error"]["what"]
    assert all("error" in reply for reply in replies)
