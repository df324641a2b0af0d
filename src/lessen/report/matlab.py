"""A report as MATLAB and GNU Octave read it best: column arrays in stage order, and the predecessor's four blocks.

What decoding does to JSON there decides the shape: objects with equal fields in equal order become a struct array,
rows of equal length a matrix, null in a column of numbers NaN. So flags are 0 or 1, ids and names are strings and never
null, field names are short words, a column without any number is left out, and nothing is a formatted string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lessen.report.detailed import detailed_metrics
from lessen.report.headline import Headline, headline
from lessen.report.mat_file import to_mat
from lessen.report.matlab_layers import layers, masks
from lessen.report.numbers import lower_is_better, title
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup

SCHEMA_VERSION = "1.0"
__all__ = ["BLOCKS", "matlab_metrics", "name_of", "nothing_measured", "to_mat"]
BLOCKS = ("effectiveness", "efficiency", "compression", "complexity")
LONGEST = 31  # characters of a name that every version keeps
KEYWORDS = frozenset(
    ("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global", "if",
     "otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while")
)  # fmt: skip
_SCORES = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1_score": "F1-Score"}
_LATENCY = {
    "p50_ms": "latency_p50_ms", "p95_ms": "latency_p95_ms", "p99_ms": "latency_p99_ms", "mean_ms": "latency_mean_ms",
    "batch_p50_ms": "batch_latency_p50_ms", "batch_p95_ms": "batch_latency_p95_ms", "first_token_ms": "first_token_ms",
    "token_ms": "token_ms", "throughput_per_s": "throughput_per_s", "tokens_per_s": "tokens_per_s",
    "threads": "threads", "batch_size": "batch_size", "input_length": "input_length",
}  # fmt: skip
_BITS = {"fp64": 64, "fp32": 32, "int32": 32, "fp16": 16, "bf16": 16, "int8": 8, "uint8": 8, "int4": 4, "int2": 2}
Json = dict[str, Any]


def matlab_metrics(report: Report, *, model_name: str = "") -> Json:
    """Return everything a script plots, in plain JSON values.

    Args:
        model_name: what the run was started with; the recipe's teacher when empty.

    Returns:
        success, error, schema_version, run_id, model_name, ..., the predecessor's matlab_data, detailed_metrics and
        summary, then stages, latency, layers, masks, history, confusion, per_class, comparisons, attribution, units,
        not_available. Where nothing has been measured, what `nothing_measured` returns.
    """
    teacher, final = report.teacher, report.final
    if teacher is None or final is None:
        return nothing_measured("nothing of this run has been measured yet", report.run_id, model_name)
    head, keys = headline(report), _keys(report.rows)
    return {
        "success": True,
        "error": "",
        "schema_version": SCHEMA_VERSION,
        "run_id": report.run_id,
        "model_name": model_name or str(report.recipe.get("teacher", {}).get("model") or report.name),
        "name": report.name,
        "task": report.task,
        "pipeline": report.pipeline,
        "created": report.created,
        "complete": int(report.complete),
        "teacher_stage": teacher.stage,
        "final_stage": final.stage,
        "score": name_of(head.metric),
        "score_title": head.title,
        "score_lower_is_better": int(head.lower_is_better),
        "matlab_data": _blocks(report, teacher, final, head),
        "detailed_metrics": detailed_metrics(report),
        "summary": _summary(report, teacher, final, head),
        "stages": _stages(report, keys),
        "latency": _latency(report),
        "layers": layers(report),
        "masks": masks(report),
        "history": _history(report.rows),
        "confusion": _confusion(report.rows),
        "per_class": _per_class(report.rows),
        "comparisons": _comparisons(report),
        "attribution": _attribution(report),
        "units": {keys[k]: m.unit for row in report.rows for k, m in row.metrics.items()},
        "not_available": [
            {"stage": row.stage, "metric": keys[k], "reason": m.reason or ""}
            for row in report.rows
            for k, m in row.metrics.items()
            if m.value is None
        ],
    }


def nothing_measured(error: str, run_id: str = "", model_name: str = "") -> Json:
    """Return the answer where no model has been measured: success false, the reason, and empty arrays."""
    return {
        "success": False,
        "error": error,
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "model_name": model_name,
        **dict.fromkeys(("name", "task", "pipeline", "created"), ""),
        "complete": 0,
        **dict.fromkeys(("teacher_stage", "final_stage", "score", "score_title"), ""),
        "score_lower_is_better": 0,
        "matlab_data": {block: [] for block in BLOCKS},
        "detailed_metrics": {block: {} for block in BLOCKS},
        "summary": dict.fromkeys(_SUMMARY),
        "stages": {"stage": []},
        "latency": {"stage": []},
        "layers": {"name": []},
        "masks": {"name": []},
        "history": [],
        "confusion": {"labels": [], "reason": error, "matrices": []},
        "per_class": [],
        "comparisons": {"reference": []},
        "attribution": {"name": []},
        "units": {},
        "not_available": [],
    }


def name_of(text: str, taken: Iterable[str] = ()) -> str:
    """Return a field name that MATLAB and Octave both keep: ^[a-z][a-z0-9_]{0,30}$, no keyword, not taken yet."""
    plain = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "x"
    if not plain[0].isalpha():
        plain = f"x_{plain}"
    plain = f"x_{plain}" if plain in KEYWORDS else plain
    short, number, there = plain[:LONGEST], 1, set(taken)
    while short in there:
        number += 1
        short = f"{plain[: LONGEST - len(str(number)) - 1]}_{number}"
    return short


def _blocks(report: Report, teacher: Row, final: Row, head: Headline) -> Json:
    """Return the predecessor's blocks; its script reads the lines by position."""
    scores = sorted(head.scores.items(), key=lambda one: one[0] != "accuracy")  # accuracy stands first in every task
    ratio, size = compression(report, final), _relative(teacher.value("file_bytes"), final.value("file_bytes"))
    a, b = teacher.value(head.accuracy), final.value(head.accuracy)
    drop = None if a is None or b is None else (a - b) * 100
    formulas = {
        name: {"before_formula": str(t or ""), "after_formula": str(f or "")}
        for name in ("time_complexity", "space_complexity")
        for t, f in [(teacher.facts.get(name), final.facts.get(name))]
    }
    return {
        "effectiveness": [_line(teacher, final, name, _score_title(key, name)) for key, name in scores],
        "efficiency": [
            _line(teacher, final, "latency_p50_ms", "Latency (ms)"),
            _line(teacher, final, "peak_rss_bytes", "RAM Usage (MB)", 1e6, "MB"),
            _line(teacher, final, "file_bytes", "Model Size (MB)", 1e6, "MB"),
        ],
        "compression": [
            _line(teacher, final, "parameters", "Parameters Count"),
            _line(teacher, final, "layers", "Layers Count"),
            _told("Compression Ratio", "compression_ratio", 1.0 if ratio else None, ratio, "ratio", "higher"),
            _told("Accuracy Drop (%)", "accuracy_drop", None if drop is None else 0.0, drop, "points", "lower"),
            _told("Size Reduction (%)", "size_reduction", None if size is None else 0.0, size, "percent", "higher"),
        ],
        "complexity": [
            {**_line(teacher, final, "flops", "Time Complexity"), **formulas["time_complexity"]},
            {
                **_line(teacher, final, "file_bytes", "Space Complexity", 1e6, "MB"),
                **formulas["space_complexity"],
            },
        ],
    }


