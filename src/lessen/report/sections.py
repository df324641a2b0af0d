"""The predecessor's six sections, under its keys, with numbers and units where it had formatted strings.

A number is {"value", "unit"}, with "reason" where there is none.
"""

from __future__ import annotations

from typing import Any

from lessen.measure.metric import Metric, missing
from lessen.report.headline import CLASSES, Headline, headline
from lessen.report.rows import Report, Row

TITLES = {
    "model_performance": "Student performance",
    "teacher_vs_student": "Teacher and student",
    "knowledge_distillation_analysis": "Distillation analysis",
    "pruning_analysis": "Pruning analysis",
    "efficiency_improvements": "Efficiency improvements",
    "learning_outcomes": "Learning outcomes",
}


def sections(report: Report) -> dict[str, Any]:
    """Return the six sections; empty where nothing has been measured yet."""
    final, teacher, head = report.final, report.teacher, headline(report)
    if final is None or teacher is None:
        return {}
    return {
        "model_performance": _performance(final, head),
        "teacher_vs_student": _versus(teacher, final, head),
        "knowledge_distillation_analysis": _distillation(report),
        "pruning_analysis": _pruning(report),
        "efficiency_improvements": _efficiency(teacher, final),
        "learning_outcomes": _outcomes(report),
    }


def _performance(row: Row, head: Headline) -> dict[str, Any]:
    names = head.scores | {
        "size_mb": "file_bytes", "latency_ms": "latency_p50_ms", "num_params": "parameters", "flops": "flops",
    }  # fmt: skip
    metrics = {key: number(row, name, mega=key == "size_mb") for key, name in names.items()}
    more = "; precision, recall and F1 are macro averages" if head is CLASSES else ""
    text = f"The final model ({row.stage}, {row.runtime}) on the test split{more}."
    return {"title": TITLES["model_performance"], "description": text, "metrics": metrics}


_SCORES = {
    "accuracy": "share of test samples decided rightly",
    "f1_macro": "mean over classes of the harmonic mean of precision and recall",
    "token_accuracy": "share of tokens that the model finds likeliest, the true ones before given",
    "perplexity": "exp of the mean negative log-likelihood a token; lower is better",
    "bits_per_byte": "negative log-likelihood by bytes of text, for any tokenizer; lower is better",
    "bleu": "overlap of words with the reference, 0 to 100",
    "chrf": "overlap of characters with the reference, 0 to 100",
    "rouge_l": "F1 of the longest common subsequence of words",
}


def _versus(teacher: Row, student: Row, head: Headline) -> dict[str, Any]:
    names = {key: (name, _SCORES[name]) for key, name in head.scores.items() if name in _SCORES} | {
        "model_size": ("file_bytes", "bytes of the files needed to run"),
        "inference_speed": ("latency_p50_ms", "median time of one answer at batch 1"),
        "computational_complexity": ("flops", "floating-point operations of one answer, a multiply-add is two"),
    }
    return {
        "title": TITLES["teacher_vs_student"],
        "description": "The same test split, device and threads for both.",
        "comparison": {
            key: {
                "teacher": number(teacher, name),
                "student": number(student, name),
                "difference": _difference(teacher, student, name),
                "explanation": text,
            }
            for key, (name, text) in names.items()
        },
    }


def _distillation(report: Report) -> dict[str, Any]:
    row, settings = report.row("distill"), report.recipe.get("distill", {})
    base = {"title": TITLES["knowledge_distillation_analysis"]}
    if row is None:
        return {
            **base,
            "description": "This run did not distil.",
            "process": {},
            "effects": {},
            "educational_insight": "",
        }
    fit = row.fits[-1] if row.fits else {}
    history = fit.get("history") or []
    loss = next((h.get("loss_total", h.get("val_loss")) for h in reversed(history)), None)
    verdict = next((v for v in report.verdicts if v.subject == "distillation"), None)
    return {
        **base,
        "description": f"Objective {settings.get('objective')}, alpha {settings.get('alpha')}.",
        "process": {
            "temperature_used": _plain(settings.get("temperature"), ""),
            "distillation_loss": _plain(loss, "nats"),
            "training_steps": _plain(fit.get("steps"), "count"),
            "convergence": _convergence(fit),
        },
        "effects": {
            "knowledge_transfer": number(row, "agreement_with_teacher"),
            "regularization": _change(report, "control", "distill"),
            "efficiency_gain": _ratio(report.teacher, row, "parameters"),
        },
        "educational_insight": verdict.text if verdict else "",
    }


def _convergence(fit: dict[str, Any]) -> dict[str, Any]:
    """Say what the validation loss did: the last value against the best, and whether training stopped early."""
    losses = [h["val_loss"] for h in fit.get("history") or [] if h.get("val_loss") is not None]
    best = fit.get("best") or {}
    return {
        "best_epoch": _plain(best.get("epoch"), "epochs"),
        "val_loss_best": _plain(min(losses) if losses else None, "nats"),
        "val_loss_last": _plain(losses[-1] if losses else None, "nats"),
        "stopped_early": fit.get("stopped_early"),
    }


