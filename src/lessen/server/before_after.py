"""Before (teacher) and after (final model) as the predecessors' /evaluate lists them: four blocks of lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lessen.report.matlab import BLOCKS, matlab_metrics
from lessen.report.rows import Report, Row

Blocks = dict[str, list[dict[str, Any]]]
NOT_MEASURED = "it was not measured"
LINES: Mapping[str, tuple[tuple[str, str], ...]] = {  # of a classifier: name and unit, in the predecessors' order
    "effectiveness": tuple((name, "percent") for name in ("Accuracy", "Precision", "Recall", "F1-Score")),
    "efficiency": (("Latency (ms)", "ms"), ("RAM Usage (MB)", "MB"), ("Model Size (MB)", "MB")),
    "compression": (
        ("Parameters Count", "count"), ("Layers Count", "count"), ("Compression Ratio", "ratio"),
        ("Accuracy Drop (%)", "points"), ("Size Reduction (%)", "percent"),
    ),
    "complexity": (("Time Complexity", "FLOP"), ("Space Complexity", "MB")),
}  # fmt: skip


def before_after(report: Report) -> Blocks:
    """Return the lines of a report: {metric, before, after, unit}, with the reason where a number is missing."""
    teacher, final = report.teacher, report.final
    if teacher is None or final is None:
        return nothing("nothing of this run has been measured yet")
    blocks = matlab_metrics(report)["matlab_data"]
    return {block: [_line(one, teacher, final) for one in blocks[block]] for block in BLOCKS}


def nothing(reason: str) -> Blocks:
    """Return every line without numbers."""
    return {
        block: [{"metric": name, "before": None, "after": None, "unit": unit, "reason": reason} for name, unit in lines]
        for block, lines in LINES.items()
    }


def _line(one: Mapping[str, Any], teacher: Row, final: Row) -> dict[str, Any]:
    line = {key: one[key] for key in ("metric", "before", "after", "unit")}
    missing = next((row for row, side in ((teacher, "before"), (final, "after")) if one[side] is None), None)
    if missing is not None:
        known = missing.metrics.get(str(one["key"]))
        line["reason"] = (known.reason if known else None) or NOT_MEASURED
    formulas = {key: one[key] for key in ("before_formula", "after_formula") if one.get(key)}
    return {**line, **formulas}
