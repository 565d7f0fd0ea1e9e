"""The tokenizer run, by each method: what comes back is what went in, special tokens stay special, the report says what holds."""

import json
from pathlib import Path

import pytest

from tests.work.conftest import make_folder, text_rows

pytestmark = pytest.mark.slow
HARD = ["tab\tand\r\nnewline\n\n\n", "naïve café 東京 🐍", "  leading  spaces", "1234567890", "don't I'll", "\x00\x01"]
LOSSLESS = ["byte_bpe", "sentencepiece_bpe", "sentencepiece_unigram"]
METHODS = [*LOSSLESS, "whitespace"]
SIZE = 700


def code_rows():
    """Real Python: these tests."""
    return [{"text": path.read_text()} for path in sorted(Path(__file__).parent.glob("test_*.py"))[:12]]


def recipe(method="byte_bpe", vocab_size=SIZE):
    return {"kind": "tokenizer", "method": method, "vocab_size": vocab_size}


def _load(job):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.dir.checkpoint(0))


@pytest.fixture(scope="module")
def all_trained(tmp_path_factory):
    jobs = {}
    for method in METHODS:
        jobs[method] = make_folder(tmp_path_factory.mktemp(method), recipe(method), code_rows())
        assert jobs[method].run() == 0, jobs[method].sentence
    return jobs


@pytest.fixture(params=METHODS)
def trained(request, all_trained):
    return all_trained[request.param]


def told(job):
    return json.loads((job.dir.checkpoint(0) / "tokenizer_report.json").read_text())


def test_it_is_saved_as_checkpoint_zero_with_a_manifest_and_a_report(trained):
    assert trained.dir.checkpoint_steps() == [0]
    facts = trained.manifest(0)
    assert facts["kind"] == "tokenizer"
    assert facts["metrics"]["bytes_per_token"] > 1.5
    assert "tokenizer.json" in facts["files"]
    assert len(trained.said("done")) == 1
    assert len(_load(trained)) == SIZE
    found = told(trained)
    assert found["lines"] > 1000
    assert found["bytes_per_token_by_language"]["python"] > 1.2
    lossless = found["method"] in LOSSLESS
    assert (found["round_trip_share"] == 1) == lossless
    assert (found["unknown_share"] == 0) == lossless
    assert found["gguf"] == (found["method"] in {"byte_bpe", "sentencepiece_bpe"})
    assert found["gguf_reason"]


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize("method", LOSSLESS)
def test_any_text_comes_back_as_it_went_in(all_trained, method, text):
    tokenizer = _load(all_trained[method])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_single_and_never_made_of_text_around_them(trained):
    tokenizer = _load(trained)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>", "<|fim_prefix|>", "<tool_call>"):
        ids = tokenizer.encode(f"a{token}b")
        assert tokenizer.convert_tokens_to_ids(token) in ids
        assert len(tokenizer.encode(token)) == 1
        assert token not in tokenizer.decode(ids, skip_special_tokens=True)
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_padding_and_truncation(trained):
    tokenizer = _load(trained)
    batch = tokenizer(["def f(x):", "def f(x): return x + 1"], padding=True)
    short, long = batch["input_ids"]
    assert len(short) == len(long)
    assert short.count(tokenizer.pad_token_id) == batch["attention_mask"][0].count(0) > 0
    assert tokenizer("def f(x): return x + 1", truncation=True, max_length=3)["input_ids"] == long[:3]


@pytest.mark.parametrize("method", ["sentencepiece_bpe", "sentencepiece_unigram"])
def test_sentencepiece_itself_gives_the_same_tokens(all_trained, method):
    import sentencepiece

    folder = all_trained[method].dir.checkpoint(0)
    original = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokenizer = _load(all_trained[method])
    special = tokenizer.get_added_vocab()  # text to SentencePiece, one token each to transformers
    lines = [line for row in code_rows() for line in row["text"].splitlines() if not any(map(line.count, special))]
    parted = [(ours, theirs) for line in lines if (ours := tokenizer.encode(line)) != (theirs := original.encode(line))]
    # unigram takes the likeliest cut, and the same pieces in another order (runs of spaces) are as likely
    assert not [pair for pair in parted if method == "sentencepiece_bpe" or sorted(pair[0]) != sorted(pair[1])]
    assert len(parted) < 0.01 * len(lines)
    assert (folder / "tokenizer.vocab").read_text().count("\n") == len(tokenizer)
    facts = json.loads((folder / "sentencepiece.json").read_text())
    assert facts["method"] == method
    assert facts["vocab_size"] == len(tokenizer)


def test_digits_stay_apart_and_words_keep_their_space(all_trained):
    pieces = _load(all_trained["byte_bpe"]).backend_tokenizer.pre_tokenizer.pre_tokenize_str("x = 12 def add")
    assert [piece for piece, _ in pieces] == ["x", "Ġ=", "Ġ", "1", "2", "Ġdef", "Ġadd"]


def test_the_same_rows_give_the_same_tokenizer(make_job, all_trained):
    again = make_job(recipe(), code_rows())
    assert again.run() == 0
    files = [job.dir.checkpoint(0) / "tokenizer.json" for job in (again, all_trained["byte_bpe"])]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_check_learns_nothing(make_job):
    job = make_job(recipe(), text_rows())
    assert job.run("--check") == 0
    assert not job.dir.checkpoint_steps()


@pytest.mark.parametrize("method", METHODS)
def test_a_vocabulary_larger_than_the_texts_give_is_refused_with_the_size_they_do(make_job, method):
    job = make_job(recipe(method, 5000), text_rows())
    assert job.run() == 1
    assert "and not the 5,000 asked for" in job.sentence
    assert "Set vocab_size:" in job.sentence
    assert not job.dir.checkpoint_steps()


@pytest.mark.parametrize(("rows", "sentence"), [([{"text": "a"}], "learn"), ([], "no row"), ([{"text": 5}], "'text'")])
def test_rows_with_nothing_to_learn_are_refused(make_job, rows, sentence):
    job = make_job(recipe(), rows)
    assert job.run() == 1
    assert sentence in job.sentence
    assert not job.dir.checkpoint_steps()
