"""Several runs side by side."""

from __future__ import annotations

from typing import Any

from lessen.report.headline import headline
from lessen.report.rows import Report
from lessen.report.tables import compression

_METRICS = ("f1_macro", "accuracy", "parameters", "file_bytes", "latency_p50_ms", "throughput_per_s", "peak_rss_bytes")
COLUMNS = ("run_id", "pipeline", "complete", "final_stage", "teacher_f1_macro", *_METRICS, "smaller", "faster")


def compare(reports: list[Report]) -> dict[str, Any]:
    """Return the final models of several runs side by side.

    Latency is comparable only on the same device, processor and threads; quality only on the same test split: what
    differs from the first run is said in the remarks.

    Returns:
        columns: names; rows: one mapping a run; remarks: lines.
    """
    more = tuple(
        dict.fromkeys(headline(report).metric for report in reports if headline(report).metric not in _METRICS)
    )
    first, rest = COLUMNS[:4], COLUMNS[4:]
    return {
        "columns": [*first, *(f"teacher_{name}" for name in more), *more, *rest],
        "rows": [_entry(report, more) for report in reports],
        "remarks": [f"{r.run_id}: {text}" for r in reports[1:] for text in differences(r, reports[0])],
    }


def _entry(report: Report, more: tuple[str, ...]) -> dict[str, Any]:
    final, teacher = report.final, report.teacher
    return {
        "run_id": report.run_id,
        "pipeline": report.pipeline,
        "complete": report.complete,
        "final_stage": final.stage if final else None,
        **{f"teacher_{name}": teacher.value(name) if teacher else None for name in more},
        **{name: final.value(name) if final else None for name in more},
        "teacher_f1_macro": teacher.value("f1_macro") if teacher else None,
        **{name: final.value(name) if final else None for name in _METRICS},
        "smaller": compression(report, final) if final else None,
        "faster": final.value("speedup") if final else None,
    }


def differences(report: Report, other: Report) -> list[str]:
    """List what two runs differ in that makes their numbers incomparable; empty where nothing does."""
    out = []
    for key in ("cpu", "device", "threads"):
        ours, theirs = report.environment.get(key), other.environment.get(key)
        if ours != theirs:
            out.append(f"speed cannot be compared with {other.run_id}: {key} is {ours}, not {theirs}")
    if report.data.get("digest") != other.data.get("digest"):
        out.append(f"quality cannot be compared with {other.run_id}: another data set or split")
    return out
