"""The report as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen.info import generates
from lessen.report.headline import headline
from lessen.report.numbers import DASH, number, show, title
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup

if TYPE_CHECKING:
    from rich.table import Table

_HEADS = {"agreement_with_teacher": "agree", "parameters": "params", "peak_rss_bytes": "peak memory"}


def columns(report: Report) -> tuple[str, ...]:
    """Return the metrics of a line: the task's own, then size and speed; tokens where the model generates."""
    tokens = ("token_ms",) if generates(report.task) else ()
    return (
        headline(report).metric, "agreement_with_teacher", "parameters", "file_bytes", "smaller", "latency_p50_ms",
        "faster", *tokens, "peak_rss_bytes",
    )  # fmt: skip


def table(report: Report) -> Table:
    """Return one line a row: quality, size, speed; the simple baseline's quality comes first."""
    from rich.table import Table

    out = Table(
        title=f"{report.name}: {report.pipeline}", title_justify="left", caption=caption(report), caption_justify="left"
    )
    out.add_column("stage")
    out.add_column("runtime")
    for name in columns(report):
        out.add_column(_HEADS.get(name) or title(name), justify="right", no_wrap=True)
    if report.baseline is not None:
        cells = [show(report.baseline.metrics.get(name)) for name in columns(report)]
        out.add_row("baseline", report.baseline.runtime, *cells, style="dim")
    final = report.final
    for row in report.rows:
        out.add_row(*cells_of(report, row), style="bold" if row is final else "dim" if row.role != "main" else "")
    return out


def cells_of(report: Report, row: Row) -> list[str]:
    """Return the texts of one line."""
    ratios = {"smaller": compression(report, row), "faster": speedup(report, row)}
    shown = {name: DASH if r is None else number(r, "ratio") for name, r in ratios.items()}
    cells = [shown[name] if name in shown else show(row.metrics.get(name)) for name in columns(report)]
    return [row.stage, f"{row.runtime} {row.precision or ''}".strip(), *cells]


def caption(report: Report) -> str:
    """Return what the numbers were taken on, and the result in words."""
    env, test = report.environment, report.data.get("test")
    first = report.teacher.metrics.get(headline(report).metric) if report.teacher else None
    size = test if isinstance(test, int) else first.n if first else None
    threads = env.get("threads", "?")
    counted = f"{threads} thread{'' if threads == 1 else 's'}"
    where = f"{env.get('device', 'cpu')}, {env.get('cpu', 'unknown processor')}, {counted}, batch 1"
    told = next((v.text for v in report.verdicts if v.subject == "result"), "")
    return f"{size if size is not None else '?'} test samples; {where}" + (f"\n{told}" if told else "")