def _score_title(key: str, name: str) -> str:
    if key != name and key in _SCORES:
        return _SCORES[key] if not name.startswith("token") else f"{_SCORES[key]} (tokens)"
    text = title(name)
    return _SCORES.get(name, text if text != text.lower() else text.capitalize())


def _line(teacher: Row, final: Row, name: str, text: str, divisor: float = 1, unit: str = "") -> Json:
    """Return before and after of a metric; shares in percent, as the predecessor's charts label them."""
    known = teacher.metrics.get(name) or final.metrics.get(name)
    unit = unit or (known.unit if known else "")
    times = 100 if unit == "share" else 1
    better = "lower" if lower_is_better(name) else "" if name == "layers" else "higher"
    before, after = (_scaled(row.value(name), times, divisor) for row in (teacher, final))
    bounds = {
        f"{side}_{end}": _scaled(ends[at], times, divisor) if ends else None
        for side, row in (("before", teacher), ("after", final))
        for ends in [row.metrics[name].ci95 if name in row.metrics else None]
        for at, end in enumerate(("low", "high"))
    }
    return {**_told(text, name_of(name), before, after, "percent" if times == 100 else unit, better), **bounds}


def _told(text: str, key: str, before: float | None, after: float | None, unit: str, better: str) -> Json:
    change = None if before is None or after is None else after - before
    part = None if change is None or not before else change / before * 100
    return {
        "metric": text, "key": key, "before": before, "after": after, "unit": unit, "better": better,
        "change": change, "change_percent": part,
        "before_low": None, "before_high": None, "after_low": None, "after_high": None,
    }  # fmt: skip


