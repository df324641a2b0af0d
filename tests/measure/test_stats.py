from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from lessen.measure import stats


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), multi=st.booleans())
@settings(max_examples=25, deadline=None)
def test_scores_of_the_sample_itself_equal_scikit_learn(seed: int, classes: int, multi: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (40, classes) if multi else 40
    truth, guess = (rng.integers(0, 2 if multi else classes, shape) for _ in range(2))
    draws = stats.Resampler(truth, [guess], 5, seed)
    counts = draws.counts(0, stats.present(truth, guess))
    assert draws.accuracy(0)[0] == pytest.approx(accuracy_score(truth, guess))
    for ours, theirs in (
        (counts.f1(), f1_score),
        (counts.precision(), precision_score),
        (counts.recall(), recall_score),
    ):
        assert ours[0].mean() == pytest.approx(theirs(truth, guess, average="macro", zero_division=0))
        assert counts.weighted(ours)[0] == pytest.approx(theirs(truth, guess, average="weighted", zero_division=0))


def test_the_interval_covers_the_binomial_one() -> None:
    truth = np.zeros(400, dtype=np.int64)
    guess = (np.arange(400) < 80).astype(np.int64)  # accuracy 0.8, standard error 0.02
    low, high = stats.interval(stats.Resampler(truth, [guess], 4000, 0).accuracy(0)[1:])
    assert low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.006)
    assert high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.006)


def test_two_models_are_scored_on_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    guess = np.where(rng.random(200) < 0.7, truth, (truth + 1) % 3)
    draws = stats.Resampler(truth, [guess, guess.copy()], 50, 1)
    assert np.array_equal(draws.accuracy(0), draws.accuracy(1))
    assert np.all(draws.agreement(0, 1) == 1)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert stats.mcnemar(0, 0) == 1.0
    assert stats.mcnemar(1, 8) == pytest.approx(2 * (1 + 9) / 2**9)  # two-sided P(X <= 1), X ~ B(9, 1/2)
    assert stats.mcnemar(8, 1) == stats.mcnemar(1, 8)
