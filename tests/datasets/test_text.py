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
    assert tokens.num_left_out + len(tokens.tokens) == len(verses)
    assert tokens.tokens.dtype == np.uint16 and tokens.tokens.max() < vocabulary.size
    assert np.all(tokens.tokens[:, -1] == END_TOKEN)
    back = [datasets.detokenize(row, vocabulary) for row in tokens.tokens[:50]]
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
