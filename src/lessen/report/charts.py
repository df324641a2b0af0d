"""The pictures of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lessen.info import generates
from lessen.measure.metric import Metric
from lessen.report.distributions import cumulative, reliability
from lessen.report.headline import LANGUAGE, headline
from lessen.report.numbers import number, show, significant, tick
from lessen.report.rows import Report, Row
from lessen.report.svg import Canvas, Figure, Scale, axes, place_labels, text_width

COLOURS = {"main": "c1", "control": "c4", "reference": "c3", "export": "c2"}
CLASSES_SHOWN = 12


def figures(report: Report) -> list[Figure]:
    """Return every picture that the report has numbers for."""
    made = [
        tradeoff(report, "file_bytes", "Quality against size", "bytes of the files needed to run, logarithmic"),
        tradeoff(report, "latency_p50_ms", "Quality against latency", "median ms of one answer (batch 1), logarithmic"),
        perplexities(report),
        waterfall(report),
        latencies(report),
        cumulative(report),
        attribution(report),
        *[curves(row, "token" if generates(report.task) else "sample") for row in report.rows if row.fits],
        widths(report),
        zeros(report),
        reliability(report),
        *[confusion(row) for row in (report.teacher, report.final) if row is not None],
    ]
    unique: dict[str, Figure] = {f.title: f for f in made if f is not None}
    return list(unique.values())


def tradeoff(report: Report, metric: str, title: str, axis: str) -> Figure | None:
    """Draw the task's headline with its 95 % interval over a cost; every row is a dot."""
    head = headline(report)
    rows = [r for r in report.rows if r.value(metric) and r.value(head.metric) is not None]
    if metric == "file_bytes":  # an uncompressed export lies where its source lies
        rows = [r for r in rows if r.role in ("main", "control") or r is report.final]
    if len(rows) < 2:
        return None
    canvas = Canvas(560, 360, f"{title}: one dot a stage")
    costs = [r.value(metric) or 1.0 for r in rows]
    spans = [r.metrics[head.metric].ci95 or (r.value(head.metric), r.value(head.metric)) for r in rows]
    low, high = min(float(s[0] or 0) for s in spans), max(float(s[1] or 0) for s in spans)
    shares = rows[0].metrics[head.metric].unit == "share"
    pad = max((high - low) * 0.15, 0.005 if shares else 0.005 * high)
    x = Scale(min(costs) / 1.9, max(costs) * 1.9, 62, 544, log=True)
    y = Scale(max(0, low - pad), min(1, high + pad) if shares else high + pad, 306, 16)
    unit = rows[0].metrics[metric].unit
    axes(canvas, x, y, lambda v: tick(v, unit), _quality_tick(high - low, shares))
    canvas.text(303, 350, axis, "axis", anchor="middle")
    canvas.text(14, 161, f"{head.title} on the test split", "axis", anchor="middle", turn=-90)
    spots = [(x(c), y(r.value(head.metric) or 0)) for c, r in zip(costs, rows, strict=True)]
    path = [s for s, r in zip(spots, rows, strict=True) if r.role == "main"]
    canvas.path(path, "trail")
    for (px, py), row, span in zip(spots, rows, spans, strict=True):
        canvas.line(px, y(float(span[0] or 0)), px, y(float(span[1] or 0)), "whisker")
        tip = f"{row.stage}: {head.title} {show(row.metrics[head.metric], interval=True)}, {show(row.metrics[metric])}"
        canvas.circle(px, py, 6, f"dot {COLOURS[row.role]}", tip=tip)
    names = [r.stage for r in rows]
    for (lx, ly, anchor), name in zip(place_labels(spots, names, (66, 14, 552, 304), 11.5), names, strict=True):
        canvas.text(lx, ly, name, "label halo", anchor=anchor)
    corner = "Lower" if head.lower_is_better else "Upper"
    return Figure(title, f"{corner} left is better. Bars are bootstrap 95 % intervals.", canvas.markup())


def _quality_tick(span: float, shares: bool) -> Callable[[float], str]:
    if shares:
        return lambda v: f"{v:.2f}" if span > 0.05 else f"{v:.3f}"
    return lambda v: f"{v:,.0f}" if span > 5 else f"{v:.1f}" if span > 0.5 else f"{v:.2f}"


