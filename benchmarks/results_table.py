"""Print the result tables of runs as Markdown, as docs/results.md shows them.

python benchmarks/results_table.py runs/demo runs/digits
"""

from __future__ import annotations

import sys
from pathlib import Path

from lessen.report import Report, Row, read
from lessen.report.headline import headline

COLUMNS = ("parameters", "files, MB", "smaller", "p50, ms", "faster")
NAMES = {"f1_macro": "macro-F1", "agreement_with_teacher": "agreement", "bleu": "BLEU", "chrf": "chrF",
         "rouge_l": "ROUGE-L", "bits_per_byte": "bits per byte"}  # fmt: skip
FORMS = {"f1_macro": ".4f", "agreement_with_teacher": ".3f", "rouge_l": ".3f", "bits_per_byte": ".3f"}


def cells(row: Row, teacher: Row, quality: tuple[str, ...]) -> list[str]:
    """Return the cells of a stage; the ratios are to the teacher."""
    size, whole = row.value("file_bytes"), teacher.value("file_bytes")
    shown = [
        *((name, 1, FORMS.get(name, ".2f"), "") for name in quality),
        ("parameters", 1e6, ".2f", " M"),
        ("file_bytes", 1e6, ".2f", ""),
    ]
    found = [(row.value(name), scale, form, unit) for name, scale, form, unit in shown]
    out = [f"{v / scale:{form}}{unit}" if v is not None else "" for v, scale, form, unit in found]
    latency, faster = row.value("latency_p50_ms"), row.value("speedup")
    return [
        f"{row.stage} ({row.runtime}{' ' + row.precision if row.precision else ''})",
        *out,
        f"{whole / size:.1f}x" if size and whole else "",
        f"{latency:.3g}" if latency is not None else "",
        f"{faster:.3g}x" if faster is not None else "",
    ]


def table(report: Report) -> str:
    """Return the table of a report."""
    teacher = report.teacher
    if teacher is None:
        raise SystemExit(f"{report.run_id} has no teacher")
    quality = headline(report).columns
    rows = [cells(r, teacher, quality) for r in ([report.baseline] if report.baseline else []) + report.rows]
    names = ("stage", *(NAMES.get(name, name) for name in quality), *COLUMNS)
    lines = [names, ("---",) * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print a table for every run folder given."""
    for folder in sys.argv[1:]:
        report = read(Path(folder))
        n = report.teacher.metrics[headline(report).metric].n if report.teacher else None
        print(f"### {report.name}\n\n{report.created[:10]}, {report.pipeline}, {n} test samples.\n\n{table(report)}\n")


if __name__ == "__main__":
    main()
