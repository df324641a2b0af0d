"""Perplexity and bits per byte, by hand; what a counting model says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lessen.measure import tokens
from lessen.measure.nearness import compared
from lessen.measure.ngram import Trigram
from lessen.measure.paired import compare_nll
from measure.speakers import Bigram, blocks

# P(next | last) over tokens 0, 1, 2
CHAIN = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
NAMES = ("teacher", "student")


def scored(documents: list[list[int]], texts: list[str], table: np.ndarray = CHAIN, **more: object) -> tokens.Scored:
    return tokens.score(Bigram(np.log(table)), blocks(documents, **more), texts)  # type: ignore[arg-type]


def test_perplexity_is_that_worked_out_by_hand() -> None:
    found = scored([[0, 1, 1, 2], [2, 0]], ["abc", "d"])
    by_hand = [-math.log(0.25) - math.log(0.8) - math.log(0.1), -math.log(0.2)]
    assert found.nll == pytest.approx(by_hand)
    assert found.tokens.tolist() == [3, 1]
    assert found.hits.tolist() == [1, 0]  # 1 after 1; 0 is not the likeliest after 2
    metrics = tokens.metrics(found, bootstrap=200, seed=0)
    assert metrics["nll_per_token"].value == pytest.approx(sum(by_hand) / 4)
    assert metrics["perplexity"].value == pytest.approx(math.exp(sum(by_hand) / 4))
    # not a mean of the documents' perplexities, nor of their mean NLLs
    assert metrics["perplexity"].value != pytest.approx(math.exp((by_hand[0] / 3 + by_hand[1]) / 2))
    assert metrics["bits_per_byte"].value == pytest.approx(sum(by_hand) / math.log(2) / 4)
    assert metrics["token_accuracy"].value == 0.25
    assert metrics["tokens_scored"].value == 4
    low, high = metrics["perplexity"].ci95 or (0, 0)
    assert low <= (metrics["perplexity"].value or 0) <= high


@pytest.mark.parametrize("block", [2, 3, 64])
def test_every_token_is_scored_once_wherever_documents_are_cut(block: int) -> None:
    documents = [[0, 1, 1, 2, 0, 0, 1], [2, 0, 2]]
    whole = scored(documents, ["abcdef", "gh"])
    found = scored(documents, ["abcdef", "gh"], block=block)
    assert found.nll == pytest.approx(whole.nll)
    assert found.tokens.tolist() == [6, 2]


def test_only_supervised_tokens_count() -> None:
    found = scored([[0, 1, 2]], ["b"], counted=[[False, True]])
    assert found.nll == pytest.approx([-math.log(0.1)])
    assert found.tokens.tolist() == [1]


def test_the_first_documents_can_be_scored_alone() -> None:
    found = tokens.score(Bigram(np.log(CHAIN)), blocks([[0, 1], [1, 1], [2, 2]]), ["a", "b", "c"], documents=2)
    assert found.nll == pytest.approx([-math.log(0.25), -math.log(0.8)])
    assert found.bytes.tolist() == [1, 1]


def test_bits_per_byte_does_not_depend_on_the_tokenizer() -> None:
    # one model says every byte with probability 1/4, another has tokens of two bytes, each with probability 1/16
    text = "abbaacda"
    byte, pair = np.zeros((5, 5)), np.zeros((17, 17))
    byte[:, 1:], pair[:, 1:] = 0.25, 1 / 16
    with np.errstate(divide="ignore"):
        first = tokens.score(Bigram(np.log(byte)), blocks([[0, 1, 2, 2, 1, 1, 3, 4, 1]]), [text])
        second = tokens.score(Bigram(np.log(pair)), blocks([[0, 5, 9, 2, 16]]), [text])
    a, b = (tokens.metrics(s, bootstrap=0, seed=0) for s in (first, second))
    assert a["bits_per_byte"].value == pytest.approx(2.0)
    assert b["bits_per_byte"].value == pytest.approx(2.0)
    assert (a["perplexity"].value, b["perplexity"].value) == pytest.approx((4.0, 16.0))


def test_bytes_are_those_of_utf_8_and_of_scored_documents_only() -> None:
    found = scored([[0, 1], [0, 1]], ["ß€", "x"], counted=[[True], [False]])
    assert found.bytes.tolist() == [5, 0]


def test_a_perplexity_is_never_capped_and_one_that_is_no_number_is_missing() -> None:
    sure = np.zeros((2, 2))
    sure[:, 1] = 600.0  # nats against token 0
    found = tokens.metrics(tokens.score(Bigram(sure), blocks([[1, 0], [1, 0]]), ["a", "b"]), bootstrap=5, seed=0)
    assert found["nll_per_token"].value == pytest.approx(600)
    assert found["perplexity"].value == pytest.approx(math.exp(600), rel=1e-9)
    sure[:, 1] = 5000.0
    found = tokens.metrics(tokens.score(Bigram(sure), blocks([[1, 0], [1, 0]]), ["a", "b"]), bootstrap=5, seed=0)
    assert found["nll_per_token"].value == pytest.approx(5000)
    assert found["perplexity"].value is None
    broken = tokens.Scored(np.array([1.0, np.inf]), np.zeros(2, int), np.ones(2, int), np.ones(2, int))
    found = tokens.metrics(broken, bootstrap=5, seed=0)
    assert all(m.value is None for m in found.values())
    assert found["perplexity"].reason == "the NLL of 1 of 2 documents is not finite"


def documents(seed: int, n: int = 60) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        line = [int(rng.integers(3))]
        for _ in range(int(rng.integers(5, 40))):
            line.append(int(rng.choice(3, p=CHAIN[line[-1]])))
        out.append(line)
    return out


def test_a_paired_test_sees_a_real_difference_and_none_where_there_is_none() -> None:
    texts = documents(1)
    names = ["x" * (len(t) - 1) for t in texts]
    true = scored(texts, names)
    blurred = scored(texts, names, 0.9 * CHAIN + 0.1 / 3)
    (worse,) = compare_nll(true, blurred, NAMES, 300, 0)
    assert (worse.metric, worse.unit, worse.lower_is_better) == ("nll_per_token", "nats", True)
    assert worse.change == pytest.approx((blurred.nll.sum() - true.nll.sum()) / true.tokens.sum())
    assert worse.ci95[0] <= worse.change <= worse.ci95[1]
    assert worse.verdict == "worse"  # a higher NLL
    assert compare_nll(blurred, true, NAMES, 300, 0)[0].verdict == "better"
    (same,) = compare_nll(true, true, NAMES, 300, 0)
    assert (same.change, same.verdict) == (0.0, "no detectable change")
    # unpaired, the same difference would drown in that between documents
    wide = tokens.metrics(true, bootstrap=300, seed=0)["nll_per_token"].ci95 or (0, 0)
    assert worse.ci95[1] - worse.ci95[0] < (wide[1] - wide[0]) / 3


def test_models_of_different_tokens_are_compared_by_bytes() -> None:
    ones = np.ones(4, dtype=np.int64)
    first = tokens.Scored(np.array([4.0, 4, 4, 4]), ones, 4 * ones, 4 * ones)
    second = tokens.Scored(np.array([3.0, 3, 3, 3]), ones, 2 * ones, 4 * ones)  # fewer tokens, each less likely
    (found,) = compare_nll(first, second, NAMES, 50, 0)
    assert found.metric == "bits_per_byte"
    assert found.change == pytest.approx(-0.25 / math.log(2))
    assert found.verdict == "better"


def test_kl_and_agreement_are_those_worked_out_by_hand() -> None:
    p, q = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]), np.log([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]])
    found = compared(p, q)
    by_hand = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert found[0] == pytest.approx([1, 0, by_hand])
    assert found[1] == pytest.approx([1, 1, 0])
    with np.errstate(divide="ignore"):
        nothing = compared(np.log([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    assert nothing[0] == pytest.approx([1, 1, math.log(2)])  # where the teacher says 0 nothing is added


def test_a_counting_model_gives_probabilities() -> None:
    train = [np.asarray(t) for t in documents(2)]
    model = Trigram(train, 3)
    for u in range(3):
        for v in range(3):
            asked = [np.asarray([u, v, w]) for w in range(3)]
            assert sum(p[1] for p in model.probabilities(asked)) == pytest.approx(1)
    unseen = Trigram([np.asarray([0, 1, 2, 0, 1])], 6)
    (p,) = unseen.probabilities([np.asarray([5, 4, 3])])
    assert (p > 0).all()
    assert sum(q[0] for q in unseen.probabilities([np.asarray([5, w]) for w in range(6)])) == pytest.approx(1)


def test_a_counting_model_comes_near_the_chain_that_it_saw() -> None:
    train, test = ([np.asarray(t) for t in documents(seed, 300)] for seed in (3, 4))
    p = np.concatenate(Trigram(train, 3).probabilities(test))
    true = np.concatenate([CHAIN[t[:-1], t[1:]] for t in test])
    gap = float((np.log(true) - np.log(p)).mean())
    assert 0 < gap < 0.01
    assert float(-np.log(p).mean()) < math.log(3) - 0.2
