"""What a report adds to the model cards of what its run exported: scores, costs, verdicts and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lessen.artifact import CARD, MANIFEST, Artifact, recard
from lessen.export import card
from lessen.models import hub
from lessen.report.numbers import DASH, show, title
from lessen.report.rows import Report, Row

_SHOWN = (
    "accuracy", "f1_macro", "f1_weighted", "bleu", "chrf", "rouge_l", "exact_match", "perplexity", "nll_per_token",
    "bits_per_byte", "token_accuracy", "agreement_with_teacher", "kl_to_teacher", "expected_calibration_error",
    "parameters", "active_parameters", "nonzero_parameters", "file_bytes", "file_bytes_compressed", "flops",
    "latency_p50_ms", "latency_p95_ms", "first_token_ms", "token_ms", "tokens_per_s", "throughput_per_s",
    "peak_rss_bytes",
)  # fmt: skip
_OF_EVERY_FORM = _SHOWN[: _SHOWN.index("file_bytes")]  # quality and parameters
# the hub's names of metrics
_SCORES = (
    ("accuracy", "accuracy"), ("f1", "f1_macro"), ("bleu", "bleu"), ("chrf", "chrf"), ("rougeL", "rouge_l"),
    ("perplexity", "perplexity"),
)  # fmt: skip


def complete_cards(report: Report, out_dir: Path) -> list[Path]:
    """Write the cards of a run's exported and quantized models anew, with what was measured.

    Args:
        report: complete; a card says nothing of speed that is still to be measured.
        out_dir: the run's folder.

    Returns:
        The folders whose card was written.
    """
    done = []
    for manifest in sorted([*out_dir.glob(f"stages/*/{MANIFEST}"), *out_dir.glob(f"stages/*/*/{MANIFEST}")]):
        artifact = Artifact(manifest.parent)
        if CARD not in artifact.manifest.files or "format" not in artifact.manifest.facts:
            continue
        recard(artifact, card.text(artifact.path, artifact.manifest, measured(report, artifact, out_dir)))
        done.append(artifact.path)
    return done


def measured(report: Report, artifact: Artifact, out_dir: Path) -> card.Measured:
    """Return what a report knows of an exported model; of one without a row what it knows of its source."""
    place = artifact.path.relative_to(out_dir).as_posix()
    row = next((r for r in report.rows if r.artifact == place), None)
    own = row is not None
    if row is None:
        like = report.row(artifact.manifest.stage)
        row = report.row(like.source) if like is not None and like.source else None
    front: dict[str, Any] = {}
    path = report.recipe.get("data", {}).get("path")
    known = str(path) if report.data.get("source") == "hub" and hub.is_id(str(path)) else None
    if known:
        front["datasets"] = [known]
    if row is not None:
        front |= _index(report, row, artifact, known)
    lines = _table(report, row, own) if row is not None else []
    return card.Measured(str(report.recipe.get("teacher", {}).get("model")), front, [*lines, *_told(report)])


def _index(report: Report, row: Row, artifact: Artifact, known: str | None) -> dict[str, Any]:
    """Return the scores in the hub's form of results."""
    scores = [
        {"type": kind, "value": round(value, 6), "name": title(name)}
        for kind, name in _SCORES
        if (value := row.value(name)) is not None
    ]
    if not scores:
        return {}
    task = artifact.info.task
    data = {"name": known or _source(report), "type": known or "other", "split": "test"}
    results = {"task": {"type": card.HUB.get(task, task)}, "dataset": data, "metrics": scores}
    return {"model-index": [{"name": report.name, "results": [results]}]}


def _source(report: Report) -> str:
    path = report.recipe.get("data", {}).get("path")
    return Path(str(path)).name if path else str(report.data.get("source", "data"))


def _table(report: Report, row: Row, own: bool) -> list[str]:
    teacher = report.teacher
    lines = ["## Measured", "", "| | this model | teacher |", "|---|---:|---:|"]
    for name in _SHOWN:
        if name in row.metrics and (own or name in _OF_EVERY_FORM):
            other = DASH if teacher is None or teacher is row else show(teacher.metrics.get(name))
            lines.append(f"| {title(name)} | {show(row.metrics[name], interval=True)} | {other} |")
    env = report.environment
    where = f"{row.device} ({text(env.get('cpu'))}, {env.get('threads')} threads), {row.runtime} runtime"
    of = "" if own else f" on the {row.stage} stage that this was written from"
    return [*lines, "", f"Measured{of} on {where}. Brackets are bootstrap 95 % intervals.", ""]


def _told(report: Report) -> list[str]:
    verdicts = [f"- {text(v.text)}" for v in report.verdicts]
    rows = report.data.get("rows")
    data = [f"- {name}: {n:,} samples" for name, n in rows.items()] if isinstance(rows, dict) else []
    digest = report.data.get("digest")
    author = report.recipe.get("author")
    run = f"Run {text(report.run_id)} of {text(report.name)} ({report.pipeline}), {report.created}"
    return [
        *(["## What the run showed", "", *verdicts, ""] if verdicts else []),
        "## Data",
        "",
        f"{text(_source(report))}{f', digest `{digest[:16]}`' if digest else ''}; quality is that of the test split.",
        "",
        *([*data, ""] if data else []),
        f"{run}{f', by {text(author)}' if author else ''}.",
        "",
    ]


def text(value: Any) -> str:
    """Return text that Markdown shows as it stands, on one line."""
    flat = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in flat)
