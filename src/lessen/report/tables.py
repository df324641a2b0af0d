"""The predecessor's CSV and JSON files: its names, its columns, in its order; numbers only, missing ones empty.

`size_mb` is bytes of the files / 10^6 (it counted 2^20 and left INT8 weights out), `latency_ms` the median at batch 1,
`throughput` per second at the larger batch, `compression` and `speedup` are to the teacher, `precision` and `recall`
macro averages, `priority_f1` the F1 of the positive label (several labels: macro-F1). `train_*` are scored on the first
samples of the training split; `hate` is the second label of a binary task, `non` the first. Scores of texts and tokens
follow, where a model has them.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from lessen.context import write_atomic
from lessen.report.rows import Report, Row

STAGES = {"teacher": "baseline", "distill": "after_kd", "prune": "after_pruning", "quantize": "after_quantization"}
TEXT_SCORES = (
    "perplexity", "nll_per_token", "bits_per_byte", "token_accuracy", "bleu", "chrf", "rouge_l", "exact_match",
    "kl_to_teacher", "first_token_ms", "token_ms", "tokens_per_s", "active_parameters",
)  # fmt: skip
Cell = str | float | int | None
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_tables(report: Report, out_dir: Path) -> list[Path]:
    """Write results_<stage>.csv and .json, results_all.csv, results_final.csv and .json, and results_tidy.csv."""
    lines = {id(row): line(report, row) for row in report.rows}
    files: list[Path] = []
    for row in report.main:
        name = f"results_{STAGES.get(row.stage, row.stage)}"
        files.append(_csv(out_dir / f"{name}.csv", [lines[id(row)]]))
        files.append(_json(out_dir / f"{name}.json", record(report, row)))
    if report.rows:
        main = report.main
        files.append(_csv(out_dir / "results_all.csv", [lines[id(row)] for row in report.rows]))
        files.append(_csv(out_dir / "results_final.csv", [lines[id(row)] for row in main]))
        files.append(_json(out_dir / "results_final.json", [record(report, row) for row in main]))
        files.append(_csv(out_dir / "results_tidy.csv", tidy(report)))
    return files


def line(report: Report, row: Row) -> dict[str, Cell]:
    """Return one row of the predecessor's CSV, columns in its order."""
    fit = _fit(row)
    out: dict[str, Cell] = {
        "stage": STAGES.get(row.stage, row.stage),
        "size_mb": _over(row.value("file_bytes"), 1e6),
        "params_M": _over(row.value("parameters"), 1e6),
        "sparsity_%": _over(row.value("sparsity"), 0.01),
        "acc_exact": row.value("accuracy"),
        "f1_macro": row.value("f1_macro"),
        "f1_weighted": row.value("f1_weighted"),
        "precision": row.value("precision_macro"),
        "recall": row.value("recall_macro"),
        "hamming": row.value("hamming_loss"),
        "latency_ms": row.value("latency_p50_ms"),
        "throughput": row.value("throughput_per_s"),
        "compression": compression(report, row),
        "speedup": speedup(report, row),
        "priority_f1": _priority(row),
        "best_epoch": fit["best_epoch"],
        "val_loss": fit["val_loss"],
        "best_threshold": fit["best_threshold"],
        **_train(row),
    }
    for name, value in _per_label(report, row, "f1").items():
        out[f"f1_{name}"] = value
    out |= _texts(row)
    for flag, value in report.recipe.get("legacy", {}).items():
        if isinstance(value, str | int | float | bool):
            out[f"arg_{flag}"] = value
    return out


def record(report: Report, row: Row) -> dict[str, Any]:
    """Return one entry of the predecessor's JSON, all numeric."""
    labels = {name: _per_label(report, row, name) for name in ("f1", "precision", "recall", "accuracy", "roc_auc")}
    exact = row.value("parameters")
    return {
        "stage": STAGES.get(row.stage, row.stage),
        "model_size_mb": _over(row.value("file_bytes"), 1e6),
        "num_parameters": exact,
        "trainable_parameters": exact if row.runtime == "eager" else 0,
        "sparsity_percent": _over(row.value("sparsity"), 0.01),
        "accuracy_exact": row.value("accuracy"),
        "accuracy_per_label": labels["accuracy"],
        **{
            name: row.value(name) for name in ("f1_macro", "f1_weighted", "f1_micro", "precision_macro", "recall_macro")
        },
        "hamming_loss": row.value("hamming_loss"),
        **{f"per_label_{name}": labels[name] for name in ("f1", "precision", "recall", "accuracy")},
        "roc_auc_macro": row.value("roc_auc"),
        "roc_auc_per_label": labels["roc_auc"],
        **{f"inference_latency_{p}_ms": row.value(f"latency_{p}_ms") for p in ("mean", "p50", "p95", "p99")},
        "throughput_samples_per_sec": row.value("throughput_per_s"),
        "peak_memory_mb": _over(row.value("peak_rss_bytes"), 1e6),
        "size_compression_ratio": compression(report, row),
        "speedup_ratio": speedup(report, row),
        "priority_weighted_f1": _priority(row),
        **_texts(row),
        **_fit(row),
        **_train(row),
        "config": report.recipe,
    }


