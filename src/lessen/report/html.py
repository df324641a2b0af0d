"""report.html: one file, readable without a network and without JavaScript, on screen and on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lessen import __version__
from lessen.info import generates
from lessen.report import charts, headline
from lessen.report.numbers import TITLES, number, points, show, significant, title
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup

_HEADS = {"smaller": "smaller", "faster": "faster", "agreement_with_teacher": "agree", "throughput_per_s": "answers"}
DETAILS = (
    "accuracy", "f1_weighted", "precision_macro", "recall_macro", "roc_auc", "expected_calibration_error", "nll",
    "bleu", "chrf", "rouge_l", "exact_match", "no_label_share", "generated_tokens", "perplexity", "nll_per_token",
    "bits_per_byte", "token_accuracy", "tokens_scored", "token_agreement", "kl_to_teacher", "perplexity_ratio",
    "retention",
    "file_bytes_compressed", "nonzero_parameters", "active_parameters", "sparsity", "flops", "flops_per_token",
    "layers", "answer_tokens", "first_token_p95_ms", "token_p95_ms", "tokens_per_s", "batch_first_token_ms",
    "batch_token_ms", "batch_tokens_per_s", "latency_p99_ms",
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
    shown = columns(report)
    return environment.get_template("page.html.j2").render(
        r=report, version=__version__, tiles=tiles(report), columns=shown, heads={c: head(c) for c in shown},
        details=details(report, shown), title=title, icons=_ICONS, change=headline.change, interval=headline.interval,
        examples=[row for row in report.rows if row.facts.get("examples")],
        cell=lambda row, name: cell(report, row, name), figures=charts.figures(report), rows=report.rows,
        classes=[row for row in report.rows if row.facts.get("per_class")], complexity=_complexity(report),
        provenance=provenance(report),
    )  # fmt: skip


def columns(report: Report) -> tuple[str, ...]:
    """Return the columns of the result table: metrics, or a ratio to the teacher."""
    first = headline.headline(report).columns
    times: tuple[str, ...] = ("latency_p50_ms", "latency_p95_ms", "faster", "throughput_per_s")
    if generates(report.task):
        times = ("latency_p50_ms", "faster", "first_token_ms", "token_ms", "tokens_per_s")
    routed = [r for r in report.rows if r.value("active_parameters") != r.value("parameters")]
    active = ("active_parameters",) if any(r.value("active_parameters") for r in routed) else ()
    return (*first, "parameters", *active, "file_bytes", "smaller", *times, "peak_rss_bytes")


def details(report: Report, shown: tuple[str, ...]) -> list[str]:
    """Return the further metrics that some row has; those of held-out texts come last."""
    there = {name: None for row in report.rows for name in row.metrics}
    texts = [n for n in there if n not in TITLES and n.startswith(("perplexity_", "bits_per_byte_"))]
    return [n for n in (*DETAILS, *texts) if n in there and n not in shown]


def tiles(report: Report) -> list[dict[str, str]]:
    """Return the head's figures: smaller, faster, quality, memory, of the final model against the teacher."""
    final, teacher = report.final, report.teacher
    if final is None or teacher is None:
        return []
    if final is teacher:
        names = (headline.headline(report).metric, "file_bytes", "latency_p50_ms", "peak_rss_bytes")
        return [{"name": title(n), "value": show(teacher.metrics.get(n)), "note": "the teacher alone"} for n in names]
    out = [_ratio_tile("smaller on disk", compression(report, final), teacher, final, "file_bytes")]
    out.append(_ratio_tile("faster (p50, batch 1)", speedup(report, final), teacher, final, "latency_p50_ms"))
    found = report.comparison("teacher", final.stage)
    if found is not None:
        name, value, ends = headline.tile(found)
        out.append({"name": name, "value": value, "note": f"95 % {ends} · {found.verdict}"})
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


def provenance(report: Report) -> list[tuple[str, str]]:
    """Return name and text of what a number came from: versions, commits, digests, times; what is known of them."""
    env = report.environment
    code = env.get("code") or {}
    found = {
        "GPU": env.get("gpu"),
        "system": env.get("system"),
        "Python": env.get("python"),
        "versions": ", ".join(f"{k} {v}" for k, v in env.get("versions", {}).items()),
        "lessen's source": _commit(code.get("lessen")),
        "working folder": _commit(code.get("folder")),
        "recipe digest": env.get("recipe_digest"),
        "data digest": report.data.get("digest"),
        "started": report.created,
        "finished": env.get("finished"),
    }
    return [(name, str(text)) for name, text in found.items() if text]


def _commit(of: dict[str, Any] | None) -> str | None:
    return None if of is None else f"commit {of['commit']}{', with changes' if of['dirty'] else ''}"


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
