"""An interpolated Kneser-Ney trigram over a tokenizer's tokens: what counting alone says about a text.

p(w | u v) = (c(uvw) - d) / c(uv) + d n(uv) / c(uv) p(w | v), lower orders counted by the contexts that a token follows,
and the last of them mixed with the uniform distribution, so that no token has probability 0. d = n1 / (n1 + 2 n2) per
order (Kneser and Ney 1995; Chen and Goodman 1999, section 2.7). A context that was never seen leaves all to the lower
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
ORDER = 3
_ROOM = 1 << 21  # tokens of a vocabulary whose trigrams fit a 64-bit number


class Trigram:
    """Counts of a training text.

    Args:
        pieces: token ids of each text, [length].
        vocab: tokens that there are.
    """

    def __init__(self, pieces: Sequence[NDArray[Any]], vocab: int) -> None:
        if vocab >= _ROOM:
            raise ValueError(f"a vocabulary of {vocab} tokens; trigrams of up to {_ROOM - 1} fit a number")
        self.vocab = vocab
        grams = np.concatenate([_grams(p) for p in pieces]) if len(pieces) else np.zeros((0, ORDER), dtype=np.int64)
        self.tables: list[_Table] = []
        kept, counts = np.unique(grams, axis=0, return_counts=True)
        for order in range(ORDER, 0, -1):
            self.tables.insert(0, _Table(kept, counts, vocab))
            if order > 1:  # what a lower order counts: the distinct tokens before
                kept, counts = np.unique(kept[:, 1:], axis=0, return_counts=True)

    def probabilities(self, pieces: Sequence[NDArray[Any]]) -> list[Reals]:
        """Return the probability of each token after the first, one array a piece."""
        lengths = [max(len(p) - 1, 0) for p in pieces]
        grams = np.concatenate([_grams(p) for p in pieces]) if pieces else np.zeros((0, ORDER), dtype=np.int64)
        p = np.full(len(grams), 1.0 / self.vocab)
        for order, table in enumerate(self.tables, start=1):
            p = table.mix(grams[:, ORDER - order :], p)
        return [np.asarray(part) for part in np.split(p, np.cumsum(lengths)[:-1])]


class _Table:
    """One order: counts of its grams and of their contexts."""

    def __init__(self, grams: Ints, counts: Ints, vocab: int) -> None:
        self._vocab = vocab
        keys = self._keys(grams)
        order = np.argsort(keys, kind="stable")
        self._grams, self._counts = keys[order], counts[order].astype(np.float64)
        ones, twos = float((counts == 1).sum()), float((counts == 2).sum())
        self._discount = ones / (ones + 2 * twos) if ones and twos else 0.5
        contexts = self._keys(grams[:, :-1])
        self._contexts, at = np.unique(contexts, return_inverse=True)
        self._totals = np.bincount(at.ravel(), counts.astype(np.float64), minlength=len(self._contexts))
        self._kinds = np.bincount(at.ravel(), minlength=len(self._contexts)).astype(np.float64)

    def mix(self, grams: Ints, lower: Reals) -> Reals:
        """Return probabilities of this order, given those of the order below."""
        hits = _look_up(self._grams, self._counts, self._keys(grams))
        contexts = self._keys(grams[:, :-1])
        total = _look_up(self._contexts, self._totals, contexts)
        kinds = _look_up(self._contexts, self._kinds, contexts)
        top = np.maximum(hits - self._discount, 0) + self._discount * kinds * lower
        return np.where(total > 0, np.divide(top, total, out=np.zeros_like(top), where=total > 0), lower)

    def _keys(self, grams: Ints) -> Ints:
        keys = np.zeros(len(grams), dtype=np.int64)
        for column in grams.T:
            keys = keys * self._vocab + column
        return keys


def _grams(piece: NDArray[Any]) -> Ints:
    """Return (token - 2, token - 1, token) of every token after the first; the first stands for what is before it."""
    ids = np.asarray(piece, dtype=np.int64)
    before = np.concatenate([ids[:1], ids])
    return np.stack([before[:-2], before[1:-1], before[2:]], axis=1) if len(ids) > 1 else np.zeros((0, ORDER), np.int64)


def _look_up(keys: Ints, values: NDArray[Any], wanted: Ints) -> Reals:
    """Return the values of keys (sorted), 0 for those that are not there."""
    if not len(keys):
        return np.zeros(len(wanted))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)
