"""A plausible report, made of numbers that were not measured: it is for the shape of the report only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from lessen.measure.metric import Comparison, Metric, derived, measured, missing
from lessen.measure.speed import LATER
from lessen.recipe import parse
from lessen.report.rows import Report, Row
from report.runs_of_text import report_of

LABELS = ["numpy", "scipy", "sklearn", "pandas", "torch", "matplotlib"]


def metrics(
    f1: float, *, params: int, size: int, ms: float | None, flops: int, agree: float | None
) -> dict[str, Metric]:
    share = {
        name: measured(f1 + d, "share", n=1672, ci95=(f1 + d - 0.016, f1 + d + 0.015))
        for name, d in (("accuracy", 0.006), ("f1_macro", 0), ("f1_weighted", 0.004), ("precision_macro", 0.002),
                        ("recall_macro", -0.002))
    }  # fmt: skip
    out = share | {
        "hamming_loss": measured(1 - f1 - 0.006, "share", n=1672),
        "roc_auc": measured(0.97, "share", n=1672),
        "expected_calibration_error": measured(0.031, "share", n=1672),
        "nll": measured(0.44, "nats", n=1672, ci95=(0.4, 0.48)),
        "agreement_with_teacher": missing("share", "this is the teacher")
        if agree is None
        else measured(agree, "share", n=1672, ci95=(agree - 0.01, agree + 0.01)),
        "parameters": measured(params, "count"),
        "nonzero_parameters": measured(params, "count"),
        "sparsity": derived(0.0, "share", "1 - nonzero_parameters / parameters"),
        "file_bytes": measured(size, "bytes", n=5),
        "file_bytes_compressed": measured(int(size * 0.92), "bytes", n=5),
        "flops": measured(flops, "FLOP", n=1),
        "layers": measured(4, "count"),
    }
    names = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "throughput_per_s", "speedup", "peak_rss_bytes")
    if ms is None:
        return out | {name: missing("ms", LATER) for name in names}
    return out | {
        "latency_p50_ms": measured(ms, "ms", n=200, spread=(ms * 0.97, ms * 1.05)),
        "latency_p95_ms": measured(ms * 1.2, "ms", n=200, spread=(ms * 1.1, ms * 1.3)),
        "latency_p99_ms": missing("ms", "200 calls were timed, a 99th percentile needs 1000"),
        "throughput_per_s": measured(1500 / ms, "per_s", n=60, spread=(1450 / ms, 1520 / ms)),
        "speedup": measured(21.4 / ms, "ratio", n=5, spread=(21 / ms, 22 / ms)),
        "peak_rss_bytes": measured(150e6 + size * 2, "bytes", n=1),
        "foreign_load": measured(0.01, "share", n=10, spread=(0.0, 0.03)),
    }


def history(epochs: int, start: float) -> dict[str, Any]:
    rows = [
        {"epoch": float(e), "step": e * 180.0, "loss_total": start * math.exp(-e / 4) + 0.08,
         "val_loss": start * math.exp(-e / 3) + 0.4 + 0.012 * e, "val_f1_macro": 0.86 - 0.4 * math.exp(-e / 2)}
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    best = rows[epochs // 2]
    return {
        "history": rows,
        "best": best,
        "steps": epochs * 180,
        "seconds": 61.0,
        "threshold": 0.5,
        "stopped_early": False,
    }


def confusion(right: float) -> dict[str, Any]:
    n = [310, 290, 270, 300, 262, 240]
    wrong = [[round((1 - right) * n[i] / 5) for _ in range(6)] for i in range(6)]
    matrix = [[n[i] - 5 * wrong[i][j] if i == j else wrong[i][j] for j in range(6)] for i in range(6)]
    classes = [{"label": x, "precision": right, "recall": right, "f1": right, "support": s, "accuracy": 0.95,
                "roc_auc": 0.97}
               for x, s in zip(LABELS, n, strict=True)]  # fmt: skip
    return {"labels": LABELS, "confusion": matrix, "per_class": classes}


def row(stage: str, f1: float, params: int, size: int, ms: float | None, **more: Any) -> Row:
    facts = confusion(f1) | more.pop("facts", {})
    agree = more.pop("agree", 0.93)
    given = {"artifact": f"stages/{stage}", "device": "cpu", "runtime": "eager", "precision": "fp32", **more}
    return Row(
        stage=stage,
        metrics=metrics(f1, params=params, size=size, ms=ms, flops=params * 40, agree=agree),
        facts=facts,
        **given,
    )


def comparison(reference: str, candidate: str, change: float) -> Comparison:
    low, high = change - 0.008, change + 0.009
    return Comparison(
        reference=reference, candidate=candidate, n=1672, agreement=0.93, change=change, f1_macro_change=change,
        ci95=(low, high), only_reference_right=61, only_candidate_right=50, mcnemar_p=0.34,
        verdict="better" if low > 0 else "worse" if high < 0 else "no detectable change",
    )  # fmt: skip


def build(*, timed: bool = True, complete: bool = True) -> Report:
    def ms(value: float) -> float | None:
        return value if timed else None

    units = [
        {"name": f"layer{i}.{kind}", "kind": kind, "layer": i, "part": part, "before": n, "after": after}
        for i in range(2)
        for kind, part, n, after in (("heads", "attention", 4, 2), ("ffn", "ffn", 512, 256 + 32 * i))
    ]
    rows = [
        row("teacher", 0.871, 11_200_000, 45_300_000, ms(21.4), agree=None, facts={"fit": history(8, 1.6)}),
        row("runtime", 0.871, 11_200_000, 45_100_000, ms(14.2), runtime="onnx", role="reference", source="teacher",
            agree=1.0),
        row("control", 0.846, 2_100_000, 8_800_000, ms(3.9), role="control", source="teacher",
            facts={"fit": history(10, 1.7)}),
        row("distill", 0.866, 2_100_000, 8_800_000, ms(3.9), source="teacher", facts={"fit": history(10, 2.1)}),
        row("prune", 0.858, 1_700_000, 7_200_000, ms(2.6), source="distill",
            facts={"widths": units, "recovery": {"fit": history(3, 0.7)}, "method": "magnitude"}),
        row("export", 0.858, 1_700_000, 7_100_000, ms(1.31), runtime="onnx", role="export", source="prune"),
        row("quantize", 0.857, 1_700_000, 2_300_000, ms(0.83), runtime="onnx", precision="int8", source="prune"),
    ]  # fmt: skip
    recipe = parse(
        {"name": "docstrings", "author": "A. Person", "data": {"path": "x.csv"}, "pipeline": "kd_prune_quant"}
    )
    simple = {
        k: v
        for k, v in metrics(0.861, params=1, size=1, ms=None, flops=1, agree=None).items()
        if "f1" in k or k == "accuracy"
    }
    return Report(
        run_id="docstrings-20260101-120000-abcdef", name="docstrings", complete=complete,
        created="2026-01-01T12:00:00+00:00",
        task="text-classification", pipeline="kd_prune_quant", recipe=recipe.model_dump(mode="json"),
        data={"source": "docstrings", "rows": 8361, "duplicates removed": 12, "digest": "ab12"},
        environment={"device": "cpu", "cpu": "Some CPU 2.0 GHz", "cpu_flags": ["avx512_vnni"], "threads": 2,
                     "versions": {"torch": "2.13.0", "onnxruntime": "1.31.0"}},
        rows=rows,
        baseline=Row(stage="baseline", artifact=None, device="cpu", runtime="scikit-learn", metrics=simple,
                     facts={"method": "TF-IDF of words and characters, logistic regression"}),
        comparisons=[comparison("teacher", "distill", -0.005), comparison("teacher", "quantize", -0.014),
                     comparison("distill", "prune", -0.008), comparison("prune", "quantize", -0.001),
                     comparison("control", "distill", 0.02)],
    )  # fmt: skip


@pytest.fixture
def make_report() -> Callable[..., Report]:
    return build


@pytest.fixture
def make_text_report() -> Callable[..., Report]:
    return report_of


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return row


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    return comparison
