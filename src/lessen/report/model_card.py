"""The model card: README.md with front matter, as the hub reads it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from lessen.info import generates
from lessen.report.numbers import DASH, show, title
from lessen.report.rows import Report, Row

_SHOWN = (
    "accuracy", "f1_macro", "f1_weighted", "bleu", "chrf", "rouge_l", "exact_match", "perplexity", "nll_per_token",
    "bits_per_byte", "token_accuracy", "agreement_with_teacher", "kl_to_teacher", "expected_calibration_error",
    "parameters", "active_parameters", "nonzero_parameters", "file_bytes", "file_bytes_compressed", "flops",
    "latency_p50_ms", "latency_p95_ms", "first_token_ms", "token_ms", "tokens_per_s", "throughput_per_s",
    "peak_rss_bytes",
)  # fmt: skip
# the hub's names of metrics and tasks
_SCORES = (
    ("accuracy", "accuracy"), ("f1", "f1_macro"), ("bleu", "bleu"), ("chrf", "chrf"), ("rougeL", "rouge_l"),
    ("perplexity", "perplexity"),
)  # fmt: skip
_TASKS = {"seq2seq": "text2text-generation", "causal-lm": "text-generation"}


def card(report: Report, stage: str | None = None) -> str:
    """Return the model card of a stage's artifact, the final one when absent."""
    row = report.row(stage) if stage else report.final
    if row is None:
        return f"---\nlibrary_name: lessen\n---\n\n# {_text(report.name)}\n\nNothing has been measured yet.\n"
    return "\n".join([_front(report, row), "", *_body(report, row), ""])


def _front(report: Report, row: Row) -> str:
    source = report.recipe.get("teacher", {}).get("model")
    scores = [
        {"type": kind, "value": round(value, 6), "name": title(name)}
        for kind, name in _SCORES
        if (value := row.value(name)) is not None
    ]
    data: dict[str, Any] = {
        "library_name": "lessen",
        "pipeline_tag": _TASKS.get(report.task, report.task),
        "tags": ["lessen", "model-compression", *[r.stage for r in report.main if r.stage != "teacher"]],
    }
    if isinstance(source, str) and not source.startswith(("scratch:", "/", ".")):
        data["base_model"] = source
    if scores:
        data["model-index"] = [
            {
                "name": report.name,
                "results": [
                    {
                        "task": {"type": _TASKS.get(report.task, report.task)},
                        "dataset": {"name": str(report.data.get("source", "data")), "type": "other", "split": "test"},
                        "metrics": scores,
                    }
                ],
            }
        ]
    return "---\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True) + "---"


def _body(report: Report, row: Row) -> list[str]:
    author = report.recipe.get("author")
    lines = [f"# {_text(report.name)}", ""]
    if author:
        lines += [f"By {_text(author)}.", ""]
    lines += [f"A {report.task} model, made with lessen ({report.pipeline}); this is its {row.stage} stage.", ""]
    teacher = report.teacher
    lines += ["| | this model | teacher |", "|---|---:|---:|"]
    for name in _SHOWN:
        if name in row.metrics:
            other = DASH if teacher is None or teacher is row else show(teacher.metrics.get(name))
            lines.append(f"| {title(name)} | {show(row.metrics[name], interval=True)} | {other} |")
    lines += [
        "",
        f"Measured on {_where(report, row)}. Brackets are bootstrap 95 % intervals.",
        "",
        "## What the run showed",
        "",
    ]
    lines += [f"- {_text(v.text)}" for v in report.verdicts] or ["Nothing yet."]
    labels = ", ".join(_text(x) for x in row.facts.get("labels", []))
    named = [] if generates(report.task) and not labels else [f"Labels: {labels or 'not recorded'}.", ""]
    lines += ["", "## Data", "", *named, "```json", _json(report.data), "```", ""]
    lines += ["## Use", "", "```python", "import lessen", "", f"model = lessen.load({row.artifact!r})"]
    asks = "model.generate([...], max_new_tokens=64)" if generates(report.task) else "model.predict([...])"
    return [*lines, f"print({asks})", "```"]


def _where(report: Report, row: Row) -> str:
    env = report.environment
    return f"{row.device} ({env.get('cpu')}, {env.get('threads')} threads), {row.runtime} runtime"


def _text(value: Any) -> str:
    """Return text that Markdown shows as it stands, on one line."""
    flat = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in flat)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).replace("```", "'''")
