"""One model against another on the same documents or pairs: differences of NLL and of BLEU, paired by document."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lessen.measure import stats, texts, tokens, versus
from lessen.measure.metric import Comparison, Metrics, derived, judged, measured, missing

if TYPE_CHECKING:
    from lessen.measure.sequences import Said

Names = tuple[str, str]


def compare_said(
    labels: NDArray[Any], reference: Said, candidate: Said, *, names: Names, bootstrap: int = 1000, seed: int = 42
) -> list[Comparison]:
    """Compare two models of sequences: what heads the report first, then the likelihood of the texts.

    Label words are compared as decisions, translations by BLEU; then, and for language models alone, the NLL: per
    token where both scored the same tokens, else in bits per byte, which different tokenizers share. A lower NLL is
    better. A verdict needs a paired bootstrap interval that leaves out zero.
    """
    out: list[Comparison] = []
    a, b = reference.decisions, candidate.decisions
    if a is not None and b is not None:
        if all(np.isfinite(x.logits).all() for x in (a, b)):
            out.append(versus.compare(labels, a, b, names=names, bootstrap=bootstrap, seed=seed))
    elif reference.overlap is not None and candidate.overlap is not None:
        out += compare_bleu(reference.overlap, candidate.overlap, names, bootstrap, seed)
    return out + compare_nll(reference.scored, candidate.scored, names, bootstrap, seed)


def compare_nll(
    reference: tokens.Scored, candidate: tokens.Scored, names: Names, bootstrap: int, seed: int
) -> list[Comparison]:
    """Return the paired test of the NLL; none where one is not finite, or of fewer than two documents."""
    there = (reference.tokens > 0) & (candidate.tokens > 0)
    if not (reference.finite and candidate.finite) or there.sum() < 2:
        return []
    same = bool(np.array_equal(reference.tokens, candidate.tokens))
    metric, column, scale = ("nll_per_token", 1, 1.0) if same else ("bits_per_byte", 2, 1 / math.log(2))
    both = np.concatenate([reference.columns[there], candidate.columns[there]], axis=1)
    sums = stats.resampled_sums(both, bootstrap, seed)
    change = scale * (sums[:, 4] / sums[:, 4 + column] - sums[:, 0] / sums[:, column])
    interval = stats.interval(change[1:])
    return [
        Comparison(
            reference=names[0],
            candidate=names[1],
            n=int(there.sum()),
            metric=metric,
            unit=tokens.UNITS[metric],
            change=float(change[0]),
            lower_is_better=True,
            ci95=interval,
            verdict=judged(interval, lower_is_better=True),
        )
    ]


def compare_bleu(
    reference: texts.Overlap, candidate: texts.Overlap, names: Names, bootstrap: int, seed: int
) -> list[Comparison]:
    """Return the paired test of BLEU, both generated for the same sources; empty below two of them."""
    n = len(reference)
    if n < 2 or n != len(candidate):
        return []
    width = reference.bleu.shape[1]
    sums = stats.resampled_sums(np.concatenate([reference.bleu, candidate.bleu], axis=1), bootstrap, seed)
    change = texts.corpus_bleu(sums[:, width:]) - texts.corpus_bleu(sums[:, :width])
    interval = stats.interval(change[1:])
    return [
        Comparison(
            reference=names[0],
            candidate=names[1],
            n=n,
            metric="bleu",
            unit="points",
            change=float(change[0]),
            ci95=interval,
            verdict=judged(interval),
        )
    ]


def against_teacher(
    labels: NDArray[Any], teacher: Said, student: Said, *, bootstrap: int = 1000, seed: int = 42
) -> Metrics:
    """Return changes against the teacher: decisions or BLEU where there are any, NLL and perplexity always."""
    out: Metrics = {}
    if teacher.decisions is not None and student.decisions is not None:
        out |= versus.against_teacher(labels, teacher.decisions, student.decisions, bootstrap=bootstrap, seed=seed)
    for found in compare_said(labels, teacher, student, names=("teacher", "student"), bootstrap=bootstrap, seed=seed):
        out[f"{found.metric}_change"] = measured(found.change, found.unit, n=found.n, ci95=found.ci95)
    out["perplexity_ratio"] = _perplexity_ratio(teacher.scored, student.scored)
    if teacher.overlap is not None and student.overlap is not None and student.decisions is None:
        before, after = (
            float(texts.corpus_bleu(o.bleu.sum(axis=0)[None])[0]) for o in (teacher.overlap, student.overlap)
        )
        out["retention"] = (
            derived(after / before, "ratio", "BLEU of the student / of the teacher", n=len(student.overlap))
            if before
            else missing("ratio", "the teacher's BLEU is 0")
        )
    return out


def _perplexity_ratio(teacher: tokens.Scored, student: tokens.Scored) -> Any:
    if not (teacher.finite and student.finite) or not teacher.tokens.any():
        return missing("ratio", "a negative log-likelihood is not finite")
    if not np.array_equal(teacher.tokens, student.tokens):
        return missing("ratio", "the tokenizers differ, and perplexity is per token: compare bits_per_byte")
    mean = (student.nll.sum() - teacher.nll.sum()) / teacher.tokens.sum()
    return derived(tokens.exp(float(mean)), "ratio", "perplexity of the student / of the teacher")