_SUMMARY = ("accuracy_retention", "size_reduction", "speed_improvement", "parameter_reduction", "compression_ratio",
            "speedup")  # fmt: skip


def _summary(report: Report, teacher: Row, final: Row, head: Headline) -> dict[str, float | None]:
    """Return the predecessor's four in percent, and the two ratios; negative ones say that the value grew."""
    a, b = teacher.value(head.accuracy), final.value(head.accuracy)
    retained = final.metrics.get("retention")
    if (
        retained is not None and retained.value is None
    ):  # the teacher is at chance: a share of its accuracy says nothing
        a = None
    there = teacher.device == final.device
    fast = _relative(teacher.value("latency_p50_ms"), final.value("latency_p50_ms")) if there else None
    values = (
        b / a * 100 if a and b is not None else None,
        _relative(teacher.value("file_bytes"), final.value("file_bytes")),
        fast,
        _relative(teacher.value("parameters"), final.value("parameters")),
        compression(report, final),
        speedup(report, final),
    )
    return dict(zip(_SUMMARY, values, strict=True))


def _keys(rows: Sequence[Row]) -> dict[str, str]:
    """Return a field name for each metric."""
    taken: list[str] = list(_STAGE)
    out = {}
    for name in dict.fromkeys(name for row in rows for name in row.metrics):
        out[name] = name_of(name, taken)
        taken.append(out[name])
    return out


_STAGE = ("stage", "role", "source", "device", "runtime", "precision", "is_main", "is_final", "stage_seconds",
          "bits_per_weight", "ci_low", "ci_high", "spread_low", "spread_high")  # fmt: skip


def _stages(report: Report, keys: Mapping[str, str]) -> Json:
    """Return a column for each thing that is known of the measured models, in the order they were made."""
    rows = report.rows
    out: Json = {
        "stage": [row.stage for row in rows],
        "role": [row.role for row in rows],
        "source": [row.source or "" for row in rows],
        "device": [row.device for row in rows],
        "runtime": [row.runtime for row in rows],
        "precision": [row.precision or "" for row in rows],
        "is_main": [int(row.role == "main") for row in rows],
        "is_final": [int(row is report.final) for row in rows],
        **_columns({"stage_seconds": [row.seconds for row in rows], "bits_per_weight": [_bits(row) for row in rows]}),
    }
    out |= _columns({keys[name]: [row.value(name) for row in rows] for name in keys})
    for part, attribute in (("ci", "ci95"), ("spread", "spread")):
        for at, end in enumerate(("low", "high")):
            ends = {
                keys[name]: [
                    pair[at] if (m := row.metrics.get(name)) and (pair := getattr(m, attribute)) else None
                    for row in rows
                ]
                for name in keys
            }
            out[f"{part}_{end}"] = _columns(ends)
    return out


def _latency(report: Report) -> Json:
    """Return the times of the models that were timed; comparable within one device only."""
    rows = [row for row in report.rows if row.value("latency_p50_ms") is not None]
    spreads = [row.metrics["latency_p50_ms"].spread or (None, None) for row in rows]
    columns = {key: [row.value(name) for row in rows] for key, name in _LATENCY.items()}
    columns |= {
        "p50_low_ms": [low for low, _ in spreads],
        "p50_high_ms": [high for _, high in spreads],
        "speedup": [speedup(report, row) for row in rows],
    }
    names = {key: [str(getattr(row, key)) for row in rows] for key in ("stage", "role", "device", "runtime")}
    return {**names, **_columns(columns)}


