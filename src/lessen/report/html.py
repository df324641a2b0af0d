"""report.html: one file, readable without a network and without JavaScript, on screen and on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lessen import __version__
from lessen.report import charts
from lessen.report.numbers import number, points, show, significant, title
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup

# columns of the result table: metric, or a ratio to the teacher
COLUMNS = (
    "f1_macro", "agreement_with_teacher", "parameters", "file_bytes", "smaller", "latency_p50_ms", "latency_p95_ms",
    "faster", "throughput_per_s", "peak_rss_bytes",
)  # fmt: skip
_HEADS = {"smaller": "smaller", "faster": "faster", "agreement_with_teacher": "agree", "throughput_per_s": "answers"}
DETAILS = (
    "accuracy", "f1_weighted", "precision_macro", "recall_macro", "roc_auc", "expected_calibration_error", "nll",
    "file_bytes_compressed", "nonzero_parameters", "sparsity", "flops", "layers", "latency_p99_ms",
    "batch_latency_p50_ms", "cpu_time_ms", "import_rss_bytes", "foreign_load",
)  # fmt: skip
_ICONS = {"helped": "✓", "made worse": "✗", "no detectable change": "=", "mixed": "±", "unknown": "?"}


def html(report: Report) -> str:
    """Return the page of a report (as `files.complete` leaves it)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        show=show, pretty=_pretty, significant=significant, points=points, value=_value, words=_words
    )
    return environment.get_template("page.html.j2").render(
        r=report, version=__version__, tiles=tiles(report), columns=COLUMNS, heads={c: head(c) for c in COLUMNS},
        details=[d for d in DETAILS if any(d in row.metrics for row in report.rows)], title=title, icons=_ICONS,
        cell=lambda row, name: cell(report, row, name), figures=charts.figures(report), rows=report.rows,
        classes=[row for row in report.rows if row.facts.get("per_class")], complexity=_complexity(report),
    )  # fmt: skip


def tiles(report: Report) -> list[dict[str, str]]:
    """Return the head's figures: smaller, faster, quality, memory, of the final model against the teacher."""
    final, teacher = report.final, report.teacher
    if final is None or teacher is None:
        return []
    if final is teacher:
        names = ("f1_macro", "file_bytes", "latency_p50_ms", "peak_rss_bytes")
        return [{"name": title(n), "value": show(teacher.metrics.get(n)), "note": "the teacher alone"} for n in names]
    out = [_ratio_tile("smaller on disk", compression(report, final), teacher, final, "file_bytes")]
    out.append(_ratio_tile("faster (p50, batch 1)", speedup(report, final), teacher, final, "latency_p50_ms"))
    found = report.comparison("teacher", final.stage)
    if found is not None:
        low, high = (points(v).removesuffix(" points") for v in found.ci95)
        note = f"95 % [{low}, {high}] points · {found.verdict}"
        out.append(
            {
                "name": "macro-F1, in points",
                "value": points(found.f1_macro_change).removesuffix(" points"),
                "note": note,
            }
        )
    memory = teacher.value("peak_rss_bytes"), final.value("peak_rss_bytes")
    ratio = memory[0] / memory[1] if memory[0] and memory[1] else None
    out.append(_ratio_tile("less peak memory", ratio, teacher, final, "peak_rss_bytes"))
    return out


def _ratio_tile(name: str, ratio: float | None, teacher: Row, final: Row, metric: str) -> dict[str, str]:
    found = final.metrics.get(metric)
    if ratio is None:
        reason = found.reason if found is not None and found.reason else "not measured"
        return {"name": name, "value": "–", "note": reason}
    opposite = {"smaller": "larger", "faster": "slower", "less": "more"}
    first = name.split(" ")[0]
    if ratio < 1:
        name, ratio = name.replace(first, opposite[first], 1), 1 / ratio
    note = f"{show(teacher.metrics.get(metric))} → {show(found)}"
    return {"name": name, "value": number(ratio, "ratio"), "note": note}


def head(name: str) -> str:
    """Return the heading of a column."""
    return _HEADS.get(name) or title(name)


def cell(report: Report, row: Row, name: str) -> dict[str, str]:
    """Return a cell of the result table: its text, and what lies under the pointer."""
    if name in ("smaller", "faster"):
        ratio = compression(report, row) if name == "smaller" else speedup(report, row)
        return {"text": "–" if ratio is None else number(ratio, "ratio"), "tip": "teacher / this row"}
    metric = row.metrics.get(name)
    if metric is None:
        return {"text": "–", "tip": "not measured"}
    if metric.value is None:
        return {"text": "–", "tip": metric.reason or ""}
    tip = [f"n = {metric.n}"] if metric.n is not None else []
    if metric.ci95:
        tip.append(f"95 % interval {metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}")
    if metric.spread:
        tip.append(f"10-90 % of rounds {significant(metric.spread[0])} to {significant(metric.spread[1])}")
    return {"text": show(metric), "tip": "; ".join([*tip, metric.kind, *([metric.reason] if metric.reason else [])])}


def _complexity(report: Report) -> list[dict[str, str]]:
    keys = ("flops_input", "time_complexity", "space_complexity")
    return [{"stage": row.stage, **{k: str(row.facts[k]) for k in keys}} for row in report.rows
            if all(k in row.facts for k in keys) and row.role in ("main", "control")]  # fmt: skip


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _value(entry: Any) -> str:
    """Return a section's entry for people: a number with its unit, or text."""
    if isinstance(entry, dict) and "value" in entry:
        if entry["value"] is None:
            return f"– ({entry.get('reason', 'not measured')})"
        unit = entry["unit"]
        if unit == "percent":
            return f"{entry['value']:.1f} %".replace("-", "−")
        if unit == "MB":
            return f"{significant(entry['value'])} MB"
        return number(entry["value"], unit)
    if isinstance(entry, bool) or entry is None:
        return {True: "yes", False: "no", None: "–"}[entry]
    return str(entry)


def _words(key: str) -> str:
    return key.replace("_", " ")
