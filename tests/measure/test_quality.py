from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from lessen.info import ModelInfo
from lessen.measure.quality import Answers, calibration_error, chance, details, nll, quality, score
from lessen.measure.versus import against_teacher, compare, compare_pairs


def info(labels: int = 3, **more: object) -> ModelInfo:
    names = tuple(f"k{i}" for i in range(labels))
    return ModelInfo.model_validate(
        {"family": "f", "task": "text-classification", "source": "s", "labels": names, **more}
    )


def answers(of: ModelInfo, logits: np.ndarray) -> Answers:
    p = of.probabilities(logits.astype(np.float32))
    return Answers(p, of.decide(p), logits.astype(np.float32))


def noisy(truth: np.ndarray, share_right: float, seed: int, classes: int = 3) -> Answers:
    rng = np.random.default_rng(seed)
    guess = np.where(
        rng.random(len(truth)) < share_right, truth, (truth + rng.integers(1, classes, len(truth))) % classes
    )
    return answers(info(classes), 4 * np.eye(classes)[guess])


def test_a_model_is_scored_from_its_folder_on_disk(
    tmp_path: Path, make_artifact: Callable, make_texts: Callable
) -> None:
    artifact, test = make_artifact(tmp_path / "a"), make_texts()
    metrics, given = quality(artifact, test, bootstrap=100)
    assert metrics["accuracy"].value == 1.0
    assert metrics["agreement_with_teacher"].value is None
    assert given.facts["confusion"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]
    swapped = make_artifact(tmp_path / "b", votes=(1, 0, 2))
    metrics, _ = quality(swapped, test, teacher=given, bootstrap=100)
    assert metrics["accuracy"].value == pytest.approx(1 / 3)
    assert metrics["agreement_with_teacher"].value == pytest.approx(1 / 3)
    assert metrics["retention"].value == pytest.approx(1 / 3)


def test_labels_never_depend_on_predictions(tmp_path: Path, make_artifact: Callable, make_texts: Callable) -> None:
    test = make_texts()
    wrong = type(test)(test.inputs, (test.labels + 1) % 3)
    metrics, _ = quality(make_artifact(tmp_path / "a"), wrong, bootstrap=20)
    assert metrics["accuracy"].value == 0.0
    assert metrics["f1_macro"].value == 0.0


def test_scores_carry_their_count_and_interval() -> None:
    truth = np.arange(300) % 3
    found = score(info(), truth, noisy(truth, 0.8, 0), bootstrap=300)
    f1 = found["f1_macro"]
    assert f1.n == 300
    assert f1.ci95 is not None
    assert f1.ci95[0] < (f1.value or 0) < f1.ci95[1]
    assert 0.04 < f1.ci95[1] - f1.ci95[0] < 0.16


def test_one_answer_that_is_not_finite_leaves_no_score() -> None:
    logits = np.zeros((10, 3))
    logits[3, 1] = np.nan
    p = np.full((10, 3), 1 / 3, dtype=np.float32)
    found = score(info(), np.arange(10) % 3, Answers(p, p.argmax(1), logits.astype(np.float32)), bootstrap=10)
    assert all(m.value is None and "1 of 10 answers" in (m.reason or "") for m in found.values())


def test_nll_equals_scikit_learn_and_stays_finite_for_a_sure_wrong_answer() -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert nll(info(), logits.astype(np.float32), truth).mean() == pytest.approx(log_loss(truth, p), rel=1e-5)
    sure = np.array([[2000.0, 0.0, 0.0]], dtype=np.float32)
    assert nll(info(), sure, np.array([1]))[0] == pytest.approx(2000.0)


@pytest.mark.parametrize("truth", [0, 1])
def test_nll_of_a_single_logit_equals_that_of_two(truth: int) -> None:
    one = nll(info(2, output="sigmoid"), np.array([[0.7]], dtype=np.float32), np.array([truth]))
    two = nll(info(2), np.array([[0.0, 0.7]], dtype=np.float32), np.array([truth]))
    assert one == pytest.approx(two)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, dtype=np.float32)
    truth = np.array([0] * 6 + [1] * 4 + [0] * 9 + [1])  # too sure by 0.3, too unsure by 0.3: they do not cancel
    assert calibration_error(p, truth) == pytest.approx(0.3, abs=1e-6)