def perplexities(report: Report) -> Figure | None:
    """Draw the perplexity of each row with its 95 % interval, the simple model's first; lower is better."""
    head = headline(report)
    rows = [r for r in ([report.baseline] if report.baseline else []) + report.rows if r.value("perplexity")]
    if head is not LANGUAGE or len(rows) < 2:
        return None
    bars = [
        (r.stage, f"{r.runtime} {r.precision or ''}", r.value("perplexity") or 0.0,
         _spanning(r.metrics["perplexity"]), "c3" if r is report.baseline else COLOURS[r.role], "")
        for r in rows
    ]  # fmt: skip
    note = "exp of the mean NLL a token, on the test split; lower is better. The tick is the 95 % interval."
    return _bars("Perplexity, stage by stage", note, bars, unit="perplexity")


def _spanning(metric: Metric) -> Metric:
    """Return a metric whose interval is drawn as a spread is."""
    return metric.model_copy(update={"spread": metric.ci95})


def waterfall(report: Report) -> Figure | None:
    """Draw the bytes of the files from stage to stage: what each took away, or added."""
    rows = [r for r in report.main if r.value("file_bytes")]
    if len(rows) < 2:
        return None
    sizes = [r.value("file_bytes") or 0.0 for r in rows]
    canvas = Canvas(560, 46 + 44 * len(rows), "File size from stage to stage")
    x = Scale(0, max(sizes) * 1.3, 96, 540)
    before = 0.0
    for i, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        top = 14 + 44 * i
        canvas.text(88, top + 18, row.stage, "label", anchor="end")
        left, right = (0.0, size) if i == 0 else (min(before, size), max(before, size))
        if i:
            canvas.line(x(before), top - 18, x(before), top + 27, "whisker")
            canvas.rect(
                x(0), top, x(size) - x(0), 27, "bar c1", opacity=0.9, tip=f"{row.stage}: {number(size, 'bytes')}"
            )
        css = "bar c1" if i == 0 else "bar gone" if size <= before else "bar worse"
        canvas.rect(x(left), top, x(right) - x(left), 27, css, tip=f"{row.stage}: {number(size, 'bytes')}")
        change = "" if i == 0 else f"  {(size / before - 1) * 100:+.0f} %".replace("-", "−")
        canvas.text(x(right) + 7, top + 18, f"{number(size, 'bytes')}{change}", "label")
        before = size
    _bottom_axis(canvas, x, 14 + 44 * len(rows), lambda v: tick(v, "bytes"))
    note = "Solid: bytes left after the stage. Pale: bytes it took away (red: added)."
    return Figure("Size, stage by stage", note, canvas.markup())


def latencies(report: Report) -> Figure | None:
    """Draw the median latency of each row at batch 1 with its spread over rounds."""
    rows = [r for r in report.rows if r.value("latency_p50_ms")]
    if len(rows) < 2:
        return None
    values = [r.value("latency_p50_ms") or 0.0 for r in rows]
    return _bars(
        "Latency, row by row",
        f"Median of one answer{_answer(rows[0])} at batch 1 on {rows[0].device}; the tick spans 10–90 % of rounds.",
        [(f"{r.stage}", f"{r.runtime} {r.precision or ''}", v, r.metrics["latency_p50_ms"], COLOURS[r.role], "")
         for r, v in zip(rows, values, strict=True)],
    )  # fmt: skip


def _answer(row: Row) -> str:
    tokens = row.value("answer_tokens")
    return f" of {tokens:.0f} tokens" if tokens else ""


def attribution(report: Report) -> Figure | None:
    """Draw the steps from the eager teacher to what ships, each with its gain over the one before."""
    steps = [s for s in report.attribution if s.latency_p50_ms]
    if len(steps) < 2:
        return None
    bars = []
    for i, step in enumerate(steps):
        gain = f"  ({significant(step.gain)}×)" if step.gain and i else ""
        metric = Metric(value=step.latency_p50_ms, unit="ms", kind="derived", reason="row of the stage")
        bars.append((step.name, "", step.latency_p50_ms or 0.0, metric, "c1" if i == len(steps) - 1 else "c3", gain))
    note = "In brackets: gain over the step before. The runtime's own gain is no compression."
    return _bars("Where the speed comes from", note, bars, left=208)


