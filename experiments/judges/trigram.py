"""An interpolated trigram model of tokens: what a language model has to beat.

p(w | u, v) = a f(w | u, v) + b f(w | v) + c f(w) + d / vocabulary, f the relative
frequencies in the training sentences; the weights depend on how often the context (u,
v) was seen, in octaves, and are those of the largest likelihood of held-out sentences,
found by expectation-maximization. Source: Jelinek & Mercer 1980.
"""

from typing import NamedTuple

import numpy as np

from vaejax.distributions import END_TOKEN

_ITERATIONS = 50


class Trigram(NamedTuple):
    """An interpolated trigram model.

    Attributes:
      vocabulary_size: number of tokens.
      counts: n-grams of 1, 2 and 3 tokens: sorted codes, and how often each was seen.
      contexts: contexts of 0 (the number of tokens), 1 and 2 tokens, in the same form.
      weights: `[octaves, 4]`, of the uniform, unigram, bigram and trigram frequencies.
    """

    vocabulary_size: int
    counts: tuple
    contexts: tuple
    weights: np.ndarray

    def negative_log_probs(self, tokens: np.ndarray) -> np.ndarray:
        """Return -log p of each sentence, its end included, in nats, `[sentences]`.

        Tokens are `[sentences, length]`.
        """
        codes, sentence = _ngrams(tokens, self.vocabulary_size)
        frequencies, octaves = _frequencies(codes, self)
        log_probs = np.log(np.sum(self.weights[octaves] * frequencies, axis=1))
        return -np.bincount(sentence, log_probs, minlength=len(tokens))


def fit(train: np.ndarray, held_out: np.ndarray, vocabulary_size: int) -> Trigram:
    """Fit counts to training sentences, and weights to held-out ones.

    Both are `[sentences, length]`.
    """
    codes, _ = _ngrams(train, vocabulary_size)
    counts = tuple(np.unique(code, return_counts=True) for code in codes)
    contexts = (
        len(codes[0]),
        *(np.unique(code // vocabulary_size, return_counts=True) for code in codes[1:]),
    )
    octaves = int(np.log2(contexts[2][1].max())) + 2
    model = Trigram(vocabulary_size, counts, contexts, np.full((octaves, 4), 0.25))
    frequencies, octave = _frequencies(_ngrams(held_out, vocabulary_size)[0], model)
    weights = model.weights.copy()
    for _ in range(_ITERATIONS):
        parts = weights[octave] * frequencies
        parts /= parts.sum(axis=1, keepdims=True)
        totals = np.stack(
            [np.bincount(octave, part, minlength=octaves) for part in parts.T], axis=1
        )
        # One more of each, so that no token is impossible.
        weights = (totals + 1) / (totals + 1).sum(axis=1, keepdims=True)
    return model._replace(weights=weights)


def _ngrams(tokens: np.ndarray, size: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Codes of the uni-, bi- and trigrams ending at each token, and their sentences."""
    tokens = tokens.astype(np.int64)
    is_end = tokens == END_TOKEN
    inside = np.cumsum(is_end, axis=1) - is_end == 0
    before = [
        np.pad(tokens, ((0, 0), (shift, 0)), constant_values=END_TOKEN)[
            :, : tokens.shape[1]
        ]
        for shift in (1, 2)
    ]
    bigrams = before[0] * size + tokens
    codes = (tokens, bigrams, before[1] * size**2 + bigrams)
    return tuple(code[inside] for code in codes), np.nonzero(inside)[0]


def _frequencies(
    codes: tuple[np.ndarray, ...], model: Trigram
) -> tuple[np.ndarray, np.ndarray]:
    """The four frequencies of each token, `[tokens, 4]`, and its context's octave."""
    total, *contexts = model.contexts
    seen = [np.full(len(codes[0]), total)]
    seen += [
        _look_up(table, code // model.vocabulary_size)
        for table, code in zip(contexts, codes[1:], strict=True)
    ]
    columns = [np.full(len(codes[0]), 1 / model.vocabulary_size)]
    for table, code, context in zip(model.counts, codes, seen, strict=True):
        # After a context that was never seen, the frequencies are those after the
        # shorter one.
        columns.append(
            np.where(
                context > 0, _look_up(table, code) / np.maximum(context, 1), columns[-1]
            )
        )
    octaves = np.ceil(np.log2(seen[2] + 1)).astype(int)
    return np.stack(columns, axis=1), np.minimum(octaves, len(model.weights) - 1)


def _look_up(table: tuple[np.ndarray, np.ndarray], codes: np.ndarray) -> np.ndarray:
    keys, counts = table
    places = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    return np.where(keys[places] == codes, counts[places], 0)
