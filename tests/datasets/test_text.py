"""Corpora, vocabularies and tokens."""

import numpy as np
import pytest

from vaejax import datasets
from vaejax.datasets import DataUnavailableError
from vaejax.distributions import END_TOKEN


@pytest.fixture(scope="module")
def verses():
    return datasets.load_text("king_james", split="test")


def test_the_bundled_corpus_is_whole_and_its_splits_are_disjoint():
    parts = [
        datasets.load_text("king_james", split=split)
        for split in ("train", "validation", "test")
    ]
    assert [len(part) for part in parts] == [27992, 1555, 1555]
    assert sum(map(len, parts)) == 31102
    assert "In the beginning God created the heaven and the earth." in sum(parts, [])
    # A few verses are repeated in the Bible itself.
    assert len(set(parts[0]) & set(parts[2])) < 30


@pytest.mark.parametrize("make", [datasets.byte_vocabulary, lambda: None])
def test_sentences_survive_the_vocabulary(make, verses):
    vocabulary = make() or datasets.subword_vocabulary(verses, size=200)
    tokens = datasets.tokenize(verses, vocabulary, 300)
    assert len(tokens.tokens) == len(verses)
    assert tokens.tokens.dtype == np.uint16 and tokens.tokens.max() < vocabulary.size
    assert np.all(tokens.tokens[:, -1] == END_TOKEN)
    back = [datasets.detokenize(row, vocabulary) for row in tokens.uncut[:50]]
    kept = [verse for verse in verses if len(vocabulary.encode(verse)) < 300]
    assert back == kept[:50]


def test_the_same_sentences_make_the_same_subwords(verses):
    first, second = (datasets.subword_vocabulary(verses, size=150) for _ in range(2))
    assert first.encode(verses[0]) == second.encode(verses[0])
    assert "\N{REPLACEMENT CHARACTER}" in first.decode(first.encode("\N{SNOWMAN}"))


def test_errors_name_what_is_wrong(tmp_path, verses):
    with pytest.raises(ValueError, match="split is 'dev'"):
        datasets.load_text("king_james", split="dev")
    with pytest.raises(DataUnavailableError, match="none.txt cannot be read"):
        datasets.load_text(tmp_path / "none.txt")
    (tmp_path / "few.txt").write_text("one\n\ntwo\n")
    with pytest.raises(ValueError, match="few.txt has 2 sentences.*at least 40"):
        datasets.load_text(tmp_path / "few.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        datasets.load_text(tmp_path / "binary.txt")
    with pytest.raises(ValueError, match="NUL"):
        datasets.byte_vocabulary().encode("a\0b")
    with pytest.raises(
        ValueError,
        match="1000 tokens cannot be made of 3 sentences: Vocabulary size too high",
    ):
        datasets.subword_vocabulary(verses[:3], size=1000)
    with pytest.raises(ValueError, match="fewer than 3 tokens; the shortest has"):
        datasets.tokenize(verses[:5], datasets.byte_vocabulary(), 3)


def test_rows_stay_aligned_and_those_too_long_are_named():
    vocabulary = datasets.byte_vocabulary()
    molecules = ["CCO", "C" * 40, "N", "C" * 11, "C" * 12]
    tokenized = datasets.tokenize(molecules, vocabulary, length=12)
    assert tokenized.tokens.shape == (5, 12)
    assert tokenized.too_long.dtype == np.int64
    assert tokenized.too_long.tolist() == [1, 4]
    back = [datasets.detokenize(row, vocabulary) for row in tokenized.tokens]
    assert back == ["CCO", "C" * 11, "N", "C" * 11, "C" * 11]
    assert np.all(tokenized.tokens[:, -1] == END_TOKEN)
    np.testing.assert_array_equal(tokenized.uncut, tokenized.tokens[[0, 2, 3]])
    fitting = datasets.tokenize(["a", ""], vocabulary, length=2)
    assert fitting.too_long.tolist() == [] and fitting.uncut.tolist() == [
        [97, 0],
        [0, 0],
    ]


def test_lines_end_at_line_feeds_only(tmp_path):
    """Other characters that `str.splitlines` cuts at stay within their sentence."""
    breaks = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"
    sentences = [f"{i}: a{mark}b" for i, mark in enumerate(breaks * 5)]
    for end in ("\n", "\r\n"):
        (tmp_path / "c.txt").write_bytes((end.join(sentences) + end).encode())
        parts = [
            datasets.load_text(tmp_path / "c.txt", split=split)
            for split in ("train", "validation", "test")
        ]
        assert sorted(sum(parts, [])) == sorted(sentences)


@pytest.mark.parametrize("sentences", ["CCO", b"CCO"])
def test_a_string_is_no_list_of_sentences(sentences):
    with pytest.raises(TypeError, match="tokenize: sentences is one string, b?'CCO'"):
        datasets.tokenize(sentences, datasets.byte_vocabulary(), 12)
    with pytest.raises(TypeError, match="subword_vocabulary: sentences is one string"):
        datasets.subword_vocabulary(sentences, size=10)


def test_symbol_0_as_data_is_named_with_the_shift():
    bases = datasets.Vocabulary(
        4,
        lambda s: ["ACGT".index(c) for c in s],
        lambda t: "".join("ACGT"[i] for i in t),
    )
    message = "sentence 1 has token 0 at position 2, .*END_TOKEN.*add 1 .* 5 tokens"
    with pytest.raises(ValueError, match=message):
        datasets.tokenize(["CC", "GTA"], bases, 8)
    shifted = datasets.Vocabulary(
        5,
        lambda s: [token + 1 for token in bases.encode(s)],
        lambda t: bases.decode([token - 1 for token in t]),
    )
    rows = datasets.tokenize(["CC", "GTA"], shifted, 8).tokens
    assert [datasets.detokenize(row, shifted) for row in rows] == ["CC", "GTA"]
    for size, token in ((3, 3), (3, -1)):
        wrong = datasets.Vocabulary(size, lambda s, t=token: [1, t], str)
        with pytest.raises(ValueError, match=f"sentence 0 has token {token} at pos"):
            datasets.tokenize(["a"], wrong, 8)