def _pruning(report: Report) -> dict[str, Any]:
    row, settings = report.row("prune"), report.recipe.get("prune", {})
    base = {"title": TITLES["pruning_analysis"]}
    source = report.row(row.source) if row and row.source else None
    if row is None or source is None:
        text = "This run did not prune."
        return {**base, "description": text, "pruning_details": {}, "impact_analysis": {}, "educational_insight": ""}
    verdict = [v.text for v in report.verdicts if v.stage == "prune" and v.subject in ("speed", "pruning")]
    asked = settings.get("remove_frac")
    return {
        **base,
        "description": f"{settings.get('pattern')} pruning, asked for: {asked} of {settings.get('of')}.",
        "pruning_details": {
            "pruning_ratio": _reduction(source, row, "parameters"),
            "pruning_method": settings.get("method"),
            "layers_affected": _plain(_affected(row), "count"),
            "sparsity_introduced": number(row, "sparsity"),
        },
        "impact_analysis": {
            "parameter_reduction": _reduction(source, row, "parameters"),
            "memory_savings": _reduction(source, row, "file_bytes"),
            "speed_improvement": _ratio(source, row, "latency_p50_ms"),
            "accuracy_tradeoff": _difference(source, row, headline(report).accuracy),
        },
        "educational_insight": " ".join(verdict),
    }


def _affected(row: Row) -> int | None:
    """Return how many layers lost units or weights, as the pruning stage counted them."""
    cut = [int(w["after"] < w["before"]) for w in row.facts.get("widths") or []]
    masked = [int(m["masked"] > 0) for m in (row.facts.get("masks") or {}).get("layers") or []]
    return sum(cut or masked) if cut or masked else None


def _efficiency(teacher: Row, final: Row) -> dict[str, Any]:
    names = {
        "storage": ("file_bytes", "reduction", "less to store and to load"),
        "speed": ("latency_p50_ms", "improvement", "time of one answer"),
        "parameters": ("parameters", "reduction", "weights to hold in memory"),
        "flops": ("flops", "reduction", "arithmetic of one answer"),
    }
    return {
        "title": TITLES["efficiency_improvements"],
        "description": "Teacher before, final model after; a negative reduction means it grew.",
        "improvements": {
            key: {
                "before": number(teacher, name),
                "after": number(final, name),
                word: _reduction(teacher, final, name),
                "benefit": text,
            }
            for key, (name, word, text) in names.items()
        },
    }


def _outcomes(report: Report) -> dict[str, Any]:
    found = {
        name: [v.text for v in report.verdicts if v.stage == stage and v.subject in subjects]
        for name, stage, subjects in (
            ("knowledge_distillation", "distill", ("quality", "size", "speed", "distillation")),
            ("model_pruning", "prune", ("quality", "size", "speed", "pruning")),
            ("quantization", "quantize", ("quality", "size", "speed")),
            ("efficiency_vs_accuracy", report.final.stage if report.final else "", ("result",)),
        )
    }
    concepts = {
        "knowledge_distillation": "A small model learns from a large one's probabilities, not from the labels alone.",
        "model_pruning": "Units that matter least are cut out, or (unstructured) single weights set to zero.",
        "quantization": "Weights are stored, and where the runtime can, multiplied with fewer bits.",
        "efficiency_vs_accuracy": "What was saved in bytes and time, against what it cost in quality.",
    }
    return {
        "title": TITLES["learning_outcomes"],
        "description": "What each method is, and what this run showed about it.",
        "concepts": {
            name: {
                "definition": text,
                "benefits": [v.text for v in _told(report, found[name], "helped")],
                "tradeoffs": [
                    v.text for v in _told(report, found[name], "made worse", "no detectable change", "mixed")
                ],
            }
            for name, text in concepts.items()
        },
    }


def _told(report: Report, texts: list[str], *outcomes: str) -> list[Any]:
    return [v for v in report.verdicts if v.text in texts and v.outcome in outcomes]


def number(row: Row | None, name: str, *, mega: bool = False) -> dict[str, Any]:
    """Return a metric as {"value", "unit"}, with the reason where there is none; bytes in MB where asked."""
    metric = (row.metrics.get(name) if row else None) or missing("", "not measured")
    if mega and metric.value is not None:
        return {"value": metric.value / 1e6, "unit": "MB"}
    return _value(metric)


def _value(metric: Metric) -> dict[str, Any]:
    out: dict[str, Any] = {"value": metric.value, "unit": metric.unit}
    return out if metric.value is not None else {**out, "reason": metric.reason}


def _plain(value: Any, unit: str) -> dict[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"value": value, "unit": unit}
    return {"value": None, "unit": unit, "reason": "not recorded"}


def _both(before: Row | None, after: Row | None, name: str) -> tuple[float, float] | None:
    a, b = (row.value(name) if row else None for row in (before, after))
    return (a, b) if a is not None and b is not None else None


def _difference(before: Row, after: Row, name: str) -> dict[str, Any]:
    found = _both(before, after, name)
    return _plain(found[1] - found[0] if found else None, before.metrics[name].unit if name in before.metrics else "")


def _reduction(before: Row | None, after: Row | None, name: str) -> dict[str, Any]:
    found = _both(before, after, name)
    return _plain((1 - found[1] / found[0]) * 100 if found and found[0] else None, "percent")


def _ratio(before: Row | None, after: Row | None, name: str) -> dict[str, Any]:
    found = _both(before, after, name)
    return _plain(found[0] / found[1] if found and found[1] else None, "ratio")


def _change(report: Report, reference: str, candidate: str) -> dict[str, Any]:
    found = report.comparison(reference, candidate)
    if found is None:
        return {"value": None, "unit": "share", "reason": "no student was trained without the teacher"}
    return {"value": found.change, "unit": found.unit, "ci95": list(found.ci95)}
