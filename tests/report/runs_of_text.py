"""Plausible reports of runs on sequences, made of numbers that were not measured: for the shape of the report only."""

from __future__ import annotations

import math
from typing import Any

from lessen.measure.metric import Comparison, Metric, derived, judged, measured, missing
from lessen.measure.speed import LATER
from lessen.recipe import parse
from lessen.report.rows import Report, Row

ENVIRONMENT = {"device": "cpu", "cpu": "Some CPU", "cpu_flags": [], "threads": 1, "versions": {"torch": "2.13.0"}}


def size_and_speed(params: int, size: int, ms: float | None) -> dict[str, Metric]:
    out = {
        "parameters": measured(params, "count"),
        "active_parameters": derived(params, "count", "a dense model: every parameter"),
        "nonzero_parameters": measured(params, "count"),
        "sparsity": derived(0.0, "share", "1 - nonzero_parameters / parameters"),
        "file_bytes": measured(size, "bytes", n=5),
        "flops": measured(params * 80, "FLOP", n=1),
        "layers": measured(4, "count"),
    }
    times = ("latency_p50_ms", "first_token_ms", "token_ms", "tokens_per_s", "speedup", "peak_rss_bytes")
    if ms is None:
        return out | {name: missing("ms", LATER) for name in times}
    return out | {
        "latency_p50_ms": measured(ms, "ms", n=50, spread=(ms * 0.97, ms * 1.05)),
        "answer_tokens": measured(32, "tokens"),
        "first_token_ms": measured(ms / 10, "ms", n=50, spread=(ms / 11, ms / 9)),
        "token_ms": measured(ms / 36, "ms", n=1550, spread=(ms / 37, ms / 35)),
        "tokens_per_s": measured(32e3 / ms, "per_s", n=50, spread=(31e3 / ms, 33e3 / ms)),
        "speedup": measured(200 / ms, "ratio", n=5, spread=(195 / ms, 205 / ms)),
        "peak_rss_bytes": measured(150e6 + size * 2, "bytes", n=1),
    }


def likelihood(nll: float, end: str = "") -> dict[str, Metric]:
    return {
        f"nll_per_token{end}": measured(nll, "nats", n=120, ci95=(nll - 0.05, nll + 0.05)),
        f"perplexity{end}": measured(math.exp(nll), "perplexity", n=120,
                                     ci95=(math.exp(nll - 0.05), math.exp(nll + 0.05))),
        f"bits_per_byte{end}": measured(nll / 2.8, "bits", n=120),
        f"token_accuracy{end}": measured(1 - nll / 6, "share", n=120),
        f"tokens_scored{end}": measured(24_000, "tokens", n=120),
    }  # fmt: skip


def overlap(bleu: float) -> dict[str, Metric]:
    return {
        "bleu": measured(bleu, "points", n=200, ci95=(bleu - 1.2, bleu + 1.1)),
        "chrf": measured(bleu + 20, "points", n=200, ci95=(bleu + 19, bleu + 21)),
        "rouge_l": measured(bleu / 60, "share", n=200),
        "exact_match": measured(0.02, "share", n=200),
    }


def row(task: str, stage: str, score: float, params: int, size: int, ms: float | None, **more: Any) -> Row:
    own = likelihood(score) | likelihood(score + 0.4, "_wikitext") if task == "causal-lm" else overlap(score)
    if task == "seq2seq":
        own |= likelihood(4 - score / 12)
    near = measured(0.8, "share", n=120) if stage != "teacher" else missing("share", "this is the teacher")
    facts = more.pop("facts", {})
    if task == "seq2seq":
        facts["examples"] = [{"source": "a <b>", "reference": "c & d", "generated": f"{stage} <i>"}]
    given = {"artifact": f"stages/{stage}", "device": "cpu", "runtime": "eager", "precision": "fp32", **more}
    return Row(
        stage=stage,
        metrics=own | size_and_speed(params, size, ms) | {"agreement_with_teacher": near, "token_agreement": near},
        facts=facts,
        **given,
    )


def comparison(reference: str, candidate: str, metric: str, change: float) -> Comparison:
    lower, wide = metric == "nll_per_token", 0.01 if metric == "nll_per_token" else 0.5
    ends = change - wide, change + wide
    return Comparison(
        reference=reference, candidate=candidate, n=120, metric=metric, unit="nats" if lower else "points",
        change=change, lower_is_better=lower, ci95=ends, verdict=judged(ends, lower_is_better=lower),
    )  # fmt: skip


def report_of(task: str, *, timed: bool = True) -> Report:
    """Return the report of a finished run: teacher, control, distill, prune, quantize."""
    lm = task == "causal-lm"
    scores = (3.2, 3.9, 3.5, 3.55, 3.56) if lm else (28.0, 19.0, 24.0, 23.0, 22.9)
    metric = "nll_per_token" if lm else "bleu"
    history = [{"epoch": float(e), "loss_total": 5 / e, "val_loss": 5.2 / e} for e in range(1, 5)]
    fit = {"history": history, "best": history[-1], "steps": 400, "stopped_early": False}

    def made(at: int, stage: str, params: int, size: int, ms: float, **more: Any) -> Row:
        return row(task, stage, scores[at], params, size, ms if timed else None, **more)

    rows = [
        made(0, "teacher", 11_000_000, 44_000_000, 200, facts={"fit": fit}),
        made(1, "control", 2_000_000, 8_000_000, 40, role="control", source="teacher"),
        made(2, "distill", 2_000_000, 8_000_000, 40, source="teacher", facts={"fit": fit}),
        made(3, "prune", 1_500_000, 6_000_000, 30, source="distill"),
        made(4, "quantize", 1_500_000, 1_600_000, 12, runtime="onnx", precision="int8", source="prune"),
    ]
    simple = likelihood(4.4) if lm else overlap(6.0)
    simple.pop("token_accuracy", None)
    pairs = (("teacher", "distill", 0, 2), ("distill", "prune", 2, 3), ("prune", "quantize", 3, 4),
             ("control", "distill", 1, 2), ("teacher", "quantize", 0, 4))  # fmt: skip
    recipe = parse({"name": "texts", "task": task, "data": {"path": "x.csv"}, "pipeline": "kd_prune_quant"})
    return Report(
        run_id="texts-1", name="texts", complete=True, created="2026-01-01T12:00:00+00:00", task=task,
        pipeline="kd_prune_quant", recipe=recipe.model_dump(mode="json"), data={"source": "texts", "digest": "ab"},
        environment=ENVIRONMENT, rows=rows,
        baseline=Row(stage="baseline", artifact=None, device="cpu", runtime="counts", metrics=simple,
                     facts={"method": "trigrams" if lm else "the source, copied"}),
        comparisons=[comparison(a, b, metric, scores[j] - scores[i]) for a, b, i, j in pairs],
    )  # fmt: skip
