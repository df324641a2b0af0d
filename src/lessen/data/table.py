"""What a source returns: rows with labels, before anything is dropped or split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lessen.errors import DataError

Kind = Literal["text", "image"]
Form = Literal["labels", "pairs", "documents"]
Label = str | tuple[int, ...]  # a class, or a 0/1 flag for each of several labels; pairs: the target
Spans = tuple[tuple[int, int], ...]  # [start, end) in characters
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Table:
    """Rows in the order of their source.

    Attributes:
        kind: what the inputs are.
        inputs: texts, or images (bytes, paths or pixels); None where missing.
        labels: class names, or 0/1 flags where several labels hold at once; None where missing.
        places: where each row comes from, for messages ("row 3 of data.csv").
        parts: train, validation or test for each row where the source says so.
        classes: class names in the source's own order, where it has one; multi-label: of the flags.
        facts: for the report.
        form: what a row is: an input with its label, a source with its target (in `labels`), or a document.
        spans: documents: what of each is learned, where not everything is; () for everything.
    """

    kind: Kind
    inputs: Sequence[Any]
    labels: Sequence[Label | None]
    places: Sequence[str]
    parts: Sequence[str] | None = None
    classes: tuple[str, ...] | None = None
    multi_label: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "labels"
    spans: Sequence[Spans] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)


def kind_of(task: str) -> Kind:
    """Return what a task's inputs are."""
    return "image" if task.startswith("image") else "text"


def holds(kind: Kind, task: str, source: str) -> None:
    """Raise DataError unless a source of this kind serves the task."""
    if kind_of(task) != kind:
        raise DataError(
            f"source {source} holds {kind}s, the task is {task}",
            f"set task to {kind}-classification, or choose another source",
        )


def join(tables: Iterable[tuple[str, Table]]) -> Table:
    """Return tables one below the other; `part` is that of rows whose own table says none.

    Raises:
        DataError: they hold different things.
    """
    pairs = list(tables)
    first = pairs[0][1]
    for _, table in pairs:
        if _form(table) != _form(first):
            raise DataError(
                f"{table.facts.get('path')} and {first.facts.get('path')} hold different things: "
                f"{table.kind}s and {first.kind}s, or other labels",
                "give files of the same form",
            )
    return Table(
        kind=first.kind,
        inputs=[x for _, t in pairs for x in t.inputs],
        labels=[x for _, t in pairs for x in t.labels],
        places=[x for _, t in pairs for x in t.places],
        parts=[x for part, t in pairs for x in (t.parts or [part] * len(t))],
        classes=first.classes,
        multi_label=first.multi_label,
        facts=first.facts,
        form=first.form,
        spans=[x for _, t in pairs for x in (t.spans or [()] * len(t))] if first.form == "documents" else None,
    )


def _form(table: Table) -> tuple[Any, ...]:
    return table.kind, table.form, table.multi_label, table.multi_label and table.classes
