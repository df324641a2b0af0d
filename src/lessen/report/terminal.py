"""The report as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen.report.numbers import DASH, number, show
from lessen.report.rows import Report, Row
from lessen.report.tables import compression, speedup

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("macro-F1", "agree", "params", "files", "smaller", "latency p50", "faster", "peak memory")


def table(report: Report) -> Table:
    """Return one line a row: quality, size, speed; the simple baseline's quality comes first."""
    from rich.table import Table

    out = Table(
        title=f"{report.name}: {report.pipeline}", title_justify="left", caption=caption(report), caption_justify="left"
    )
    out.add_column("stage")
    out.add_column("runtime")
    for name in _COLUMNS:
        out.add_column(name, justify="right", no_wrap=True)
    if report.baseline is not None:
        cells = [show(report.baseline.metrics.get("f1_macro")), *[DASH] * (len(_COLUMNS) - 1)]
        out.add_row("baseline", "scikit-learn", *cells, style="dim")
    final = report.final
    for row in report.rows:
        out.add_row(*cells_of(report, row), style="bold" if row is final else "dim" if row.role != "main" else "")
    return out


def cells_of(report: Report, row: Row) -> list[str]:
    """Return the texts of one line."""
    smaller, faster = compression(report, row), speedup(report, row)
    ratios = [DASH if r is None else number(r, "ratio") for r in (smaller, faster)]
    shown = {name: show(row.metrics.get(name)) for name in ("f1_macro", "agreement_with_teacher", "parameters",
             "file_bytes", "latency_p50_ms", "peak_rss_bytes")}  # fmt: skip
    return [
        row.stage, f"{row.runtime} {row.precision or ''}".strip(), shown["f1_macro"], shown["agreement_with_teacher"],
        shown["parameters"], shown["file_bytes"], ratios[0], shown["latency_p50_ms"], ratios[1],
        shown["peak_rss_bytes"],
    ]  # fmt: skip


def caption(report: Report) -> str:
    """Return what the numbers were taken on, and the result in words."""
    env, test = report.environment, report.data.get("test")
    size = test if isinstance(test, int) else (report.teacher.metrics["f1_macro"].n if report.teacher else None)
    threads = env.get("threads", "?")
    counted = f"{threads} thread{'' if threads == 1 else 's'}"
    where = f"{env.get('device', 'cpu')}, {env.get('cpu', 'unknown processor')}, {counted}, batch 1"
    told = next((v.text for v in report.verdicts if v.subject == "result"), "")
    return f"{size if size is not None else '?'} test samples; {where}" + (f"\n{told}" if told else "")
