"""Sentences as data: the bundled corpus or a file of the user's, vocabularies, and
sentences as padded tokens.
"""

import hashlib
import io
import lzma
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax._checks import check_count
from vaejax.datasets.errors import DataUnavailableError
from vaejax.distributions.autoregressive import END_TOKEN

# One sentence in twenty each is held out for test and for validation, after a shuffle
# with this seed.
_SPLIT_SEED, _HELD_OUT = 0, 20
_KING_JAMES_SHA256 = "b5c4940bcfeee072c0935b5200d0f9d88a00a0199cb0961d16133458fcdfae5d"


class Vocabulary(NamedTuple):
    """Sentences as tokens and back.

    Attributes:
      size: tokens are below it; `END` (0) is one of them and belongs to no sentence.
      encode: a sentence to its tokens, without `END`.
      decode: tokens, without `END`, to a sentence.
    """

    size: int
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


class Tokens(NamedTuple):
    """Sentences as tokens, padded with `END`.

    Attributes:
      tokens: `uint16 [sentences, length]`.
      num_left_out: sentences that were longer than `length` - 1 tokens, and are not
        there.
    """

    tokens: np.ndarray
    num_left_out: int


def load_text(name_or_path: str | os.PathLike, *, split: str = "train") -> list[str]:
    """The sentences of a corpus: "king_james", the bundled one, or a text file of one
    sentence a line.

    Of either, one in twenty is for "test" and one for "validation", after a shuffle
    with a fixed seed; the rest is for "train". Empty lines are left out, white space at
    the ends too. A line that is there twice may be in two splits.

    Raises:
      ValueError: there is no such split, the file is no text in UTF-8, or has too few
        sentences.
      DataUnavailableError: there is no such file.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split is {split!r}; give 'train', 'validation' or 'test'.")
    text = _king_james() if name_or_path == "king_james" else _read(Path(name_or_path))
    sentences = [line.strip() for line in text.splitlines() if line.strip()]
    num_held_out = len(sentences) // _HELD_OUT
    if num_held_out < 2:
        raise ValueError(
            f"{name_or_path} has {len(sentences)} sentences (one a line); give at "
            f"least {2 * _HELD_OUT}, of which one "
            "in twenty is for test and one for validation."
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(sentences))
    parts = {
        "test": order[:num_held_out],
        "validation": order[num_held_out : 2 * num_held_out],
        "train": order[2 * num_held_out :],
    }
    return [sentences[index] for index in sorted(parts[split])]


def byte_vocabulary() -> Vocabulary:
    """UTF-8 bytes: 256 tokens, of which 0 is `END`. Needs nothing, takes any language,
    and makes long sentences.
    """

    def encode(sentence: str) -> list[int]:
        tokens = list(sentence.encode())
        if END_TOKEN in tokens:
            raise ValueError(
                f"the sentence {sentence!r} holds the character NUL, which ends a "
                "sentence; remove it."
            )
        return tokens

    return Vocabulary(
        256, encode, lambda tokens: bytes(tokens).decode(errors="replace")
    )


def subword_vocabulary(sentences: Sequence[str], size: int = 1000) -> Vocabulary:
    """Byte-pair encoding, learned from sentences with SentencePiece (the extra
    `experiments`): `size` tokens.

    Token 0 is `END`, 1 stands for a character that was not in the sentences.

    Raises:
      ValueError: the size is too small for the characters in the sentences, or too
        large for the sentences.

    Source: Sennrich et al. 2016; Kudo & Richardson 2018.
    """
    import sentencepiece

    check_count("size", size)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            eos_id=END_TOKEN,
            unk_id=1,
            bos_id=-1,
            pad_id=-1,
            unk_surface="\N{REPLACEMENT CHARACTER}",
            # One thread, so that the same sentences give the same tokens.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition("] ")[2]
        raise ValueError(
            f"subword_vocabulary: {size} tokens cannot be made of {len(sentences)} "
            f"sentences: {reason}"
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return Vocabulary(
        size,
        processor.encode,
        lambda tokens: processor.decode([int(token) for token in tokens]),
    )


def tokenize(sentences: Sequence[str], vocabulary: Vocabulary, length: int) -> Tokens:
    """Every sentence of fewer than `length` tokens, followed by `END`.

    Raises:
      ValueError: none is as short.
    """
    check_count("length", length)
    if vocabulary.size > 1 << 16:
        raise ValueError(
            f"tokenize: the vocabulary has {vocabulary.size} tokens; give at most "
            "65,536."
        )
    encoded = [vocabulary.encode(sentence) for sentence in sentences]
    kept = [tokens for tokens in encoded if len(tokens) < length]
    if not kept:
        shortest = min(map(len, encoded), default=0)
        raise ValueError(
            f"none of {len(sentences)} sentences has fewer than {length} tokens; the "
            f"shortest has {shortest}."
        )
    array = np.full((len(kept), length), END_TOKEN, np.uint16)
    for row, tokens in zip(array, kept, strict=True):
        row[: len(tokens)] = tokens
    return Tokens(array, len(encoded) - len(kept))


def detokenize(tokens: np.ndarray, vocabulary: Vocabulary) -> str:
    """The sentence before the first `END`."""
    ends = np.flatnonzero(np.asarray(tokens) == END_TOKEN)
    return vocabulary.decode(
        [int(token) for token in tokens[: ends[0] if len(ends) else None]]
    )


def _king_james() -> str:
    try:
        with lzma.open(
            resources.files("vaejax.datasets") / "bundled_data" / "king_james.txt.xz"
        ) as file:
            raw = file.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(
            f"the bundled king_james.txt.xz cannot be read ({error}); install vaejax "
            "again."
        ) from error
    if hashlib.sha256(raw).hexdigest() != _KING_JAMES_SHA256:
        raise ValueError(
            "the bundled king_james.txt.xz is damaged (its SHA-256 is wrong); install "
            "vaejax again."
        )
    return raw.decode()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error}); save it as UTF-8, one sentence a "
            "line."
        ) from error
    except OSError as error:
        raise DataUnavailableError(
            f"{path} cannot be read ({error.strerror or error}); give king_james or a "
            "text file, one sentence a line."
        ) from error