def tidy(report: Report) -> list[dict[str, Cell]]:
    """Return every metric of every row in long form."""
    return [
        {
            "run_id": report.run_id, "stage": row.stage, "artifact": row.artifact, "device": row.device,
            "runtime": row.runtime, "metric": name, "value": m.value, "unit": m.unit, "kind": m.kind, "n": m.n,
            "ci95_low": m.ci95[0] if m.ci95 else None, "ci95_high": m.ci95[1] if m.ci95 else None,
            "spread_p10": m.spread[0] if m.spread else None, "spread_p90": m.spread[1] if m.spread else None,
            "reason": m.reason,
        }
        for row in report.rows
        for name, m in row.metrics.items()
    ]  # fmt: skip


def compression(report: Report, row: Row) -> float | None:
    """Return bytes of the teacher's files / bytes of this row's."""
    teacher = report.teacher
    ours, theirs = row.value("file_bytes"), teacher.value("file_bytes") if teacher else None
    return theirs / ours if ours and theirs else None


def speedup(report: Report, row: Row) -> float | None:
    """Return the speed-up over the teacher, median over rounds; None where it was timed on another device."""
    teacher = report.teacher
    if teacher is None or teacher.device != row.device or teacher.value("latency_p50_ms") is None:
        return None
    return row.value("speedup")


def _texts(row: Row) -> dict[str, float | None]:
    """Return the scores that only models of sequences have."""
    return {name: row.value(name) for name in TEXT_SCORES if name in row.metrics}


def _priority(row: Row) -> float | None:
    classes = row.facts.get("per_class") or []
    return float(classes[1]["f1"]) if len(classes) == 2 else row.value("f1_macro")


def _fit(row: Row) -> dict[str, float | None]:
    fit = row.fits[-1] if row.fits else {}
    best = fit.get("best") or {}
    return {
        "best_epoch": best.get("epoch"),
        "val_loss": best.get("val_loss"),
        "best_threshold": fit.get("threshold"),
    }


def _train(row: Row) -> dict[str, float | None]:
    classes = row.facts.get("train_per_class") or []
    hate, non = (classes[1], classes[0]) if len(classes) == 2 else ({}, {})
    return {
        "train_acc": row.value("train_accuracy"),
        "train_prec_hate": hate.get("precision"),
        "train_rec_hate": hate.get("recall"),
        "train_f1_hate": hate.get("f1"),
        "train_prec_non": non.get("precision"),
        "train_rec_non": non.get("recall"),
        "train_f1_non": non.get("f1"),
        "train_f1_macro": row.value("train_f1_macro"),
        "train_roc_auc": row.value("train_roc_auc"),
        "train_loss": row.value("train_nll"),
    }


def _per_label(report: Report, row: Row, score: str) -> dict[str, float | None]:
    """Return a score by label; a binary task has the one column of its label, named after it as the predecessor did."""
    classes = row.facts.get("per_class") or []
    if len(classes) == 2:
        column = report.data.get("label_column") or report.recipe.get("data", {}).get("label_column") or "HateSpeech"
        return {str(column): classes[1].get(score)}
    return {str(c["label"]): c.get(score) for c in classes}


def _over(value: float | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def safe(value: Cell) -> Cell:
    """Return a cell that no spreadsheet takes for a formula: text that begins like one gets a quote before it."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _csv(path: Path, lines: list[dict[str, Cell]]) -> Path:
    columns = list(dict.fromkeys(name for one in lines for name in one))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([safe(name) for name in columns])
    writer.writerows([[safe(one.get(name)) for name in columns] for one in lines])
    write_atomic(path, stream.getvalue())
    return path


def _json(path: Path, value: Any) -> Path:
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path
