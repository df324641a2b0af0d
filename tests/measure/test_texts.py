"""Scores of generated texts against sacrebleu and rouge-score themselves."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from lessen.measure import texts
from lessen.measure.paired import compare_bleu

REFERENCES = [
    "the cat sat on the mat .", "a dog, old and grey, slept by the fire", "it rains in the north today",
    "nobody knew where the road would lead them", "she said: come in!", "one two three four five six",
    "the red house stands at the end of the street", "we shall see", "bread and butter and jam", "so it goes on",
]  # fmt: skip
HYPOTHESES = [
    "the cat sat on a mat .", "the dog, old and grey, sleeps by a fire", "it rains in the north",
    "nobody knew where the road led", "she said: come inside!", "one two three four five six",
    "a red house is at the end of this street", "we will see", "bread with butter and jam", "",
]  # fmt: skip


def test_bleu_and_chrf_are_sacrebleus_own() -> None:
    found = texts.metrics(texts.overlap(HYPOTHESES, REFERENCES), bootstrap=200, seed=0)
    assert found["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert found["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert 20 < (found["bleu"].value or 0) < 80
    for name in ("bleu", "chrf", "rouge_l", "exact_match"):
        low, high = found[name].ci95 or (0, 0)
        assert low < (found[name].value or 0) < high
    assert found["exact_match"].value == 0.1


def test_a_resample_of_sums_is_the_score_of_the_resampled_sentences() -> None:
    found = texts.overlap(HYPOTHESES, REFERENCES)
    rows = np.asarray([0, 0, 3, 5, 8])
    said, meant = ([side[i] for i in rows] for side in (HYPOTHESES, REFERENCES))
    assert texts.corpus_bleu(found.bleu[rows].sum(axis=0)[None])[0] == pytest.approx(
        sacrebleu.corpus_bleu(said, [meant]).score
    )
    assert texts.corpus_chrf(found.chrf[rows].sum(axis=0)[None])[0] == pytest.approx(
        sacrebleu.corpus_chrf(said, [meant]).score
    )


def test_rouge_is_rouge_scores_own_and_knows_other_scripts() -> None:
    scorer = RougeScorer(["rougeL"])
    own = [scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(HYPOTHESES, REFERENCES, strict=True)]
    assert texts.overlap(HYPOTHESES, REFERENCES).rouge_l == pytest.approx(own)
    assert texts.overlap(["вот дом"], ["вот мой дом"]).rouge_l == pytest.approx([0.8])


def test_the_signature_says_how_words_were_split() -> None:
    assert "tok:13a" in texts.signatures("de")["bleu"]
    assert "tok:zh" in texts.signatures("zh")["bleu"]
    assert "nrefs:1" in texts.signatures()["bleu"]
    assert "nc:6" in texts.signatures()["chrf"]


def test_a_paired_test_of_bleu_sees_a_better_model() -> None:
    good, bad = (texts.overlap(side * 4, REFERENCES * 4) for side in (REFERENCES, HYPOTHESES))
    (found,) = compare_bleu(good, bad, ("teacher", "student"), 200, 0)
    assert found.verdict == "worse"
    assert found.change == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES * 4, [REFERENCES * 4]).score - 100)
    assert found.ci95[0] < found.change < found.ci95[1] < 0
    assert compare_bleu(bad, good, ("a", "b"), 200, 0)[0].verdict == "better"
    assert compare_bleu(bad, bad, ("a", "b"), 200, 0)[0].verdict == "no detectable change"
