"""Sentences as data: corpora, vocabularies, and sentences as padded tokens."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax._checks import check_count
from vaejax._files import one_line, reason_of, why_no_file
from vaejax.base import END_TOKEN
from vaejax.datasets._bundled import load_king_james
from vaejax.datasets.errors import DataUnavailableError

# One sentence in twenty each is held out for test and for validation, after a shuffle
# with this seed.
_SPLIT_SEED, _HELD_OUT = 0, 20


class Vocabulary(NamedTuple):
    """A finite set of tokens, and the maps between sentences and tokens.

    Attributes:
      size: number of tokens, which are the integers below it. Token 0, `END_TOKEN`,
        belongs to no sentence.
      encode: `sentence -> tokens`, without `END_TOKEN`.
      decode: `tokens -> sentence`, for tokens without `END_TOKEN`.

    Example:
      >>> from vaejax import datasets
      >>> vocabulary = datasets.byte_vocabulary()
      >>> vocabulary.size, vocabulary.decode(vocabulary.encode("light"))
      (256, 'light')
    """

    size: int
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


class TokenizedSentences(NamedTuple):
    """Sentences as tokens, padded with `END_TOKEN`, one row per sentence.

    Attributes:
      tokens: `uint16 [sentences, length]`, in the order of the sentences; each row ends
        with at least one `END_TOKEN`. Of a sentence with `length` tokens or more, the
        row holds the first `length - 1`.
      too_long: `int64 [cut]`, the indices of the sentences that are cut so, increasing.

    Example:
      >>> from vaejax import datasets
      >>> vocabulary = datasets.byte_vocabulary()
      >>> tokenized = datasets.tokenize(["yes", "perhaps"], vocabulary, length=4)
      >>> tokenized.tokens.shape, tokenized.too_long.tolist(), tokenized.uncut.shape
      ((2, 4), [1], (1, 4))
    """

    tokens: np.ndarray
    too_long: np.ndarray

    @property
    def uncut(self) -> np.ndarray:
        """The rows of the sentences that are not cut, `uint16 [uncut, length]`."""
        return np.delete(self.tokens, self.too_long, axis=0)


def load_text(name_or_path: str | os.PathLike, *, split: str = "train") -> list[str]:
    r"""Load the sentences of a corpus: the bundled one, or a text file.

    One sentence in twenty is for "test" and one in twenty for "validation", after a
    shuffle with a fixed seed; the rest is for "train". Lines end with a line feed, or
    with a carriage return and a line feed; empty ones are left out, and white space at
    both ends is removed. A sentence that occurs twice may be in two splits.

    Args:
      name_or_path: "king_james", the 31,102 verses of the King James Bible, or the path
        of a text file in UTF-8 with one sentence per line, at least 40.
      split: "train", "validation" or "test".

    Returns:
      The sentences, in the order of the corpus.

    Raises:
      ValueError: there is no such split, the file is not text in UTF-8, or it has too
        few sentences.
      DataUnavailableError: (a ValueError) there is no such file.

    Example:
      >>> import pathlib, tempfile
      >>> from vaejax import datasets
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "corpus.txt"
      ...     _ = path.write_text("\n".join(f"sentence {i}" for i in range(100)))
      ...     len(datasets.load_text(path)), len(datasets.load_text(path, split="test"))
      (90, 5)
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split is {split!r}; give 'train', 'validation' or 'test'.")
    text = (
        load_king_james() if name_or_path == "king_james" else _read(Path(name_or_path))
    )
    # `splitlines` would also cut at a line separator or a form feed in a sentence.
    sentences = [line.strip() for line in text.split("\n") if line.strip()]
    num_held_out = len(sentences) // _HELD_OUT
    if num_held_out < 2:
        raise ValueError(
            f"{one_line(name_or_path)} has {len(sentences)} sentences (one per line); "
            f"give at least {2 * _HELD_OUT}, of which one in twenty is for test and "
            "one for validation."
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(sentences))
    parts = {
        "test": order[:num_held_out],
        "validation": order[num_held_out : 2 * num_held_out],
        "train": order[2 * num_held_out :],
    }
    return [sentences[index] for index in sorted(parts[split])]


def byte_vocabulary() -> Vocabulary:
    """Return the vocabulary of UTF-8 bytes: 256 tokens, of which 0 is `END_TOKEN`.

    It is not learned and takes any language; sentences become long.

    Returns:
      The `Vocabulary`; its `encode` raises a ValueError for the character NUL.

    Example:
      >>> from vaejax import datasets
      >>> datasets.byte_vocabulary().encode("abc")
      [97, 98, 99]
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


def subword_vocabulary(sentences: Sequence[str], *, size: int = 1000) -> Vocabulary:
    """Learn a byte-pair encoding from sentences, with SentencePiece.

    The package sentencepiece is part of the extra `text`. Token 0 is
    `END_TOKEN`, and token 1 stands for characters that the sentences do not contain.

    Args:
      sentences: training sentences.
      size: number of tokens, the two special ones included.

    Returns:
      The `Vocabulary`; the same sentences and size give the same one.

    Raises:
      ValueError: the size is too small for the characters in the sentences, or too
        large for the sentences.
      TypeError: the sentences are one string.
      ImportError: sentencepiece is not installed.

    Example:
      >>> from vaejax import datasets
      >>> sentences = ["the cat sat", "the cat ran", "the dog ran", "the dog sat"]
      >>> vocabulary = datasets.subword_vocabulary(sentences, size=24)
      >>> tokens = vocabulary.encode("the dog sat")
      >>> len(tokens) < len("the dog sat"), vocabulary.decode(tokens)
      (True, 'the dog sat')

    Source: Sennrich et al. 2016; Kudo & Richardson 2018.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "subword_vocabulary needs sentencepiece: pip install 'vaejax[text]'."
        ) from error

    check_count("size", size)
    _check_sentences("subword_vocabulary", sentences)
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


