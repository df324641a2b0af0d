"""Rows to answer: texts of a table or a text file, images of a file or a folder. Imports no torch."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lessen.data.columns import TEXT_NAMES
from lessen.data.images import SUFFIXES, decode
from lessen.errors import DataError


def read(
    path: Path, kind: Literal["text", "image"], column: str | None = None, *, header: bool = True
) -> Sequence[str] | Sequence[Path]:
    """Return the rows of a file in order: texts, or paths of images.

    Args:
        column: the text's column, by name or by number from 0; found by its usual names when absent.
        header: whether the first row of a CSV or TSV file names the columns.

    Raises:
        DataError: the file is missing, empty, not of this kind, or has no such column.
    """
    if not path.exists():
        raise DataError(f"there is no file {path}", "give the path of the rows to answer")
    rows = _images(path) if kind == "image" else _texts(path, column, header)
    if not rows:
        raise DataError(f"{path} has no rows", f"give {'images' if kind == 'image' else 'texts'} to answer")
    return rows


def content(row: str | Path) -> Any:
    """Return what the processor takes: a text as it is, the pixels of an image file (uint8 RGB)."""
    return decode(row, str(row)) if isinstance(row, Path) else row


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is not an image, and this model reads images", f"give one of {', '.join(SUFFIXES)}")
    return [path]


def _texts(path: Path, column: str | None, header: bool) -> list[str]:
    if path.is_dir():
        raise DataError(f"{path} is a folder, and this model reads texts", "give a CSV, TSV, JSON lines or text file")
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv", ".tab"):
            return _table(path, column, header)
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from None
    return _json_lines(path, text, column) if suffix in (".jsonl", ".json", ".ndjson") else text.splitlines()


def _table(path: Path, column: str | None, header: bool) -> list[str]:
    csv.field_size_limit(sys.maxsize)
    comma = path.suffix.lower() == ".csv"
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(
            csv.reader(
                stream, "excel" if comma else "excel-tab", quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE
            )
        )
    rows = [row for row in rows if row]
    if not rows:
        return []
    names = rows[0] if header else [str(i) for i in range(len(rows[0]))]
    chosen = _column(path, names, column if header else column or "0")
    cells = rows[1:] if header else rows
    return [row[chosen] if chosen < len(row) else "" for row in cells]


def _json_lines(path: Path, text: str, column: str | None) -> list[str]:
    values = [_json(path, number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if all(isinstance(value, str) for value in values):
        return values
    if not all(isinstance(value, dict) for value in values):
        raise DataError(
            f"{path} has rows that are neither strings nor objects", "give one string, or one object, a line"
        )
    names = list(values[0])
    name = names[_column(path, names, column)]
    missing = next((i for i, value in enumerate(values, start=1) if not isinstance(value.get(name), str)), None)
    if missing is not None:
        raise DataError(f"{path} row {missing} has no text in {name!r}", "give every row a text")
    return [value[name] for value in values]


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {number} is not JSON: {error.msg}", "give one JSON value a line") from None


def _column(path: Path, names: list[str], column: str | None) -> int:
    if column is not None:
        if column in names:
            return names.index(column)
        if column.isdigit() and int(column) < len(names):
            return int(column)
        raise DataError(f"{path} has no column {column!r}; it has {', '.join(names)}", "name one of these")
    folded = [name.strip().casefold() for name in names]
    found = [folded.index(known) for known in TEXT_NAMES if known in folded]
    if not found:
        raise DataError(
            f"{path} has no column that looks like the text; it has {', '.join(names)}",
            "name it with --column; --no_header where the first row is data",
        )
    return found[0]
