"""Before and after in the predecessor's `detailed_metrics` layout, numbers where it had text; null where not known."""

from __future__ import annotations

from typing import Any

from lessen.report.headline import headline
from lessen.report.rows import Report, Row
from lessen.report.tables import compression


def detailed_metrics(report: Report) -> dict[str, Any]:
    """Return effectiveness, efficiency, compression and complexity of teacher (before) and final model (after).

    Percentages are relative to the teacher, but `accuracy_drop_percent` is in percentage points; negative ones say
    that the value went the other way. Complexity is in FLOPs and bytes of weights, with the formula beside it.
    """
    teacher, final, head = report.teacher, report.final, headline(report)
    if teacher is None or final is None:
        return {}
    return {
        "effectiveness": {key: _pair(teacher, final, name, "drop_percent") for key, name in head.scores.items()},
        "efficiency": {
            "latency_ms": _pair(teacher, final, "latency_p50_ms", "improvement_percent"),
            "ram_usage_mb": _pair(teacher, final, "peak_rss_bytes", "reduction_percent", 1e6),
            "model_size_mb": _pair(teacher, final, "file_bytes", "reduction_percent", 1e6),
        },
        "compression": {
            "parameters_count": _pair(teacher, final, "parameters", "reduction_percent"),
            "layers_count": _pair(teacher, final, "layers", "reduction_percent"),
            "compression_ratio": _told(
                compression(report, final), "bytes of the teacher's files / of the final model's"
            ),
            "accuracy_drop_percent": _told(
                _drop(teacher, final, head.accuracy), "accuracy of teacher minus final model, in points"
            ),
            "size_reduction_percent": _told(
                _pair(teacher, final, "file_bytes", "change")["change"], "bytes of the files saved, of the teacher's"
            ),
        },
        "complexity": {
            "time_complexity": _formula(teacher, final, "flops", "time_complexity"),
            "space_complexity": _formula(teacher, final, "file_bytes", "space_complexity"),
        },
    }


def _pair(before: Row, after: Row, name: str, change: str, unit: float = 1) -> dict[str, float | None]:
    a, b = before.value(name), after.value(name)
    known = a is not None and b is not None and a != 0
    return {
        "before": None if a is None else a / unit,
        "after": None if b is None else b / unit,
        change: (a - b) / a * 100 if known and a is not None and b is not None else None,
    }


def _drop(before: Row, after: Row, name: str) -> float | None:
    a, b = before.value(name), after.value(name)
    return (a - b) * 100 if a is not None and b is not None else None


def _told(value: float | None, explanation: str) -> dict[str, Any]:
    return {"value": value, "explanation": explanation}


def _formula(before: Row, after: Row, name: str, fact: str) -> dict[str, Any]:
    pair = _pair(before, after, name, "improvement")
    return {**pair, "before_formula": before.facts.get(fact), "after_formula": after.facts.get(fact)}