def _history(rows: Sequence[Row]) -> list[Json]:
    """Return one struct a training, all with the same fields: columns over its evaluations, empty where unknown."""
    fits = [(row, at, fit) for row in rows for at, fit in enumerate(row.fits, start=1) if fit.get("history")]
    keys = list(dict.fromkeys(key for _, _, fit in fits for entry in fit["history"] for key in entry))
    taken: list[str] = ["stage", "training", "steps", "seconds", "best_epoch", "best_step", "stopped_early"]
    names = {}
    for key in keys:
        names[key] = name_of(key, taken)
        taken.append(names[key])
    return [
        {
            "stage": row.stage,
            "training": at,
            "steps": fit.get("steps"),
            "seconds": fit.get("seconds"),
            "best_epoch": (fit.get("best") or {}).get("epoch"),
            "best_step": (fit.get("best") or {}).get("step"),
            "stopped_early": int(bool(fit.get("stopped_early"))),
            **{names[key]: _known([entry.get(key) for entry in fit["history"]]) for key in keys},
        }
        for row, at, fit in fits
    ]


def _confusion(rows: Sequence[Row]) -> Json:
    """Return the confusion matrices: true labels down, decisions across, counts of test samples."""
    scored = [row for row in rows if row.facts.get("confusion")]
    labels = [str(label) for label in scored[0].facts.get("labels") or []] if scored else []
    square = [
        {"stage": row.stage, "role": row.role, "counts": row.facts["confusion"]}
        for row in scored
        if len(row.facts["confusion"]) == len(labels) and _numbers(row.facts["confusion"][0])
    ]
    reason = "" if square else "this task decides no single class" if not scored else "a sample may have several labels"
    return {"labels": labels, "reason": reason, "matrices": square}


def _per_class(rows: Sequence[Row]) -> list[Json]:
    """Return one struct a stage: columns of the scores of each class."""
    scored = [(row, row.facts["per_class"]) for row in rows if row.facts.get("per_class")]
    keys = list(dict.fromkeys(key for _, classes in scored for one in classes for key in one if key != "label"))
    return [
        {
            "stage": row.stage,
            "label": [str(one.get("label", "")) for one in classes],
            **{name_of(key, ("stage", "label")): _known([one.get(key) for one in classes]) for key in keys},
        }
        for row, classes in scored
    ]


def _comparisons(report: Report) -> Json:
    found = report.comparisons
    texts = {
        key: [str(getattr(c, key)) for c in found] for key in ("reference", "candidate", "metric", "unit", "verdict")
    }
    return {
        **texts,
        **_columns(
            {
                "n": [c.n for c in found],
                "change": [c.change for c in found],
                "change_low": [c.ci95[0] for c in found],
                "change_high": [c.ci95[1] for c in found],
                "agreement": [c.agreement for c in found],
                "mcnemar_p": [c.mcnemar_p for c in found],
            }
        ),
    }


def _attribution(report: Report) -> Json:
    steps = report.attribution
    numbers = {key: [getattr(s, key) for s in steps] for key in ("latency_p50_ms", "gain", "total")}
    return {"name": [s.name for s in steps], "stage": [s.stage or "" for s in steps], **_columns(numbers)}


def _columns(columns: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Return the columns that have a number; one of nulls only need not decode to numbers."""
    return {name: list(values) for name, values in columns.items() if any(v is not None for v in values)}


def _known(values: Sequence[float | None]) -> list[float | None]:
    return list(values) if any(v is not None for v in values) else []


def _bits(row: Row) -> float | None:
    """Return the mean bits of a weight, from the number formats counted in the files."""
    formats = row.facts.get("weight_formats") or {}
    if not formats or any(name not in _BITS for name in formats):
        return None
    return float(sum(_BITS[name] * count for name, count in formats.items()) / sum(formats.values()))


def _relative(before: float | None, after: float | None) -> float | None:
    """Return by how many percent of `before` the value fell."""
    return None if not before or after is None else (before - after) / before * 100


def _scaled(value: float | None, times: int, divisor: float) -> float | None:
    return None if value is None else value * times / divisor


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, int | float) for v in values)