def _bars(
    title: str,
    note: str,
    bars: Sequence[tuple[str, str, float, Metric, str, str]],
    left: float = 148,
    unit: str = "ms",
) -> Figure:
    canvas = Canvas(560, 46 + 44 * len(bars), title)
    widest = max(text_width(show(b[3]) + b[5], 12) for b in bars)
    ends = [max(b[2], b[3].spread[1] if b[3].spread else 0) for b in bars]
    x = Scale(0, max(ends), left, max(left + 90, 546 - widest))
    for i, (name, under, value, metric, css, more) in enumerate(bars):
        top = 14 + 44 * i
        canvas.text(left - 8, top + (13 if under else 18), name, "label", anchor="end")
        canvas.text(left - 8, top + 26, under, "faint", anchor="end")
        canvas.rect(left, top, x(value) - left, 27, f"bar {css}", tip=f"{name}: {show(metric)}")
        if metric.spread:
            canvas.line(x(metric.spread[0]), top + 13.5, x(metric.spread[1]), top + 13.5, "whisker strong")
        canvas.text(x(ends[i]) + 7, top + 18, show(metric) + more, "label")
    _bottom_axis(canvas, x, 14 + 44 * len(bars), lambda v: tick(v, unit))
    return Figure(title, note, canvas.markup())


def curves(row: Row, per: str = "sample") -> Figure | None:
    """Draw training and validation loss over the epochs of a stage.

    Args:
        per: what a loss is the mean over: sample or token.
    """
    entries: list[dict[str, Any]] = []
    shift = 0.0
    for fit in row.fits:  # the trainings after several cuts follow each other
        entries += [{**h, "epoch": h["epoch"] + shift} for h in fit.get("history") or [] if h.get("epoch") is not None]
        shift = entries[-1]["epoch"] if entries else 0.0
    series = {
        "training loss": [(h["epoch"], h["loss_total"]) for h in entries if h.get("loss_total") is not None],
        "validation loss": [(h["epoch"], h["val_loss"]) for h in entries if h.get("val_loss") is not None],
    }
    drawn = {name: s for name, s in series.items() if len(s) > 1}
    if not drawn:
        return None
    canvas = Canvas(560, 300, f"Loss while training: {row.stage}")
    every = [p for s in drawn.values() for p in s]
    top = max(v for _, v in every)
    x = Scale(0, max(e for e, _ in every), 62, 544)
    y = Scale(min(0, min(v for _, v in every)), top * 1.08 or 1, 246, 30)
    axes(canvas, x, y, lambda v: f"{v:g}", lambda v: f"{v:g}")
    canvas.text(303, 290, "epoch", "axis", anchor="middle")
    canvas.text(14, 138, f"loss, nats a {per}", "axis", anchor="middle", turn=-90)
    at = 66.0
    for (name, line), css in zip(drawn.items(), ("c1", "c2"), strict=False):
        canvas.path([(x(e), y(v)) for e, v in line], f"curve {css}")
        for e, v in line:
            canvas.circle(x(e), y(v), 2.5, f"dot {css}", tip=f"{name}, epoch {e:g}: {v:.4f}")
        canvas.line(at, 14, at + 20, 14, f"curve {css}")
        canvas.text(at + 26, 18, name, "label")
        at += 46 + text_width(name)
    best = row.fits[-1].get("best") or {}
    if len(row.fits) == 1 and best.get("epoch") is not None and 0 <= best["epoch"] <= x.high:
        canvas.line(x(best["epoch"]), 30, x(best["epoch"]), 246, "mark")
        canvas.line(at, 14, at + 20, 14, "mark")
        canvas.text(at + 26, 18, "kept epoch", "label")
    note = "The training loss is the stage's own objective; the validation loss is on labels."
    return Figure(f"Loss while training: {row.stage}", note, canvas.markup())


def widths(report: Report) -> Figure | None:
    """Draw the units of each layer before and after structured pruning."""
    row = report.row("prune")
    found = [w for w in (row.facts.get("widths") or [] if row else []) if isinstance(w, dict) and w.get("before")]
    if not found:
        return None
    return _shares(
        "Units kept by pruning",
        "Each layer's units left after cutting, of those before.",
        [(str(w["name"]), w["after"] / w["before"], f"{w['after']} of {w['before']}") for w in found],
    )


