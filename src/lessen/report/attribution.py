"""Who won the speed: the runtime, the smaller model, or the fewer bits."""

from __future__ import annotations

from lessen.report.rows import Report, Row, Step


def attribution(report: Report) -> list[Step]:
    """Return the steps eager fp32 -> same runtime fp32 -> compressed fp32 -> final, each over the one before.

    A step whose model was not exported or timed has no number, and the next is not compared across the hole.
    """
    teacher, final = report.teacher, report.final
    if teacher is None or final is None or final is teacher:
        return []
    base = final.runtime
    dense = _find(report, base, "teacher")
    last = next((r for r in reversed(report.main) if r.stage not in ("quantize", "teacher")), None)
    compressed = _find(report, base, last.stage) if last else dense
    wanted: list[tuple[str, Row | None, str]] = [("teacher, eager fp32", teacher, "")]
    if base != teacher.runtime:
        wanted.append((f"teacher, {base} fp32", dense, f"the teacher was not exported to {base}"))
    if last is not None:
        name = f"compressed ({last.stage}), {base} fp32"
        wanted.append((name, compressed, f"the compressed model was not exported to {base} in fp32"))
    if final.stage == "quantize":
        wanted.append((f"compressed, {base} {final.precision or 'quantized'}", final, ""))
    return _steps(wanted)


def _find(report: Report, runtime: str, stage: str) -> Row | None:
    for row in report.rows:
        if row.runtime == runtime and (
            row.stage == stage or (row.source == stage and row.role in ("reference", "export"))
        ):
            return row
    return None


def _steps(wanted: list[tuple[str, Row | None, str]]) -> list[Step]:
    out: list[Step] = []
    first: Row | None = None
    previous: Row | None = None
    device = wanted[0][1].device if wanted[0][1] else None
    for name, row, absent in wanted:
        time = row.value("latency_p50_ms") if row and row.device == device else None
        reason = absent
        if row is not None and time is None:
            found = row.metrics.get("latency_p50_ms")
            reason = (
                (found.reason if found and found.reason else "not measured")
                if row.device == device
                else (f"measured on {row.device}, not on {device}")
            )
        out.append(
            Step(
                name=name,
                stage=row.stage if row else None,
                latency_p50_ms=time,
                gain=_ratio(previous, row if time else None),
                total=_ratio(first, row if time else None),
                reason=None if time else reason or "not measured",
            )
        )
        previous = row if time else None
        first = first or previous
    return out


def _ratio(before: Row | None, after: Row | None) -> float | None:
    """Return how much faster `after` is: by the ratios taken within rounds where there are any, else by p50."""
    if before is None or after is None:
        return None
    theirs, ours = (r.value("speedup") for r in (before, after))
    if theirs and ours:
        return ours / theirs
    theirs, ours = (r.value("latency_p50_ms") for r in (before, after))
    return theirs / ours if theirs and ours else None
