"""JSON lines, a JSON array of objects, or a JSON object of columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lessen import recipe
from lessen.data.columns import Grid, to_table
from lessen.data.files import existing, read_text
from lessen.data.table import Table
from lessen.errors import DataError

SUFFIXES = (".json", ".jsonl", ".ndjson")


def read(cfg: recipe.Data, task: str) -> Table:
    """Read a JSON file; the keys of its objects are the columns.

    A file that is not one JSON value is read as JSON lines. A key that an object lacks is missing there.

    Raises:
        DataError: the file is absent, not JSON (with the line), or holds something else than objects.
    """
    path = existing(cfg.path)
    rows = _rows(path, read_text(path, cfg.encoding))
    names = tuple(dict.fromkeys(str(key) for row in rows for key in row))
    facts = {"encoding": cfg.encoding}
    return to_table(Grid(names, lambda at: [row.get(names[at]) for row in rows], str(path), facts=facts), cfg, task)


def _rows(path: Path, text: str) -> Sequence[Mapping[str, Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
            raise DataError(f"{path} is not JSON: {error}", "mend the file") from None
        whole = [_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(whole, dict):
        lines = path.suffix.lower() in (".jsonl", ".ndjson")  # of which there is one
        whole = [whole] if lines else _columns(path, whole)
    for number, row in enumerate(whole if isinstance(whole, list) else [whole], 1):
        if not isinstance(row, dict):
            raise DataError(
                f"row {number} of {path} is {type(row).__name__}, not an object",
                'write rows as {"text": ..., "label": ...}',
            )
    return list(whole)


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"line {number} of {path} is not JSON: {error.msg} at column {error.colno}", "mend it"
        ) from None


def _columns(path: Path, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn {"data": [rows]} or {"text": [...], "label": [...]} into rows; any other object is a single row."""
    lists = {key: value for key, value in whole.items() if isinstance(value, list)}
    if len(lists) == 1 and all(isinstance(row, dict) for row in next(iter(lists.values()))):
        return list(next(iter(lists.values())))
    if not lists or len(lists) < len(whole):
        return [whole]
    if len({len(values) for values in lists.values()}) > 1:
        sizes = ", ".join(f"{key} {len(values)}" for key, values in lists.items())
        raise DataError(f"the columns of {path} differ in length: {sizes}", "give each the same number of values")
    return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
