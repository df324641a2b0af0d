"""Intervals and paired tests over the test samples.

A bootstrap resample of n samples is a multinomial draw over the distinct (label, decision, ...) rows, which is the
same distribution at a cost that does not grow with n (Efron and Tibshirani 1993, section 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """True positives, predicted and actual positives, per resample and class: each [resamples, classes]."""

    hit: Reals
    predicted: Reals
    actual: Reals

    def f1(self) -> Reals:
        """Return 2 hit / (predicted + actual), 0 where a class neither occurs nor is predicted."""
        return _ratio(2 * self.hit, self.predicted + self.actual)

    def precision(self) -> Reals:
        """Return hit / predicted, 0 where nothing was predicted."""
        return _ratio(self.hit, self.predicted)

    def recall(self) -> Reals:
        """Return hit / actual, 0 where nothing was to be found."""
        return _ratio(self.hit, self.actual)

    def weighted(self, scores: Reals) -> Reals:
        """Return the mean of per-class scores weighted by how often each class occurs, [resamples]."""
        return _ratio((scores * self.actual).sum(axis=1), self.actual.sum(axis=1))


class Resampler:
    """Draw paired resamples of test samples: every model is scored on the same draws.

    Args:
        labels: label indices [n], or 0/1 flags [n, labels].
        decisions: one array of decisions per model, each shaped like `labels`.
        resamples: draws.
        seed: of the draws.
    """

    def __init__(self, labels: NDArray[Any], decisions: list[NDArray[Any]], resamples: int, seed: int) -> None:
        columns = [_columns(a) for a in (labels, *decisions)]
        self.width = columns[0].shape[1]
        rows, counts = np.unique(np.concatenate(columns, axis=1), axis=0, return_counts=True)
        self._parts = [rows[:, i * self.width : (i + 1) * self.width] for i in range(len(columns))]
        self.n = int(counts.sum())
        draws = np.random.default_rng(seed).multinomial(self.n, counts / self.n, size=resamples)
        self.weights = np.concatenate([counts[None, :], draws]).astype(np.float64)  # row 0: the sample itself

    def accuracy(self, model: int) -> Reals:
        """Return the share of samples decided rightly as a whole, [1 + resamples]; entry 0 is the sample itself."""
        right = (self._parts[0] == self._parts[model + 1]).all(axis=1)
        return np.asarray(self.weights @ right / self.n)

    def agreement(self, first: int, second: int) -> Reals:
        """Return the share of samples that two models decide alike, [1 + resamples]."""
        same = (self._parts[first + 1] == self._parts[second + 1]).all(axis=1)
        return np.asarray(self.weights @ same / self.n)

    def counts(self, model: int, classes: list[int]) -> Counts:
        """Return counts per class; with flags, class k is column k being 1."""
        truth, guess = self._flags(0, classes), self._flags(model + 1, classes)
        return Counts(self.weights @ (truth & guess), self.weights @ guess, self.weights @ truth)

    def _flags(self, part: int, classes: list[int]) -> NDArray[np.bool_]:
        values = self._parts[part]
        if self.width == 1:
            return np.asarray(values == np.asarray(classes)[None, :])
        return np.asarray(values[:, classes] == 1)


def interval(draws: Reals) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points of resampled values."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Reals, resamples: int, seed: int) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the mean of per-sample values, shape [n]."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    return interval(np.asarray(means))


def resampled_sums(columns: Reals, resamples: int, seed: int) -> Reals:
    """Return column sums over bootstrap resamples of the rows, [1 + resamples, columns]; entry 0 is the sample itself.

    The draws depend on the number of rows and the seed alone, so that two models over the same rows are paired.

    Args:
        columns: one row a document or sentence, [n, columns].
    """
    n = len(columns)
    rng = np.random.default_rng(seed)
    out = np.empty((1 + resamples, columns.shape[1]))
    out[0] = columns.sum(axis=0)
    for draw in range(resamples):
        out[draw + 1] = np.bincount(rng.integers(0, n, n), minlength=n) @ columns
    return out


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value that two models err equally often (McNemar 1947, binomial form).

    Args:
        only_first: samples that only the first model decides rightly.
        only_second: samples that only the second model decides rightly.
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    if total == 0:
        return 1.0
    return float(binomtest(min(only_first, only_second), total, 0.5).pvalue)


def present(labels: NDArray[Any], decisions: NDArray[Any]) -> list[int]:
    """List the classes that occur or were decided: those over which macro scores average."""
    if labels.ndim == 2:
        return list(range(labels.shape[1]))
    return [int(k) for k in np.union1d(labels, decisions)]


def _columns(values: NDArray[Any]) -> Ints:
    flat = np.asarray(values, dtype=np.int64)
    return flat[:, None] if flat.ndim == 1 else flat


def _ratio(top: Reals, bottom: Reals) -> Reals:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
