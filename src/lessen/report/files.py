"""Write a report in all its forms; report.json is the one the others follow from."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from lessen.context import write_atomic
from lessen.errors import ArtifactError
from lessen.report.attribution import attribution
from lessen.report.rows import SCHEMA_VERSION, Report, Row
from lessen.report.sections import sections
from lessen.report.tables import write_tables
from lessen.report.words import verdicts

_MADE_FROM = {
    "prune": ("distill", "teacher"),
    "random": ("distill", "teacher"),
    "export": ("prune", "distill", "teacher"),
    "quantize": ("prune", "distill", "teacher"),
}


def complete(report: Report) -> Report:
    """Return the report with what follows from its rows: sources, attribution, verdicts, sections."""
    linked = report.model_copy(update={"rows": [_linked(row, report.rows) for row in report.rows]})
    with_steps = linked.model_copy(update={"attribution": attribution(linked)})
    judged = with_steps.model_copy(update={"verdicts": verdicts(with_steps)})
    return judged.model_copy(update={"sections": sections(judged)})


def write(report: Report, out_dir: Path) -> Report:
    """Write report.json, report.html and the CSVs, each atomically; call it after every stage and at the end.

    Returns:
        The report as written.
    """
    from lessen.report.html import html

    full = complete(report)
    write_atomic(out_dir / "report.json", full.model_dump_json(indent=2) + "\n")
    write_tables(full, out_dir)
    write_atomic(out_dir / "report.html", html(full))
    return full


def read(path: Path) -> Report:
    """Read a report.json, or that of a run's folder.

    Raises:
        ArtifactError: it is missing, damaged, or of another major version.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"no report at {file}", "give a run's folder or its report.json") from None
    except (ValidationError, OSError) as error:
        first = str(error).splitlines()[0]
        raise ArtifactError(f"{file} is not a report of version {SCHEMA_VERSION}: {first}", "make it again") from None


def _linked(row: Row, rows: list[Row]) -> Row:
    if row.source is not None or row.stage not in _MADE_FROM:
        return row
    there = {r.stage for r in rows}
    source = next((name for name in _MADE_FROM[row.stage] if name in there), None)
    return row.model_copy(update={"source": source})