def zeros(report: Report) -> Figure | None:
    """Draw the share of zero weights in each masked layer."""
    row = report.row("prune")
    layers = ((row.facts.get("masks") or {}).get("layers") or []) if row else []
    if not layers:
        return None
    return _shares(
        "Zero weights by layer",
        "Zeros take as many bytes and as much time as any other number.",
        [(str(m["module"]), m["zeros"] / m["weights"], f"{m['zeros']:,} of {m['weights']:,}") for m in layers],
    )


def _shares(title: str, note: str, bars: list[tuple[str, float, str]]) -> Figure:
    step = 22
    canvas = Canvas(560, 40 + step * len(bars), title)
    left = min(250, max(text_width(name, 11) for name, _, _ in bars) + 16)
    x = Scale(0, 1, left, 544 - max(text_width(text, 11) for _, _, text in bars) - 8)
    for i, (name, share, text) in enumerate(bars):
        top = 8 + step * i
        canvas.text(left - 8, top + 12, _short(name, int((left - 12) / 6.2)), "small", anchor="end")
        canvas.rect(x(0), top, x(1) - x(0), 15, "bar gone")
        canvas.rect(x(0), top, x(share) - x(0), 15, "bar c1", tip=f"{name}: {text} ({share:.1%})")
        canvas.text(x(1) + 8, top + 12, text, "small")
    _bottom_axis(canvas, x, 8 + step * len(bars), lambda v: f"{v:.0%}")
    return Figure(title, note, canvas.markup())


def confusion(row: Row) -> Figure | None:
    """Draw the confusion matrix of a row: labels down, decisions across, counts in the cells."""
    labels, matrix = row.facts.get("labels") or [], row.facts.get("confusion") or []
    if not labels or len(matrix) != len(labels) or not isinstance(matrix[0][0], int) or len(labels) > CLASSES_SHOWN:
        return None
    names = [_short(str(name), 16) for name in labels]
    left = max(text_width(name, 11.5) for name in names) + 34
    cell = min(64.0, (560 - left - 10) / len(labels))
    high = min(cell, 44.0)
    long = any(text_width(name, 11.5) > cell - 4 for name in names)
    top = 30 + (max(text_width(n, 11.5) for n in names) * 0.72 if long else 14)
    canvas = Canvas(560, top + high * len(labels) + 14, f"Confusion matrix: {row.stage}")
    canvas.text(left + cell * len(labels) / 2, 14, "decided", "axis", anchor="middle")
    canvas.text(12, top + high * len(labels) / 2, "label", "axis", anchor="middle", turn=-90)
    for k, name in enumerate(names):
        cx = left + cell * (k + 0.5)
        canvas.text(cx, top - 8, name, "small", anchor="start" if long else "middle", turn=-42 if long else 0)
        canvas.text(left - 8, top + high * (k + 0.5) + 4, name, "small", anchor="end")
        total = sum(matrix[k]) or 1
        for j, count in enumerate(matrix[k]):
            share = count / total
            css = "bar c1" if j == k else "bar bad"
            x, y = left + cell * j, top + high * k
            canvas.rect(x + 1, y + 1, cell - 2, high - 2, "bar none")
            tip = f"{labels[k]} decided as {labels[j]}: {count} ({share:.1%})"
            canvas.rect(x + 1, y + 1, cell - 2, high - 2, css, opacity=0.06 + 0.86 * math.sqrt(share), tip=tip)
            dark = "inverse" if share > 0.4 else "small"
            canvas.text(x + cell / 2, y + high / 2 + 4, count, dark, anchor="middle")
    note = f"Test samples; {row.runtime} runtime, reopened from disk. Shading: share of the row."
    return Figure(f"Confusion matrix: {row.stage}", note, canvas.markup())


def _bottom_axis(canvas: Canvas, x: Scale, y: float, text: Callable[[float], str]) -> None:
    canvas.line(x.start, y, x.end, y, "rule")
    room = max(2, int((x.end - x.start) / 75))
    for value in x.ticks(min(5, room)):
        canvas.line(x(value), y, x(value), y + 4, "rule")
        canvas.text(x(value), y + 17, text(value), "tick", anchor="middle")


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else "…" + name[-(most - 1) :]