def test_reliability_has_the_bins_of_the_calibration_error() -> None:
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, dtype=np.float32)
    truth = np.array([0] * 6 + [1] * 4 + [0] * 9 + [1])
    answers = Answers(p, p.argmax(axis=1), np.log(p))
    bins = details(info(2), truth, answers)["reliability"]["bins"]
    assert len(bins) == 15
    assert [(b["low"], b["high"]) for b in bins] == [(k / 15, (k + 1) / 15) for k in range(15)]
    full = [b for b in bins if b["n"]]
    assert [(b["n"], round(b["confidence"], 6), b["accuracy"]) for b in full] == [(10, 0.6, 0.9), (10, 0.9, 0.6)]
    assert all(b["low"] <= b["confidence"] < b["high"] for b in full)
    assert all(b["confidence"] is b["accuracy"] is None for b in bins if not b["n"])
    gap = sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in full) / len(truth)
    assert gap == pytest.approx(calibration_error(p, truth))


def test_several_right_labels_have_no_reliability() -> None:
    flags = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    answers = Answers(flags.astype(np.float32), flags, flags.astype(np.float32))
    assert "reliability" not in details(info(2, output="sigmoid", multi_label=True), flags, answers)


def test_multi_label_scores_every_label_and_the_whole_row() -> None:
    of = info(2, output="sigmoid", multi_label=True)
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.float32)
    logits = np.where(truth == 1, 3.0, -3.0)
    logits[0, 1] = 3.0  # one label of eight wrong
    found = score(of, truth, answers(of, logits), bootstrap=20)
    assert found["accuracy"].value == 0.75
    assert found["hamming_loss"].value == 0.125
    assert found["f1_macro"].value == pytest.approx(
        f1_score(truth, of.decide(of.probabilities(logits)), average="macro")
    )


def test_roc_auc_is_missing_where_a_class_does_not_occur() -> None:
    truth = np.zeros(20, dtype=np.int64)
    found = score(info(2), truth, answers(info(2), np.tile([[1.0, 0.0]], (20, 1))), bootstrap=5)
    assert found["roc_auc"].value is None
    assert "only one side" in (found["roc_auc"].reason or "")


def test_a_difference_within_noise_is_no_detectable_change() -> None:
    truth = np.arange(600) % 3
    teacher = noisy(truth, 0.85, 1)
    same = compare(truth, teacher, noisy(truth, 0.85, 2), bootstrap=400)
    assert same.verdict == "no detectable change"
    assert same.ci95[0] < 0 < same.ci95[1]
    worse = compare(truth, teacher, noisy(truth, 0.7, 3), bootstrap=400)
    assert worse.verdict == "worse"
    assert worse.mcnemar_p < 0.001
    assert compare(truth, noisy(truth, 0.7, 3), teacher, bootstrap=400).verdict == "better"


def test_retention_of_a_teacher_at_chance_is_undefined() -> None:
    truth = np.arange(300) % 3
    found = against_teacher(truth, noisy(truth, 1 / 3, 5), noisy(truth, 0.5, 6), bootstrap=200)
    assert found["retention"].value is None
    assert "at chance" in (found["retention"].reason or "")


def test_pairs_with_a_stage_that_was_not_answered_are_left_out() -> None:
    truth = np.arange(60) % 3
    given = {"teacher": noisy(truth, 0.9, 1), "distill": noisy(truth, 0.9, 2)}
    found = compare_pairs(truth, given, [("teacher", "distill"), ("teacher", "prune")], bootstrap=20)
    assert [(c.reference, c.candidate) for c in found] == [("teacher", "distill")]


def test_chance_is_the_better_of_majority_and_guessing() -> None:
    assert chance(np.array([0, 1])) == 0.5
    assert chance(np.array([0] * 99 + [1])) == pytest.approx(0.5)
    assert chance(np.array([[1, 0], [1, 1]])) == pytest.approx((1 + 2 / 3) / 2)
