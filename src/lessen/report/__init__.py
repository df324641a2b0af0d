"""The report of a run: report.json, and what follows from it: CSVs, HTML, model cards, terminal table, gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessen.report.cards import complete_cards
    from lessen.report.detailed import detailed_metrics
    from lessen.report.files import read, write
    from lessen.report.gates import Bounds, Gate, check, junit
    from lessen.report.predictions import Predictions, read_predictions
    from lessen.report.rows import Report, Row, Warned, make_row, pairs
    from lessen.report.runs import compare
    from lessen.report.terminal import table

_HOME = {
    "Bounds": "gates", "Gate": "gates", "Report": "rows", "Row": "rows", "Warned": "rows", "check": "gates",
    "compare": "runs", "complete_cards": "cards",
    "detailed_metrics": "detailed", "junit": "gates", "make_row": "rows", "pairs": "rows", "read": "files",
    "Predictions": "predictions", "read_predictions": "predictions", "table": "terminal", "write": "files",
}  # fmt: skip
__all__ = [
    "Bounds", "Gate", "Predictions", "Report", "Row", "Warned", "check", "compare", "complete_cards",
    "detailed_metrics", "junit", "make_row", "pairs", "read", "read_predictions", "table", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'lessen.report' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"lessen.report.{_HOME[name]}"), name)
