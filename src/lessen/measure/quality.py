"""How well an artifact answers: scores of the model reopened from disk, on the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lessen.info import Floats, ModelInfo
from lessen.measure import stats
from lessen.measure.metric import Metric, Metrics, derived, measured, missing

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split

_SCORES = (
    "accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "precision_weighted",
    "recall_weighted", "f1_micro", "hamming_loss", "roc_auc", "expected_calibration_error",
)  # fmt: skip
CPU_ONLY = ("onnx",)  # runtimes without another device here
BINS = 15  # of the calibration error, equal width (Guo et al. 2017)


@dataclass(frozen=True)
class Answers:
    """What an artifact answered on the test split, in its order."""

    probabilities: Floats  # [n, labels]
    decided: NDArray[np.int64]  # [n], or 0/1 flags [n, labels]
    logits: Floats  # [n, outputs]
    facts: dict[str, Any] = field(default_factory=dict)  # confusion matrix and scores per class


def answer(artifact: Artifact, test: Split, device: str = "cpu") -> Answers:
    """Open the artifact from disk and answer the whole split."""
    from lessen.artifact import Classifier

    logits = Classifier(artifact, device_of(artifact, device)).logits(test.inputs)
    info = artifact.info
    probabilities = info.probabilities(logits)
    return Answers(probabilities, info.decide(probabilities), logits)


def device_of(artifact: Artifact, device: str) -> str:
    """Return the device an artifact answers on when `device` is asked for: cpu where its runtime has no other."""
    return "cpu" if artifact.manifest.runtime in CPU_ONLY else device


def quality(
    artifact: Artifact,
    test: Split,
    *,
    teacher: Answers | None = None,
    bootstrap: int = 1000,
    seed: int = 42,
    device: str = "cpu",
) -> tuple[Metrics, Answers]:
    """Score an artifact on the test split, with 95 % intervals, and against the teacher's answers.

    Args:
        teacher: the teacher's answers on the same split; none for the teacher itself.
        bootstrap: resamples behind each interval.
    """
    answers = answer(artifact, test, device)
    metrics = score(artifact.info, test.labels, answers, bootstrap=bootstrap, seed=seed)
    if teacher is not None:
        from lessen.measure.versus import against_teacher

        metrics |= against_teacher(test.labels, teacher, answers, bootstrap=bootstrap, seed=seed)
    else:
        metrics["agreement_with_teacher"] = missing("share", "this is the teacher")
    if np.isfinite(answers.logits).all():
        answers = replace(answers, facts=details(artifact.info, test.labels, answers))
    return metrics, answers


def score(info: ModelInfo, labels: NDArray[Any], answers: Answers, *, bootstrap: int = 1000, seed: int = 42) -> Metrics:
    """Score answers against labels.

    `accuracy` counts samples decided rightly as a whole (every label, where multi-label); macro scores average over
    the classes that occur or were decided; `roc_auc` is one class against the rest, macro-averaged; `nll` is in nats
    per sample (per label where multi-label), taken from the logits.

    Args:
        labels: label indices [n], or 0/1 flags [n, labels].
    """
    broken = int((~np.isfinite(answers.logits)).any(axis=1).sum())
    if broken or not len(labels):
        reason = f"{broken} of {len(labels)} answers are not finite" if len(labels) else "the test split is empty"
        return {name: missing("share", reason) for name in _SCORES} | {"nll": missing("nats", reason)}
    truth = labels.astype(np.int64)
    losses = nll(info, answers.logits, truth)
    return {
        **_decision_scores(truth, answers.decided, bootstrap, seed),
        "roc_auc": _roc_auc(info, truth, answers.probabilities),
        "expected_calibration_error": measured(calibration_error(answers.probabilities, truth), "share", n=len(truth)),
        "nll": measured(
            float(losses.mean()), "nats", n=len(truth), ci95=stats.mean_interval(losses, min(bootstrap, 1000), seed)
        ),
    }


def _decision_scores(truth: NDArray[np.int64], decided: NDArray[np.int64], bootstrap: int, seed: int) -> Metrics:
    from sklearn.metrics import accuracy_score, hamming_loss, precision_recall_fscore_support

    draws = stats.Resampler(truth, [decided], bootstrap, seed)
    classes = stats.present(truth, decided)
    counts = draws.counts(0, classes)
    resampled = {
        "f1_macro": counts.f1().mean(axis=1),
        "f1_weighted": counts.weighted(counts.f1()),
        "precision_macro": counts.precision().mean(axis=1),
        "recall_macro": counts.recall().mean(axis=1),
        "precision_weighted": counts.weighted(counts.precision()),
        "recall_weighted": counts.weighted(counts.recall()),
    }
    n = len(truth)
    out: Metrics = {
        "accuracy": measured(
            float(accuracy_score(truth, decided)), "share", n=n, ci95=stats.interval(draws.accuracy(0)[1:])
        ),
        "hamming_loss": measured(float(hamming_loss(truth, decided)), "share", n=n),
    }
    micro = precision_recall_fscore_support(truth, decided, labels=classes, average="micro", zero_division=0)
    out["f1_micro"] = measured(float(micro[2]), "share", n=n)
    for average in ("macro", "weighted"):
        p, r, f, _ = precision_recall_fscore_support(truth, decided, labels=classes, average=average, zero_division=0)
        for name, value in (("precision", p), ("recall", r), ("f1", f)):
            key = f"{name}_{average}"
            out[key] = measured(float(value), "share", n=n, ci95=stats.interval(resampled[key][1:]))
    return out


def chance(labels: NDArray[Any]) -> float:
    """Return the macro-F1 of answering without looking at the input: the better of majority and prior-wise guessing."""
    if labels.ndim == 2:
        share = labels.mean(axis=0)
        always = 2 * share / (1 + share)
        return float(np.maximum(always, share).mean())
    _, counts = np.unique(labels, return_counts=True)
    share = counts / counts.sum()
    majority = 2 * share.max() / (1 + share.max()) / len(share)
    return float(max(majority, 1 / len(share)))


def chance_metric(labels: NDArray[Any]) -> Metric:
    """Return the chance level as a metric of the test split."""
    return derived(chance(labels), "share", "label shares of the test split", n=len(labels))


def nll(info: ModelInfo, logits: Floats, truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the negative log-likelihood per sample, nats, shape [n]; from logits, so that it stays finite."""
    z = np.asarray(logits, dtype=np.float64)
    if info.multi_label:
        return np.asarray((np.logaddexp(0, z) - truth * z).mean(axis=1))
    if info.one_logit:
        return np.asarray(np.logaddexp(0, z[:, 0]) - truth * z[:, 0])
    top = z.max(axis=1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
    return np.asarray(log_sum - z[np.arange(len(z)), truth])


def calibration_error(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Return the expected calibration error: sum over bins of (share of samples) |accuracy - confidence|.

    The confidence is the largest probability (each label's own, where multi-label); 15 bins of equal width.
    """
    counts, sure, right = _binned(probabilities, truth)
    return float(np.abs(right - sure).sum() / counts.sum())


def reliability(probabilities: Floats, truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return how often each confidence was right, in the bins of the calibration error; one right label a sample.

    Returns:
        {"bins": [{"low", "high": confidences of the bin, "n": samples, "confidence", "accuracy": means, or null}]}.
    """
    counts, sure, right = _binned(probabilities, truth)
    bins = []
    for k, n in enumerate(counts.astype(int)):
        means = {"confidence": float(sure[k] / n) if n else None, "accuracy": float(right[k] / n) if n else None}
        bins.append({"low": k / BINS, "high": (k + 1) / BINS, "n": int(n), **means})
    return {"bins": bins}


def _binned(probabilities: Floats, truth: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return how many decisions each bin of confidence holds, and the sums of confidence and of right ones there."""
    p = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim == 2:
        sure, right = p.ravel(), truth.ravel().astype(np.float64)
    else:
        sure, right = p.max(axis=1), (p.argmax(axis=1) == truth).astype(np.float64)
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    weights = (np.ones(len(sure)), sure, right)
    return tuple(np.bincount(bins, one, BINS).astype(np.float64) for one in weights)


def _roc_auc(info: ModelInfo, truth: NDArray[np.int64], probabilities: Floats) -> Metric:
    flags = _one_hot(truth, len(info.labels))
    columns = [1] if len(info.labels) == 2 and not info.multi_label else range(len(info.labels))
    areas = {info.labels[k]: _area(flags[:, k], probabilities[:, k]) for k in columns}
    one_sided = [name for name, area in areas.items() if area is None]
    if one_sided:
        return missing("share", f"the test split has only one side of {', '.join(one_sided)}")
    return measured(math.fsum(a for a in areas.values() if a is not None) / len(areas), "share", n=len(truth))


def details(info: ModelInfo, labels: NDArray[Any], answers: Answers) -> dict[str, Any]:
    """Return the confusion matrix (rows: label, columns: decision), class scores and the reliability.

    Where multi-label: a matrix of 2 x 2 a label, and no reliability.
    """
    from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

    truth, classes = labels.astype(np.int64), list(range(len(info.labels)))
    matrix = (
        multilabel_confusion_matrix(truth, answers.decided)
        if info.multi_label
        else confusion_matrix(truth, answers.decided, labels=classes)
    )
    return {
        "labels": list(info.labels),
        "confusion": matrix.tolist(),
        "per_class": per_class(info, labels, answers),
        **({} if info.multi_label else {"reliability": reliability(answers.probabilities, truth)}),
    }


def per_class(info: ModelInfo, labels: NDArray[Any], answers: Answers) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of each class, in the order of the labels."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels.astype(np.int64), answers.decided, labels=list(range(len(info.labels))), zero_division=0
    )
    truth, guess = (_one_hot(v, len(info.labels)) for v in (labels, answers.decided))
    areas = [_area(truth[:, k], answers.probabilities[:, k]) for k in range(len(info.labels))]
    right = (truth == guess).mean(axis=0)
    return [
        {"label": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(s),
         "accuracy": float(a), "roc_auc": area}
        for name, p, r, f, s, a, area in zip(info.labels, *columns, right, areas, strict=True)
    ]  # fmt: skip


def _one_hot(values: NDArray[Any], classes: int) -> NDArray[np.int64]:
    whole = values.astype(np.int64)
    return whole if whole.ndim == 2 else (whole[:, None] == np.arange(classes)).astype(np.int64)


def _area(flags: NDArray[np.int64], scores: Floats) -> float | None:
    """Return the ROC-AUC of one class against the rest; None where only one side occurs."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(flags, scores)) if 0 < flags.sum() < len(flags) else None
