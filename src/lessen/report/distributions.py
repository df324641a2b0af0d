"""The pictures of what lies behind a mean: how long each call took, and how sure a right answer was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lessen.report.numbers import significant, tick
from lessen.report.rows import Report, Row
from lessen.report.svg import Canvas, Figure, Scale, axes, text_width

LINES = ("c3", "c2", "c4", "c1")  # of the stages in order
SHOWN = {0: "fastest", 10: "10 %", 50: "50 %", 90: "90 %", 95: "95 %", 100: "slowest"}


def cumulative(report: Report) -> Figure | None:
    """Draw the share of calls at batch 1 that were answered within a time, of what is on the way to what ships."""
    rows = [r for r in _shipped(report) if _quantiles(r)]
    if not rows:
        return None
    every = [ms for r in rows for ms in _quantiles(r) if ms > 0]
    canvas = Canvas(560, 300, "Latency, cumulative")
    x = Scale(min(every) / 1.1, max(every) * 1.1, 62, 544, log=True)
    y = Scale(0, 1, 246, 30)
    axes(canvas, x, y, lambda v: tick(v, "ms"), lambda v: f"{v:.0%}")
    canvas.text(303, 290, "one call at batch 1, logarithmic", "axis", anchor="middle")
    canvas.text(14, 138, "share of calls within", "axis", anchor="middle", turn=-90)
    colours = _legend(canvas, rows)
    for row, css in zip(rows, colours, strict=True):
        found = _quantiles(row)
        step = 1 / (len(found) - 1)
        canvas.path([(x(max(ms, x.low)), y(k * step)) for k, ms in enumerate(found)], f"curve {css}")
        middle = len(found) // 2
        canvas.circle(
            x(max(found[middle], x.low)),
            y(0.5),
            3,
            f"dot {css}",
            tip=f"{row.stage}: half within {found[middle]:.4g} ms",
        )
    what = "A call is a whole answer. " if rows[0].value("answer_tokens") else ""
    note = f"{what}Further left is faster; a line that leans has calls of very different length. Dots: medians."
    return Figure("Latency, cumulative", note, canvas.markup(), _times(rows))


def _shipped(report: Report) -> list[Row]:
    final = report.final
    return [*report.main, *([final] if final is not None and final.role != "main" else [])]


def _quantiles(row: Row) -> list[float]:
    found = ((row.facts.get("latency") or {}).get("1") or {}).get("quantiles_ms") or []
    return [float(ms) for ms in found]


def _times(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["ms a call", "calls", *SHOWN.values()]]
    for row in rows:
        found = _quantiles(row)
        times = [significant(found[share * (len(found) - 1) // 100]) for share in SHOWN]
        lines.append([row.stage, str(row.facts["latency"]["1"]["n"]), *times])
    return lines


def reliability(report: Report) -> Figure | None:
    """Draw how often answers of a confidence were right, of the teacher and of what ships."""
    final = report.final
    rows = [r for r in (report.teacher, final) if r is not None and _bins(r)]
    rows = rows[:1] if len(rows) > 1 and rows[0] is rows[1] else rows
    if not rows:
        return None
    canvas = Canvas(560, 320, "Reliability: how often a confidence was right")
    x, y = Scale(0, 1, 62, 544), Scale(0, 1, 266, 30)
    axes(canvas, x, y, lambda v: f"{v:.1f}", lambda v: f"{v:.0%}")
    canvas.text(303, 310, "confidence: the largest probability", "axis", anchor="middle")
    canvas.text(14, 148, "answers that were right", "axis", anchor="middle", turn=-90)
    canvas.line(x(0), y(0), x(1), y(1), "mark")
    for row, css in zip(rows, _legend(canvas, rows), strict=True):
        filled = [b for b in _bins(row) if b["n"]]
        canvas.path([(x(b["confidence"]), y(b["accuracy"])) for b in filled], f"curve {css}")
        largest = max(b["n"] for b in filled)
        for b in filled:
            tip = (
                f"{row.stage}, {_span(b)}: {b['accuracy']:.1%} of {b['n']} right, mean confidence {b['confidence']:.3f}"
            )
            radius = 2 + 4 * (b["n"] / largest) ** 0.5
            canvas.circle(x(b["confidence"]), y(b["accuracy"]), radius, f"dot {css}", tip=tip)
    note = "Test samples in bins of confidence; larger dots hold more. Below the dashed line a model is too sure."
    return Figure("Reliability", note, canvas.markup(), _shares(rows))


def _bins(row: Row) -> list[dict[str, Any]]:
    found = (row.facts.get("reliability") or {}).get("bins") or []
    return found if any(b["n"] for b in found) else []


def _span(part: dict[str, Any]) -> str:
    return f"{part['low']:.2f}–{part['high']:.2f}"


def _shares(rows: Sequence[Row]) -> list[list[str]]:
    heads = [f"{r.stage}: {what}" for r in rows for what in ("samples", "confidence", "right")]
    lines = [["confidence", *heads]]
    for bins in zip(*(_bins(r) for r in rows), strict=True):
        if any(b["n"] for b in bins):
            cells = [c for b in bins for c in (str(b["n"]), _share(b["confidence"]), _share(b["accuracy"]))]
            lines.append([_span(bins[0]), *cells])
    return lines


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _legend(canvas: Canvas, rows: Sequence[Row]) -> list[str]:
    """Name the lines along the top; return their colours: the last one, what ships, has the pipeline's."""
    colours = [LINES[k % len(LINES)] for k in range(len(rows) - 1)] + [LINES[-1]]
    at = 66.0
    for row, css in zip(rows, colours, strict=True):
        canvas.line(at, 14, at + 20, 14, f"curve {css}")
        canvas.text(at + 26, 18, row.stage, "label")
        at += 46 + text_width(row.stage)
    return colours
