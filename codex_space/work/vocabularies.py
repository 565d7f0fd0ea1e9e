"""Learn a tokenizer of each method: byte-level BPE, SentencePiece BPE and unigram, and words apart for teaching."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor, generate_merges

from codex_space import __version__
from codex_space.core import durable
from codex_space.core.errors import DataError
from codex_space.work.processes import tokenizing_on_all_threads

EOS, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<unk>"
CHAT_TOKENS = ["<|im_start|>", "<|im_end|>"]
FIM_TOKENS = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
SPECIAL_TOKENS = [EOS, PAD, *CHAT_TOKENS, *FIM_TOKENS]
NUM_BYTES = 256
_SPLIT = (  # Qwen2's (its tokenizer.json), which llama.cpp knows as qwen2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACE = "\u2581"
_MAX_LINE_BYTES = 16384
"""SentencePiece leaves longer lines out."""
_TOO_HIGH = re.compile(r"value <= (\d+)")
SENTENCEPIECE = {"sentencepiece_bpe": "bpe", "sentencepiece_unigram": "unigram"}


def learn(texts: Iterable[str], vocab_size: int, added: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most that many entries; with vocab_size 0 one of bare bytes.

    Raises:
        DataError: The vocabulary was asked to be larger than bytes alone, and the texts hold nothing to learn.
    """
    specials = [*SPECIAL_TOKENS, *added]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, len(specials) + NUM_BYTES),
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    with tokenizing_on_all_threads():
        tokenizer.train_from_iterator(texts, trainer=trainer)
    if vocab_size and tokenizer.get_vocab_size() == len(specials) + NUM_BYTES:
        raise DataError("the texts hold nothing a tokenizer could learn", where="datasets", cure="Add more text.")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)


def learn_words(texts: Iterable[str], vocab_size: int, added: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words and signs; a word it does not know is lost, as one sees at once."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *added, UNKNOWN], show_progress=False
    )
    with tokenizing_on_all_threads():
        tokenizer.train_from_iterator(texts, trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN)


def learn_sentencepiece(
    texts: Iterable[str], vocab_size: int, method: str, folder: Path, *, threads: int, added: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """Return SentencePiece's tokenizer as a tokenizer.json, and leave tokenizer.model, .vocab and a manifest in the folder.

    A byte that no piece holds falls back to a piece of its own; text is neither normalised nor given a leading space.

    Raises:
        DataError: The texts do not give that many entries.
    """
    import sentencepiece

    kind, written = SENTENCEPIECE[method], io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=written,
            model_type=kind,
            vocab_size=vocab_size,
            byte_fallback=True,
            character_coverage=0.9999,
            required_chars="".join(map(chr, range(33, 127))),
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            max_sentence_length=_MAX_LINE_BYTES,
            unk_piece=UNKNOWN,
            unk_id=0,
            eos_piece=EOS,
            eos_id=1,
            pad_piece=PAD,
            pad_id=2,
            bos_id=-1,
            control_symbols=[token for token in (*SPECIAL_TOKENS, *added) if token not in {EOS, PAD}],
            num_threads=threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        if found := _TOO_HIGH.search(str(error)):
            raise too_large(vocab_size, int(found[1])) from error
        raise DataError(
            "SentencePiece could not learn from these texts", where="datasets", cure="Add more text."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tokenizer.model"
    model.write_bytes(written.getvalue())
    pieces = SentencePieceExtractor(str(model)).proto.pieces
    lines = (f"{piece.piece}\t{piece.score:g}\n" for piece in pieces)
    (folder / "tokenizer.vocab").write_text("".join(lines), encoding="utf-8")
    facts = {"method": method, "vocab_size": len(pieces), "byte_fallback": True, "normalizer": "identity"}
    facts |= {"sentencepiece": sentencepiece.__version__, "codex_space": __version__}
    durable.write_json(
        folder / "sentencepiece.json", {**facts, "sha256": hashlib.sha256(written.getvalue()).hexdigest()}
    )
    return _as_fast(kind, [(piece.piece, piece.score, piece.type) for piece in pieces])


def too_large(wanted: int, possible: int) -> DataError:
    """Return the refusal of a vocabulary that the texts cannot give."""
    what = f"the texts give {possible:,} entries and not the {wanted:,} asked for"
    return DataError(what, where="vocab_size", cure=f"Set vocab_size: {possible}, or add text.")


def _as_fast(kind: str, pieces: list[tuple[str, float, int]]) -> PreTrainedTokenizerFast:
    """Return the same tokenizer in the tokenizers library's own form."""
    if kind == "unigram":
        model = models.Unigram([(piece, score) for piece, score, _ in pieces], unk_id=0, byte_fallback=True)
    else:
        vocab = {piece: number for number, (piece, _, _) in enumerate(pieces)}
        merges = generate_merges(vocab, {piece: score for piece, score, type_ in pieces if type_ == 1})
        model = models.BPE(vocab, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    control = 3
    specials = [AddedToken(piece, normalized=False, special=True) for piece, _, type_ in pieces if type_ == control]
    tokenizer.add_special_tokens([AddedToken(UNKNOWN, normalized=False, special=True), *specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN, add_prefix_space=False
    )


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (line for line in text.splitlines() if line and "\0" not in line)
