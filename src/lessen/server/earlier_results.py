"""A finished run as the predecessors kept it: teacher's and student's metrics, what was gained, and a check of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lessen import report as reports
from lessen.report.headline import headline
from lessen.report.rows import Report, Row
from lessen.report.tables import compression
from lessen.server.predecessor_shapes import Check, CompressionResults, Effectiveness, ModelMetrics, Results

PLAIN: Mapping[str, str] = {
    "latency_ms": "latency_p50_ms", "num_params": "parameters", "nonzero_params": "nonzero_parameters",
    "sparsity": "sparsity", "layers": "layers", "flops": "flops",
}  # fmt: skip
MEGA: Mapping[str, str] = {"size_mb": "file_bytes", "ram_usage_mb": "peak_rss_bytes"}
SCORES: Mapping[str, str] = {"precision": "precision_macro", "recall": "recall_macro", "f1": "f1_macro"}
NOT_MEASURED = "it was not measured"
SAME = 1e-9


def results(report: Report, model_name: str, *, trained: bool) -> Results | None:
    """Return a run's numbers under the predecessors' names, None where nothing was measured."""
    teacher, final = report.teacher, report.final
    if teacher is None or final is None:
        return None
    name = headline(report).accuracy
    before, after = metrics(teacher, name), metrics(final, name)
    return Results(
        run_id=report.run_id,
        model_name=model_name,
        teacher_metrics=before,
        student_metrics=after,
        effectiveness_metrics=Effectiveness(
            accuracy=after.accuracy, precision=after.precision, recall=after.recall, f1=after.f1,
            agreement_with_teacher=final.value("agreement_with_teacher"),
        ),
        compression_results=CompressionResults(
            size_reduction_percent=_less(before.size_mb, after.size_mb),
            latency_improvement_percent=_less(before.latency_ms, after.latency_ms),
            params_reduction_percent=_less(before.num_params, after.num_params),
            accuracy_impact_points=_change(before.accuracy, after.accuracy, 100),
            sparsity_gained=_change(before.sparsity, after.sparsity, 1),
            compression_ratio=compression(report, final),
            detailed_metrics=reports.detailed_metrics(report),
        ),
        model_trained=trained,
    )  # fmt: skip


def metrics(row: Row, accuracy: str) -> ModelMetrics:
    """Return a model's numbers, with the reason beside each that is missing.

    Args:
        accuracy: the metric that this task calls accuracy.
    """
    names = {"accuracy": accuracy, **SCORES, **PLAIN, **MEGA}
    found = {key: row.value(name) for key, name in names.items()}
    values = {key: v / 1e6 if key in MEGA and v is not None else v for key, v in found.items()}
    reasons = {key: _reason(row, names[key]) for key, value in values.items() if value is None}
    return ModelMetrics(stage=row.stage, reasons=reasons, **values)


def checks(report: Report, predictions: Mapping[str, Any] | None) -> list[Check]:
    """Work out accuracy and macro-F1 of every stage again from the stored answers, and compare with the report.

    Nothing is compared where answers are texts, where several labels hold at once, or where not all were kept.
    """
    truth = (predictions or {}).get("truth")
    if not predictions or not isinstance(truth, list) or predictions.get("multi_label"):
        return []
    out: list[Check] = []
    for stage, answers in predictions["stages"].items():
        row, decided = report.row(stage), answers.get("labels")
        known = row.metrics.get("accuracy") if row else None
        if row is None or known is None or known.n != len(truth) or not isinstance(decided, list):
            continue
        pairs = list(zip(truth, decided, strict=True))
        again = {
            "accuracy": sum(t == d for t, d in pairs) / len(pairs),
            "f1_macro": _f1(pairs, len(predictions["labels"])),
        }
        for name, value in again.items():
            reported = row.value(name)
            if reported is not None:
                equal = abs(reported - value) <= SAME
                out.append(Check(stage=stage, metric=name, reported=reported, recomputed=value, equal=equal))
    return out


def _f1(pairs: list[tuple[int, int]], classes: int) -> float:
    """Return the mean over classes of 2 TP / (2 TP + FP + FN); a check of the report, which has its own."""
    scores = []
    for label in range(classes):
        hits = sum(t == d == label for t, d in pairs)
        named = sum((t == label) + (d == label) for t, d in pairs)
        scores.append(2 * hits / named if named else 0.0)
    return sum(scores) / classes


def _less(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else (before - after) / before * 100


def _change(before: float | None, after: float | None, times: float) -> float | None:
    return None if before is None or after is None else (after - before) * times


def _reason(row: Row, name: str) -> str:
    known = row.metrics.get(name)
    return (known.reason if known else None) or NOT_MEASURED