def tokenize(
    sentences: Sequence[str], vocabulary: Vocabulary, length: int
) -> TokenizedSentences:
    """Turn sentences into rows of tokens, padded with `END_TOKEN`.

    Row i holds sentence i. Sentences with `length` tokens or more are cut, and named in
    `too_long`; leave their rows out by `uncut`, or give a larger length.

    Args:
      sentences: the sentences.
      vocabulary: vocabulary of at most 65,536 tokens.
      length: length of a row, at least one more than the tokens of a sentence.

    Returns:
      The `TokenizedSentences`, with the indices of those that are too long.

    Raises:
      ValueError: no sentence is short enough, the vocabulary is too large, or a
        sentence holds a token that it does not have, or `END_TOKEN`.
      TypeError: the sentences are one string.

    Example:
      >>> from vaejax import datasets
      >>> vocabulary = datasets.byte_vocabulary()
      >>> datasets.tokenize(["ab", "c"], vocabulary, length=4).tokens.tolist()
      [[97, 98, 0, 0], [99, 0, 0, 0]]
    """
    check_count("length", length)
    if vocabulary.size > 1 << 16:
        raise ValueError(
            f"tokenize: the vocabulary has {vocabulary.size} tokens; give at most "
            "65,536."
        )
    _check_sentences("tokenize", sentences)
    encoded = [vocabulary.encode(sentence) for sentence in sentences]
    too_long = [i for i, tokens in enumerate(encoded) if len(tokens) >= length]
    if len(too_long) == len(encoded):
        shortest = min(map(len, encoded), default=0)
        raise ValueError(
            f"none of {len(sentences)} sentences has fewer than {length} tokens; the "
            f"shortest has {shortest}."
        )
    array = np.full((len(encoded), length), END_TOKEN, np.uint16)
    for index, (row, tokens) in enumerate(zip(array, encoded, strict=True)):
        _check_tokens(tokens, index, vocabulary.size)
        row[: min(len(tokens), length - 1)] = tokens[: length - 1]
    return TokenizedSentences(array, np.array(too_long, np.int64))


def _check_sentences(name: str, sentences: Sequence[str]) -> None:
    if isinstance(sentences, str | bytes):
        raise TypeError(
            f"{name}: sentences is one string, {sentences[:20]!r}; give a list of "
            "sentences, such as [sentence], since each of its letters would be one."
        )


def _check_tokens(tokens: Sequence[int], index: int, size: int) -> None:
    """Check that no token of a sentence ends it, or is none of the vocabulary."""
    found = np.asarray(tokens)
    if not np.any((found <= END_TOKEN) | (found >= size)):
        return
    position = int(np.argmax((found <= END_TOKEN) | (found >= size)))
    if found[position] == END_TOKEN:
        raise ValueError(
            f"tokenize: sentence {index} has token {END_TOKEN} at position {position}, "
            "which is END_TOKEN and would end it; let encode add 1 to every token, "
            f"decode subtract it, and give the vocabulary {size + 1} tokens."
        )
    raise ValueError(
        f"tokenize: sentence {index} has token {found[position]} at position "
        f"{position}, and the vocabulary those below {size}; give it a larger size."
    )


def detokenize(tokens: np.ndarray, vocabulary: Vocabulary) -> str:
    """Turn a row of tokens back into a sentence.

    Args:
      tokens: integers `[length]`; what follows the first `END_TOKEN` is ignored.
      vocabulary: vocabulary that made the tokens.

    Returns:
      The sentence before the first `END_TOKEN`.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> datasets.detokenize(np.array([97, 98, 0, 0]), datasets.byte_vocabulary())
      'ab'
    """
    ends = np.flatnonzero(np.asarray(tokens) == END_TOKEN)
    return vocabulary.decode(
        [int(token) for token in tokens[: ends[0] if len(ends) else None]]
    )


def _read(path: Path) -> str:
    reason = why_no_file(path)
    try:
        if reason is None:
            # Not as lines: only what ends one here may be changed.
            return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{one_line(path)} is no text in UTF-8 ({reason_of(error)}); save it as "
            "UTF-8, one sentence per line."
        ) from error
    except OSError as error:
        reason = reason_of(error)
    raise DataUnavailableError(
        f"{one_line(path)} cannot be read ({reason}); give king_james or a text file, "
        "one sentence per line."
    )
