"""A report in a dozen numbers: what lists of runs show without reading reports."""

from __future__ import annotations

from typing import Any

from lessen.report.headline import headline
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup


def summary_of(report: Report) -> dict[str, Any]:
    """Return what lists of runs show: the stages measured so far and the model that would ship now.

    Returns:
        complete; stages: names; final_stage; score_name, score_title, score_lower_is_better; score and teacher_score;
        score_change with its 95 % interval and verdict, where the paired test was made; smaller: teacher's bytes over
        its own, faster: teacher's p50 over its own (both above 1: better); parameters, nonzero_parameters, file_bytes,
        latency_p50_ms; seconds of the run; warnings: how many. What is not known is None.
    """
    head, final, teacher = headline(report), report.final, report.teacher
    tested = report.comparison("teacher", final.stage) if final else None
    return {
        "complete": report.complete,
        "stages": [row.stage for row in report.rows],
        "final_stage": final.stage if final else None,
        "score_name": head.metric,
        "score_title": head.title,
        "score_lower_is_better": head.lower_is_better,
        "score": _value(final, head.metric),
        "teacher_score": _value(teacher, head.metric),
        "score_change": tested.change if tested else None,
        "score_change_ci95": list(tested.ci95) if tested else None,
        "verdict": tested.verdict if tested else None,
        "smaller": compression(report, final) if final else None,
        "faster": speedup(report, final) if final else None,
        **{
            name: _value(final, name)
            for name in ("parameters", "nonzero_parameters", "file_bytes", "latency_p50_ms", "peak_rss_bytes")
        },
        "seconds": report.seconds,
        "warnings": len(report.warnings),
    }


def _value(row: Row | None, name: str) -> float | None:
    return row.value(name) if row else None
