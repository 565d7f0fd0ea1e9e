"""The tokenizer run: what comes back is what went in, and special tokens stay special."""

import pytest

from tests.work.conftest import Job, make_folder, text_rows

pytestmark = pytest.mark.slow
RECIPE = {"kind": "tokenizer", "vocab_size": 320}
HARD = ["tab\tand\r\nnewline\n\n\n", "naïve café 東京 🐍", "  leading  spaces", "1234567890", "don't I'll", "\x00\x01"]


def _load(job: Job):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.dir.checkpoint(0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    job = make_folder(tmp_path_factory.mktemp("tokenizer"), RECIPE, text_rows())
    assert job.run() == 0
    return job


def test_it_is_saved_as_checkpoint_zero_with_a_manifest(trained):
    assert trained.dir.checkpoint_steps() == [0]
    facts = trained.manifest(0)
    assert facts["kind"] == "tokenizer"
    assert facts["metrics"]["bytes_per_token"] > 1.5
    assert len(trained.said("done")) == 1
    assert 263 < len(_load(trained)) <= 320


@pytest.mark.parametrize("text", HARD)
def test_any_text_comes_back_as_it_went_in(trained, text):
    tokenizer = _load(trained)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_single_and_never_made_of_text_around_them(trained):
    tokenizer = _load(trained)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>", "<|fim_prefix|>"):
        ids = tokenizer.encode(f"a{token}b")
        assert tokenizer.convert_tokens_to_ids(token) in ids
        assert len(tokenizer.encode(token)) == 1
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_digits_stay_apart_and_words_keep_their_space(trained):
    pieces = _load(trained).backend_tokenizer.pre_tokenizer.pre_tokenize_str("x = 12 def add")
    assert [piece for piece, _ in pieces] == ["x", "Ġ=", "Ġ", "1", "2", "Ġdef", "Ġadd"]


def test_the_same_rows_give_the_same_tokenizer(make_job, trained):
    again = make_job(RECIPE, text_rows())
    assert again.run() == 0
    files = [job.dir.checkpoint(0) / "tokenizer.json" for job in (again, trained)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_check_learns_nothing(make_job):
    job = make_job(RECIPE, text_rows())
    assert job.run("--check") == 0
    assert not job.dir.checkpoint_steps()


@pytest.mark.parametrize(("rows", "sentence"), [([{"text": "a"}], "learn"), ([], "no row"), ([{"text": 5}], "'text'")])
def test_rows_with_nothing_to_learn_are_refused(make_job, rows, sentence):
    job = make_job(RECIPE, rows)
    assert job.run() == 1
    assert sentence in job.sentence
    assert not job.dir.checkpoint_steps()
