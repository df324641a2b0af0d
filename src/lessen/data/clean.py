"""What is dropped before splitting, and counted: missing rows, duplicates, texts whose labels contradict.

Two texts are the same where they are equal after NFC normalisation and collapsing of white space; two images where
their files' bytes (or pixels) are. Of a text that stands more than once, one row stays, with the label that most of
its rows have; where no label has most, all are dropped.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lessen.data.images import decode, image_digest
from lessen.data.table import Label, Table
from lessen.errors import DataError

ID_DIGITS = 16  # hex digits of a sample's id


@dataclass(frozen=True)
class Clean:
    """Rows that stay, each content once.

    Attributes:
        inputs: texts or raw images.
        labels: of the rows; none missing.
        ids: content hashes, unique.
        places: for messages.
        parts: "" where the row is still to be split, else train, validation or test.
        facts: what was dropped.
    """

    inputs: list[Any]
    labels: list[Label]
    ids: list[str]
    places: list[str]
    parts: list[str]
    facts: dict[str, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)


def clean(table: Table, allowed: Sequence[str]) -> Clean:
    """Drop missing rows and duplicates of a table.

    Args:
        table: with a part for every row.
        allowed: labels there may be; empty: any.

    Raises:
        DataError: no row stays, a label is not allowed, or an image is broken.
    """
    kept = _present(table)
    if allowed and not table.multi_label:
        _check_labels(table, kept, allowed)
    keys = {row: _key(table, row) for row in kept}
    parts = table.parts or [""] * len(table)
    groups: dict[str, dict[str, list[int]]] = {}
    for row in kept:
        groups.setdefault(parts[row], {}).setdefault(keys[row], []).append(row)
    settled = {part: _settle(table, rows) for part, rows in groups.items()}
    leaked = remove_leaks(settled)
    chosen = sorted(row for part in settled.values() for row, _ in part.values())
    label_of = {row: label for part in settled.values() for row, label in part.values()}
    once = sum(len(rows) for rows in groups.values())
    conflicts = [rows for part in groups.values() for rows in part.values() if _differ(table, rows)]
    dropped = [rows for part in groups.values() for rows in part.values() if _majority(table, rows) is None]
    return Clean(
        inputs=[table.inputs[row] for row in chosen],
        labels=[label_of[row] for row in chosen],
        ids=[_id(table, row, keys[row]) for row in chosen],
        places=[table.places[row] for row in chosen],
        parts=[parts[row] for row in chosen],
        facts={
            "rows_read": len(table),
            "missing_dropped": len(table) - len(kept),
            "duplicates_removed": len(kept) - once,
            "conflicting_texts": len(conflicts),
            "conflicting_texts_dropped": len(dropped),
            "removed_from_train": leaked["train"],
            "removed_from_validation": leaked["validation"],
            "rows_used": len(chosen),
        },
    )


def normal_form(text: str) -> str:
    """Return a text as duplicates are recognised: NFC, white space collapsed."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _present(table: Table) -> list[int]:
    """Return the rows that have an input and a label."""
    name = table.facts.get("path", "the data")
    if not len(table):
        raise DataError(f"{name} has no rows", "give a file with rows")
    if all(x is None for x in table.inputs):
        raise DataError(f"every {table.kind} of {name} is empty", f"check data.{table.kind}_column")
    if all(x is None for x in table.labels):
        raise DataError(f"every label of {name} is empty", "check data.label_column")
    pairs = enumerate(zip(table.inputs, table.labels, strict=True))
    kept = [row for row, (x, y) in pairs if x is not None and y is not None]
    if not kept:
        raise DataError(f"no row of {name} has both {table.kind} and label", "check the columns")
    return kept


def _check_labels(table: Table, kept: Sequence[int], allowed: Sequence[str]) -> None:
    for row in kept:
        if table.labels[row] not in allowed:
            raise DataError(
                f"{table.places[row]} has label {table.labels[row]!r}; allowed are {', '.join(allowed)}",
                "mend the row, or add the label to data.labels",
            )


def _key(table: Table, row: int) -> str:
    value = table.inputs[row]
    if table.kind == "text":
        return normal_form(value)
    decode(value, table.places[row])  # broken images are found now, not in the middle of training
    return image_digest(value)


def _id(table: Table, row: int, key: str) -> str:
    digest = hashlib.sha256(table.inputs[row].encode()).hexdigest() if table.kind == "text" else key
    return digest[:ID_DIGITS]


def _settle(table: Table, groups: dict[str, list[int]]) -> dict[str, tuple[int, Label]]:
    """Return the row and the label that stand for each content; contents without a majority are left out."""
    out: dict[str, tuple[int, Label]] = {}
    for key, rows in groups.items():
        label = _majority(table, rows)
        if label is not None:
            out[key] = (_representative(table, rows), label)
    return out


def _representative(table: Table, rows: Sequence[int]) -> int:
    """Return the row that stays: not the first, so that the order of the file does not matter."""
    if table.kind == "image":
        return rows[0]
    return min(rows, key=lambda row: (str(table.inputs[row]), row))


def _majority(table: Table, rows: Sequence[int]) -> Label | None:
    counts = Counter(label for row in rows if (label := table.labels[row]) is not None)
    (label, most), *others = counts.most_common(2)
    return None if others and others[0][1] == most else label


def _differ(table: Table, rows: Sequence[int]) -> bool:
    return len({table.labels[row] for row in rows}) > 1


def remove_leaks(settled: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Remove from train what stands in validation or test, and from validation what stands in test; count it."""
    counts: dict[str, int] = defaultdict(int)
    held_out = set(settled.get("test", ()))
    for part, later in (("validation", held_out), ("train", held_out | set(settled.get("validation", ())))):
        for name in (part, "") if part == "train" else (part,):
            for key in later & set(settled.get(name, ())):
                del settled[name][key]
                counts[part] += 1
    return counts
