"""Rows are mixed, split and written once, the same way every time."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from codex_space.core.errors import DataError, RecipeError
from codex_space.core.recipe import validate
from codex_space.data import prepare
from codex_space.data.prepare import prepare_rows, read_prepared
from codex_space.data.sources import stdlib_files


def write(folder, name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(*datasets, kind="sft", fraction=0.05, seed=42):
    sections = [section if isinstance(section, dict) else {"path": str(section)} for section in datasets]
    values = {"kind": kind, "datasets": sections, "seed": seed}
    if kind != "tokenizer":
        values["validation"] = {"fraction": fraction}
    values |= {"model": {"model_name_or_path": "fresh:tiny"}} if kind not in {"pretrain", "tokenizer"} else {}
    values |= {"architecture": "tiny", "tokenizer": "run:x"} if kind == "pretrain" else {}
    return validate(values)


def pairs(count, mark="p"):
    return [{"prompt": f"{mark}{number}", "completion": "c"} for number in range(count)]


def rows_of(path):
    return pq.read_table(path).to_pylist()


def both(found):
    return rows_of(found.train), rows_of(found.validation)


@pytest.fixture
def numbers(tmp_path):
    return write(tmp_path, "numbers.jsonl", pairs(2000))


def test_every_row_lies_on_exactly_one_side(tmp_path, numbers):
    found = prepare_rows(recipe(numbers), None, tmp_path / "out")
    train, validation = both(found)
    assert (len(train), len(validation)) == (found.num_train, found.num_validation)
    assert 50 < len(validation) < 150
    assert sorted(row["prompt"] for row in train + validation) == sorted(row["prompt"] for row in pairs(2000))
    assert found.train_sha256 == hashlib.sha256(found.train.read_bytes()).hexdigest()


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_another_split(tmp_path, numbers):
    one, two, other = (
        prepare_rows(recipe(numbers, seed=seed), None, tmp_path / folder)
        for folder, seed in (("one", 42), ("two", 42), ("other", 43))
    )
    assert (one.train_sha256, one.validation_sha256) == (two.train_sha256, two.validation_sha256)
    assert one.validation_sha256 != other.validation_sha256


def test_equal_rows_never_lie_on_both_sides(tmp_path):
    rows = [row for row in pairs(300) for _ in range(3)]
    found = prepare_rows(recipe(write(tmp_path, "a.jsonl", rows), fraction=0.3), None, tmp_path / "out")
    train, validation = ({row["prompt"] for row in side} for side in both(found))
    assert train and validation
    assert not train & validation


def test_a_second_call_reads_nothing_again(tmp_path, numbers):
    first = prepare_rows(recipe(numbers), None, tmp_path / "out")
    numbers.unlink()
    assert prepare_rows(recipe(numbers), None, tmp_path / "out") == first
    assert read_prepared(tmp_path / "out") == first


@pytest.mark.parametrize("name", ["train.parquet", "validation.parquet"])
def test_changed_or_missing_rows_stop_a_resume(tmp_path, numbers, name):
    found = prepare_rows(recipe(numbers), None, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="changed or removed"):
        prepare_rows(recipe(numbers), None, tmp_path / "out")
    path.unlink()
    with pytest.raises(DataError, match="changed or removed"):
        read_prepared(found.folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "text", "extra": 1}'])
def test_a_record_that_is_not_ours_is_refused(tmp_path, content):
    (tmp_path / "prepared.json").write_text(content)
    with pytest.raises(DataError):
        read_prepared(tmp_path)


def test_an_attempt_that_was_cut_short_is_done_again(tmp_path, numbers):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train.parquet").write_bytes(b"half")
    (out / ".validation.parquet.tmp").write_bytes(b"half")
    found = prepare_rows(recipe(numbers), None, out)
    assert found.num_train + found.num_validation == 2000
    assert sorted(path.name for path in out.iterdir()) == ["prepared.json", "train.parquet", "validation.parquet"]


def test_a_bad_row_leaves_no_record_and_no_half_file(tmp_path):
    path = write(tmp_path, "a.jsonl", [*pairs(3000), {"prompt": "p", "completion": 3}])
    with pytest.raises(DataError, match="line 3001"):
        prepare_rows(recipe(path), None, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("seed", range(5))
def test_a_small_set_still_has_both_sides(tmp_path, count, seed):
    path = write(tmp_path, "a.jsonl", pairs(count))
    found = prepare_rows(recipe(path, seed=seed), None, tmp_path / "out")
    assert found.num_train >= 1
    assert found.num_validation >= 1
    assert found.num_train + found.num_validation == count


def test_one_row_is_trained_on_and_equal_rows_too(tmp_path):
    one = prepare_rows(recipe(write(tmp_path, "a.jsonl", pairs(1)), fraction=0.5), None, tmp_path / "one")
    assert (one.num_train, one.num_validation) == (1, 0)
    same = prepare_rows(recipe(write(tmp_path, "b.jsonl", pairs(1) * 8), fraction=0.5), None, tmp_path / "same")
    assert (same.num_train, same.num_validation) == (8, 0)
    assert rows_of(same.validation) == []


def test_validation_rows_of_their_own_take_the_place_of_a_share(tmp_path, numbers):
    held = write(tmp_path, "held.jsonl", pairs(7, "h"))
    values = recipe(numbers).model_dump(by_alias=True)
    own = validate({**values, "validation": {"fraction": 0.5, "dataset": {"path": str(held)}}})
    train, validation = both(prepare_rows(own, None, tmp_path / "out"))
    assert len(train) == 2000
    assert [row["prompt"] for row in validation] == [row["prompt"] for row in pairs(7, "h")]
    bad = write(tmp_path, "bad.jsonl", [{"text": "plain"}])
    mixed = validate({**values, "validation": {"dataset": {"path": str(bad)}}})
    with pytest.raises(DataError, match="different formats"):
        prepare_rows(mixed, None, tmp_path / "mixed")


def test_nothing_is_held_out_where_nothing_is_asked(tmp_path, numbers):
    found = prepare_rows(recipe(numbers, fraction=0), None, tmp_path / "out")
    assert (found.num_train, found.num_validation) == (2000, 0)


@pytest.mark.parametrize("kind", ["sft", "pretrain", "tokenizer"])
def test_sources_without_rows_are_refused(tmp_path, kind):
    with pytest.raises(DataError, match="no row"):
        prepare_rows(recipe(write(tmp_path, "a.jsonl", []), kind=kind), None, tmp_path / "out")


def test_a_weight_says_how_often_each_row_is_used(tmp_path):
    sources = [
        {"path": str(write(tmp_path, f"{mark}.jsonl", pairs(1000, mark))), "weight": weight}
        for mark, weight in (("a", 1), ("b", 0.25), ("c", 2), ("d", 2.5))
    ]
    train, _ = both(prepare_rows(recipe(*sources, fraction=0), None, tmp_path / "out"))
    used = {mark: [row["prompt"] for row in train if row["prompt"][0] == mark] for mark in "abcd"}
    assert len(used["a"]) == len(set(used["a"])) == 1000
    assert 200 < len(used["b"]) == len(set(used["b"])) < 300
    assert len(used["c"]) == 2 * len(set(used["c"])) == 2000
    assert 2400 < len(used["d"]) < 2600


def test_a_row_used_twice_is_held_out_once(tmp_path, numbers):
    source = {"path": str(numbers), "weight": 3}
    train, validation = both(prepare_rows(recipe(source, fraction=0.2), None, tmp_path / "out"))
    assert len(validation) == len({row["prompt"] for row in validation})
    assert len(train) == 3 * (2000 - len(validation))


@pytest.mark.parametrize("weight", [1e9, float("inf")])
def test_a_weight_that_would_fill_the_disk_is_refused(tmp_path, numbers, weight):
    with pytest.raises(DataError, match="weight"):
        prepare_rows(recipe({"path": str(numbers), "weight": weight}), None, tmp_path / "out")


def test_pairs_and_chats_mix_as_chats(tmp_path):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    sources = write(tmp_path, "a.jsonl", pairs(3)), write(tmp_path, "b.jsonl", [{"messages": chat}] * 3)
    found = prepare_rows(recipe(*sources, fraction=0), None, tmp_path / "out")
    assert found.format == "messages"
    assert rows_of(found.train)[0]["messages"][1] == {"role": "assistant", "content": "c"}
    assert rows_of(found.train)[-1] == {"messages": chat}


def test_text_and_pairs_do_not_mix(tmp_path):
    sources = write(tmp_path, "a.jsonl", pairs(3)), write(tmp_path, "b.jsonl", [{"text": "t"}])
    with pytest.raises(DataError, match="different formats: prompt_completion, text"):
        prepare_rows(recipe(*sources), None, tmp_path / "out")


@pytest.mark.parametrize("kind", ["pretrain", "tokenizer"])
def test_pretraining_takes_anything_as_text(tmp_path, kind):
    sources = write(tmp_path, "a.jsonl", pairs(1)), write(tmp_path, "b.jsonl", [{"text": "t"}])
    found = prepare_rows(recipe(*sources, kind=kind, fraction=0), None, tmp_path / "out")
    assert rows_of(found.train) == [{"text": "p0\n\nc"}, {"text": "t"}]


def test_the_library_is_split_by_file_name_whatever_the_seed(tmp_path):
    one, two = (
        prepare_rows(recipe("builtin:python-stdlib", kind="pretrain", seed=seed), None, tmp_path / str(seed))
        for seed in (1, 2)
    )
    assert (one.train_sha256, one.validation_sha256) == (two.train_sha256, two.validation_sha256)
    held_out = {row["text"] for row in rows_of(one.validation)}
    for name, path in stdlib_files():
        place = int.from_bytes(hashlib.sha256(f"builtin:python-stdlib/{name}".encode()).digest()[:6], "big") / 2**48
        if 0 < path.stat().st_size < 100_000 and path.read_bytes().isascii():
            assert (path.read_text() in held_out) == (place < 0.05), name


def test_batches_are_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "BATCH_BYTES", 1000)
    path = write(tmp_path, "a.jsonl", [{"text": "x" * 400} for _ in range(10)])
    found = prepare_rows(recipe(path, kind="pretrain", fraction=0), None, tmp_path / "out")
    assert pq.ParquetFile(found.train).num_row_groups > 3


def test_mbpp_is_prepared(tmp_path, real_data):
    found = prepare_rows(recipe(real_data / "mbpp.jsonl.gz"), None, tmp_path / "out")
    assert (found.format, found.num_train + found.num_validation) == ("prompt_completion", 974)


def preferences(count, mark="p"):
    return [{"prompt": f"{mark}{number // 2}", "chosen": f"yes {number}", "rejected": "no"} for number in range(count)]


def test_pairs_of_one_prompt_lie_on_one_side(tmp_path):
    path = write(tmp_path, "pairs.jsonl", preferences(400))
    train, validation = both(prepare_rows(recipe(path, kind="dpo", fraction=0.3), None, tmp_path / "out"))
    asked = [{row["prompt"][0]["content"] for row in side} for side in (train, validation)]
    assert len(train) + len(validation) == 400
    assert len(asked[0]) > 100
    assert len(asked[1]) > 20
    assert asked[0].isdisjoint(asked[1])


def test_pairs_for_kto_become_marked_answers_and_mix_with_others(tmp_path):
    paired = write(tmp_path, "pairs.jsonl", preferences(20))
    marked = write(tmp_path, "marked.csv.jsonl", [{"prompt": "q", "completion": "c", "label": True}])
    found = prepare_rows(recipe(paired, marked, kind="kto", fraction=0), None, tmp_path / "out")
    labels = [row["label"] for row in rows_of(found.train)]
    assert (found.format, len(labels), sum(labels)) == ("unpaired_preference", 41, 21)


@pytest.mark.parametrize(("label", "cure"), [(True, "Add bad answers"), (False, "Add good answers")])
def test_marks_of_one_sort_are_refused(tmp_path, label, cure):
    rows = [{"prompt": f"p{number}", "completion": "c", "label": label} for number in range(9)]
    with pytest.raises(DataError, match=f"every training row has the label {str(label).lower()}") as caught:
        prepare_rows(recipe(write(tmp_path, "a.jsonl", rows), kind="kto"), None, tmp_path / "out")
    assert cure in caught.value.cure
    assert not (tmp_path / "out" / prepare.PREPARED).exists()


def test_pairs_of_plain_text_do_not_mix_with_chats(tmp_path):
    texts = write(tmp_path, "texts.jsonl", [{"chosen": "Q: a A: yes", "rejected": "Q: a A: no"}])
    chats = write(tmp_path, "chats.jsonl", preferences(4))
    with pytest.raises(DataError, match="different formats: preference, preference_text"):
        prepare_rows(recipe(texts, chats, kind="dpo"), None, tmp_path / "out")
    found = prepare_rows(recipe(texts, kind="dpo", fraction=0), None, tmp_path / "alone")
    assert rows_of(found.train) == [{"prompt": "Q: a A:", "chosen": " yes", "rejected": " no"}]


@pytest.mark.parametrize("kind", ["sft", "pretrain", "tokenizer"])
def test_a_kind_that_cannot_learn_from_pairs_says_which_can(tmp_path, kind):
    path = write(tmp_path, "pairs.jsonl", preferences(4))
    with pytest.raises(DataError, match=f"kind {kind} learns from") as caught:
        prepare_rows(recipe(path, kind=kind), None, tmp_path / "out")
    assert "Set kind: dpo or orpo or reward or kto" in caught.value.cure


def test_a_blend_gives_each_source_its_share_of_the_bytes(tmp_path):
    code = write(tmp_path, "code.jsonl", [{"text": f"code {n} " + "x" * 200} for n in range(400)])
    text = write(tmp_path, "text.jsonl", [{"text": f"text {n} " + "y" * 50} for n in range(300)])
    asks = write(tmp_path, "asks.jsonl", [{"prompt": f"ask {n}", "completion": "z" * 90} for n in range(300)])
    shares = {code: 0.7, text: 0.2, asks: 0.1}
    values = recipe(code, kind="pretrain", fraction=0).model_dump(by_alias=True)
    blended = validate({**values, "datasets": [{"path": str(path), "share": part} for path, part in shares.items()]})
    found = prepare_rows(blended, None, tmp_path / "out")
    sizes = dict.fromkeys(("code", "text", "ask "), 0)
    for row in rows_of(found.train):
        sizes[row["text"][:4]] += len(row["text"])
    whole = sum(sizes.values())
    assert [round(size / whole, 2) for size in sizes.values()] == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert max(sizes["code"] / (400 * 208), sizes["text"] / (300 * 58)) > 0.85, "the scarcest source is used whole"


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([{"share": 0.7}, {"share": 0.7}], "add up to 1.4 and not to 1"),
        ([{"share": 0.7}, {}], "each has one"),
        ([{"share": 0.7, "weight": 2}, {"share": 0.3}], "none a weight"),
    ],
)
def test_shares_that_are_no_whole_are_refused(sources, said):
    values = recipe("a.jsonl", kind="pretrain", fraction=0).model_dump(by_alias=True)
    with pytest.raises(RecipeError, match=said):
        validate({**values, "datasets": [{"path": "a.jsonl", **each} for each in sources]})


def test_an_empty_source_of_a_blend_is_named(tmp_path):
    full, empty = write(tmp_path, "full.jsonl", [{"text": "t"}]), write(tmp_path, "empty.jsonl", [])
    values = recipe(full, kind="pretrain", fraction=0).model_dump(by_alias=True)
    blended = validate({**values, "datasets": [{"path": str(full), "share": 0.5}, {"path": str(empty), "share": 0.5}]})
    with pytest.raises(DataError, match="holds no text") as caught:
        prepare_rows(blended, None, tmp_path / "out")
    assert "empty.jsonl" in str(caught.value)
