"""Token shards: written once, resumed, exact across shard borders, and refused when cut short."""

import gc
import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codex_space.core import scratch
from codex_space.core.errors import DataError
from codex_space.work import packing, shards
from codex_space.work.vocabularies import learn

TEXTS = [f"def f_{n}(x):\n    return x + {n}  # <|endoftext|> spelled out\n" * (1 + n % 7) for n in range(60)]


@pytest.fixture(scope="module")
def tokenizer():
    return learn(TEXTS, 320)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"text": TEXTS}), path)
    return path


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1000)
    monkeypatch.setattr(shards, "BATCH_CHARS", 500)


def whole(tokens):
    reader = shards.Reader(tokens)
    return reader.span(0, len(reader))


@pytest.mark.usefixtures("_small")
def test_the_tokens_are_the_texts_with_an_end_token_between(rows, tokenizer, tmp_path):
    tokens = shards.write(rows, "a", tokenizer, tmp_path / "cache")
    assert len(tokens.shards) > 3
    assert tokens.num_bytes == sum(len(text.encode()) for text in TEXTS)
    ids = whole(tokens)
    assert len(ids) == tokens.num_tokens
    starts = shards.Reader(tokens).text_starts()
    assert len(starts) == len(TEXTS) + 1, "a text that spells the end token does not end there"
    texts = [tokenizer.decode(ids[a + 1 : b]) for a, b in itertools.pairwise(starts)]
    assert texts == TEXTS
    reader = shards.Reader(tokens)
    for start in (0, 999, 1500):
        assert np.array_equal(reader.span(start, start + 1300), ids[start : start + 1300])


@pytest.mark.usefixtures("_small")
def test_a_second_call_reads_what_the_first_wrote_and_other_words_are_another_key(
    rows, tokenizer, tmp_path, monkeypatch
):
    first = shards.write(rows, "a", tokenizer, tmp_path / "cache")
    other = learn(TEXTS, 290)
    assert shards.key_of("a", other) != first.key != shards.key_of("b", tokenizer)
    monkeypatch.setattr(shards, "_encoded", lambda *_: pytest.fail("tokenised again"))
    assert shards.write(rows, "a", tokenizer, tmp_path / "cache") == first


@pytest.mark.usefixtures("_small")
def test_a_call_that_was_cut_off_goes_on_from_its_whole_shards(rows, tokenizer, tmp_path, monkeypatch):
    expected = whole(shards.write(rows, "a", tokenizer, tmp_path / "one"))
    encode, handed = shards._encoded, []

    def cut_off(texts, words):
        for number, batch in enumerate(encode(texts, words)):
            if number == 9:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(shards, "_encoded", cut_off)
    with pytest.raises(KeyboardInterrupt):
        shards.write(rows, "a", tokenizer, tmp_path / "two")
    monkeypatch.setattr(shards, "_encoded", lambda texts, words: (handed.append(b) or b for b in encode(texts, words)))
    tokens = shards.write(rows, "a", tokenizer, tmp_path / "two")
    assert np.array_equal(whole(tokens), expected)
    assert 0 < sum(len(batch) for batch, _ in handed) < len(TEXTS)


@pytest.mark.usefixtures("_small")
def test_texts_are_tokenised_on_all_threads_and_nothing_after_them_is(rows, tokenizer, tmp_path, monkeypatch):
    read, seen = shards.read_texts, []
    monkeypatch.setattr(
        shards,
        "read_texts",
        lambda path: (seen.append(os.environ["TOKENIZERS_PARALLELISM"]) or text for text in read(path)),
    )
    shards.write(rows, "a", tokenizer, tmp_path / "cache")
    assert set(seen) == {"true"}
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false", "a process forked now could hang"


@pytest.mark.usefixtures("_small")
def test_tokens_are_held_while_something_reads_them(rows, tokenizer, tmp_path):
    reader = shards.Reader(shards.write(rows, "a", tokenizer, tmp_path / "cache"))
    folder = next((tmp_path / "cache").iterdir())
    with scratch.held(folder) as is_free:
        assert not is_free, "a clean-up may not take it now"
    assert len(reader) > 0
    del reader
    gc.collect()
    with scratch.held(folder) as is_free:
        assert is_free


@pytest.mark.usefixtures("_small")
def test_a_shard_cut_short_on_disk_is_named(rows, tokenizer, tmp_path):
    tokens = shards.write(rows, "a", tokenizer, tmp_path / "cache")
    path = tokens.folder / "00001.bin"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match="cut short") as caught:
        shards.write(rows, "a", tokenizer, tmp_path / "cache")
    assert "00001.bin" in str(caught.value)


@pytest.mark.parametrize("kind", [packing.Stream, packing.BestFit])
def test_rows_are_full_cover_the_corpus_and_are_found_again_from_their_number(kind, rows, tokenizer, tmp_path):
    tokens = shards.write(rows, "a", tokenizer, tmp_path / "cache")
    reader = shards.Reader(tokens)
    one, two = kind(reader, 64, 7), kind(reader, 64, 7)
    epoch = [one.row(index) for index in range(one.num_rows)]
    assert all(len(row) == 65 for row in epoch)
    for index in (one.num_rows + 3, 2, 0):  # out of order, over the end of an epoch
        assert np.array_equal(two.row(index), one.row(index))
    second = [one.row(one.num_rows + index) for index in range(one.num_rows)]
    assert not np.array_equal(epoch, second), "each epoch has its own order"
    if kind is packing.Stream:
        assert one.num_cut < 64
        assert one.num_rows * 64 + one.num_cut == tokens.num_tokens - 1
    else:
        assert all(row[0] == tokens.end_id for row in epoch), "a row begins with the beginning of a text"
        kept = sum(row.size for row in epoch)
        assert kept + one.num_cut == tokens.num_tokens - 1
        assert one.num_cut < 0.5 * tokens.num_tokens
