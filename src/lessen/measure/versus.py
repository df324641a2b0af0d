"""One model against another on the same test samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lessen.measure import stats
from lessen.measure.metric import Comparison, Metric, Metrics, derived, judged, measured, missing
from lessen.measure.quality import Answers, chance

if TYPE_CHECKING:
    from lessen.measure.sequences import Said


def compare(
    labels: NDArray[Any],
    reference: Answers,
    candidate: Answers,
    *,
    names: tuple[str, str] = ("teacher", "student"),
    bootstrap: int = 1000,
    seed: int = 42,
) -> Comparison:
    """Compare two models' decisions, paired by sample.

    The verdict is "no detectable change" unless the paired bootstrap interval of the macro-F1 difference leaves out
    zero; the exact McNemar test of the error counts is stated beside it.
    """
    truth = labels.astype(np.int64)
    draws = stats.Resampler(truth, [reference.decided, candidate.decided], bootstrap, seed)
    scores = [
        draws.counts(i, stats.present(truth, a.decided)).f1().mean(axis=1) for i, a in enumerate((reference, candidate))
    ]
    change = scores[1] - scores[0]
    low, high = stats.interval(change[1:])
    right = [(_rows(a.decided) == _rows(truth)).all(axis=1) for a in (reference, candidate)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Comparison(
        reference=names[0],
        candidate=names[1],
        n=len(truth),
        agreement=float(draws.agreement(0, 1)[0]),
        change=float(change[0]),
        f1_macro_change=float(change[0]),
        ci95=(low, high),
        only_reference_right=only[0],
        only_candidate_right=only[1],
        mcnemar_p=stats.mcnemar(*only),
        verdict=judged((low, high)),
    )


def compare_pairs(
    labels: NDArray[Any],
    answers: Mapping[str, Answers | Said],
    pairs: Iterable[tuple[str, str]],
    *,
    bootstrap: int = 1000,
    seed: int = 42,
) -> list[Comparison]:
    """Compare (reference, candidate) pairs of stages; pairs with an unknown or unusable stage are left out.

    The first comparison of a pair is of the metric that heads the task's report.
    """
    out: list[Comparison] = []
    for pair in pairs:
        a, b = (answers.get(name) for name in pair)
        if a is None or b is None:
            continue
        if isinstance(a, Answers) or isinstance(b, Answers):
            if isinstance(a, Answers) and isinstance(b, Answers) and all(np.isfinite(x.logits).all() for x in (a, b)):
                out.append(compare(labels, a, b, names=pair, bootstrap=bootstrap, seed=seed))
            continue
        from lessen.measure.paired import compare_said

        out += compare_said(labels, a, b, names=pair, bootstrap=bootstrap, seed=seed)
    return out


def against_teacher(
    labels: NDArray[Any], teacher: Answers, student: Answers, *, bootstrap: int = 1000, seed: int = 42
) -> Metrics:
    """Return agreement, macro-F1 change, McNemar's p and retention (student / teacher macro-F1).

    Retention of a teacher that is at chance means nothing and is not available.
    """
    units = {"agreement_with_teacher": "share", "f1_macro_change": "share", "mcnemar_p": "share", "retention": "ratio"}
    if not all(np.isfinite(a.logits).all() for a in (teacher, student)):
        return {name: missing(unit, "some answers are not finite") for name, unit in units.items()}
    truth = labels.astype(np.int64)
    found = compare(truth, teacher, student, bootstrap=bootstrap, seed=seed)
    draws = stats.Resampler(truth, [teacher.decided, student.decided], bootstrap, seed)
    return {
        "agreement_with_teacher": measured(
            found.agreement, "share", n=found.n, ci95=stats.interval(draws.agreement(0, 1)[1:])
        ),
        "f1_macro_change": measured(found.change, "share", n=found.n, ci95=found.ci95),
        "mcnemar_p": measured(found.mcnemar_p, "share", n=sum(_differ(found))),
        "retention": _retention(truth, draws, teacher, student),
    }


def _retention(truth: NDArray[np.int64], draws: stats.Resampler, teacher: Answers, student: Answers) -> Metric:
    first = draws.counts(0, stats.present(truth, teacher.decided)).f1().mean(axis=1)
    second = draws.counts(1, stats.present(truth, student.decided)).f1().mean(axis=1)
    level = chance(truth)
    if stats.interval(first[1:])[0] <= level:
        return missing("ratio", f"the teacher is at chance (macro-F1 {first[0]:.3f}, chance {level:.3f})")
    return derived(float(second[0] / first[0]), "ratio", "macro-F1 of the student / of the teacher", n=len(truth))


def _differ(found: Comparison) -> tuple[int, int]:
    return found.only_reference_right or 0, found.only_candidate_right or 0


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, None] if values.ndim == 1 else values
