"""Find the columns of a table by name, and read their cells. Nothing is coerced: a cell is taken or refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessen import recipe
from lessen.data.images import Raw
from lessen.data.table import Label, Table, kind_of
from lessen.errors import DataError
from lessen.info import generates

TEXT_NAMES = (
    "text", "comments", "comment", "content", "sentence", "review", "tweet", "document", "body", "message", "post",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "hatespeech", "hate_speech", "target", "class", "category", "sentiment", "output", "y",
)  # fmt: skip
IMAGE_NAMES = ("image", "img", "images", "pixel", "pixels", "picture", "photo", "image_path", "file", "path")
FLAGS: Mapping[Any, int] = {0: 0, 1: 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


@dataclass(frozen=True)
class Grid:
    """The columns of a file.

    Attributes:
        names: in the file's order.
        column: reads a column by position.
        origin: the file, for messages.
        classes: class names of columns that hold their indices.
        facts: for the report.
    """

    names: tuple[str, ...]
    column: Callable[[int], Sequence[Any]]
    origin: str
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[str] | None = None


def to_table(grid: Grid, cfg: recipe.Data, task: str) -> Table:
    """Return the rows of a file's input and label columns; of tasks that generate, its pairs or documents.

    Raises:
        DataError: a column is not there, or a cell is of another form than asked for.
    """
    if generates(task):
        from lessen.data import text_columns

        if task == "causal-lm":
            return text_columns.documents(grid, cfg)
        columns = text_columns.pair_columns(grid, cfg)
        if columns is not None:
            return text_columns.pairs(grid, *columns)
    return labelled(grid, cfg, task)


def labelled(grid: Grid, cfg: recipe.Data, task: str) -> Table:
    """Return the rows of a file's input and label columns."""
    kind = kind_of(task)
    given = cfg.text_column if kind == "text" else cfg.image_column
    at = find(grid, given, TEXT_NAMES if kind == "text" else IMAGE_NAMES, f"{kind}_column")
    read = text_cell if kind == "text" else _image
    values = grid.column(at)
    places = [f"row {i + 1} of {grid.origin}" for i in range(len(values))]
    inputs = [read(cell, place, grid) for cell, place in zip(values, places, strict=True)]
    if cfg.label_columns:
        labels, classes = _flags(grid, cfg, places)
        used: Any = list(cfg.label_columns)
    else:
        target = find(grid, cfg.label_column, LABEL_NAMES, "label_column")
        if target == at:
            raise DataError(f"column {grid.names[at]!r} is both input and label", "name two different columns")
        labels, classes = _labels(grid, target, places)
        used = grid.names[target]
    return Table(
        kind=kind, inputs=inputs, labels=labels, places=places, parts=grid.parts, classes=classes,
        multi_label=bool(cfg.label_columns),
        facts={"path": grid.origin, "columns": {kind: grid.names[at], "label": used}, **grid.facts},
    )  # fmt: skip


def find(grid: Grid, given: str | None, usual: Sequence[str], setting: str) -> int:
    """Return the position of a column: the one given by name or index, else the first of the usual names.

    Upper and lower case do not matter. Raises DataError with the columns that there are.
    """
    lower = [name.lower() for name in grid.names]
    wanted = [given] if given is not None else list(usual)
    for name in wanted:
        exact = [i for i, have in enumerate(grid.names) if have == name]
        hits = exact or [i for i, have in enumerate(lower) if have == name.lower()]
        if len(hits) > 1:
            raise DataError(
                f"{grid.origin} has {len(hits)} columns named {name!r}",
                f"rename them, or give data.{setting} as an index",
            )
        if hits:
            return hits[0]
    if given is not None and given.isdecimal() and int(given) < len(grid.names):
        return int(given)
    there = ", ".join(map(repr, grid.names)) or "none"
    if given is None:
        raise DataError(
            f"{grid.origin} has no column of a usual {setting.replace('_', ' ')} name; its columns are {there}",
            f"name it: --data.{setting}",
        )
    near = difflib.get_close_matches(given.lower(), lower, 1, 0.5)
    mean = f"did you mean {grid.names[lower.index(near[0])]!r}? " if near else ""
    raise DataError(f"{grid.origin} has no column {given!r}; its columns are {there}", f"{mean}set --data.{setting}")


def headed(rows: Sequence[Sequence[Any]], cfg: recipe.Data) -> tuple[int, int] | None:
    """Decide whether the first row is a header.

    It is one where it holds a name that was given or a usual one. Without either, the rows are data if text and target
    were both given by index, or if there are two columns (or the label's index was given) and the first cell of the
    label column comes again further down, as labels do and names do not.

    Returns:
        None for a header, else the positions of text and label (or target).
    """
    first = [str(cell).strip().lower() for cell in rows[0]]
    columns = (cfg.text_column, cfg.image_column, cfg.label_column, cfg.target_column, cfg.messages_column)
    given = [name for name in (*columns, *cfg.label_columns) if name]
    width = len(first)
    if any(not name.isdecimal() for name in given) or cfg.label_columns or first == [str(i) for i in range(width)]:
        return None
    if set(first) & {*TEXT_NAMES, *LABEL_NAMES, *IMAGE_NAMES}:
        return None
    if cfg.target_column is not None:  # targets do not come again; both columns given by index say it instead
        return (int(cfg.text_column), int(cfg.target_column)) if cfg.text_column is not None else None
    source = cfg.text_column if cfg.text_column is not None else cfg.image_column
    if cfg.label_column is not None and int(cfg.label_column) < width:
        label = int(cfg.label_column)
    elif width == 2:
        label = 1 - int(source) if source in ("0", "1") else _fewest(rows)
    else:
        return None
    text = int(source) if source is not None else 1 - label if width == 2 else None
    comes_again = any(len(row) > label and row[label] == rows[0][label] for row in rows[1:])
    return (text, label) if text is not None and text < width and comes_again else None


def _fewest(rows: Sequence[Sequence[Any]]) -> int:
    """Return the column of two with the fewest different cells."""
    different = [len({row[i] for row in rows if len(row) > i}) for i in (0, 1)]
    return 1 if different[1] <= different[0] else 0


def missing(cell: Any) -> bool:
    """Whether a cell holds nothing: null, NaN (also written out), or white space."""
    if isinstance(cell, str):
        return not cell.strip() or cell.strip().lower() == "nan"
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def text_cell(cell: Any, place: str, grid: Grid) -> str | None:
    """Return a cell's text, or None where there is none.

    Raises:
        DataError: it is something else, or holds half a character.
    """
    if missing(cell):
        return None
    if not isinstance(cell, str):
        raise DataError(f"the text of {place} is {type(cell).__name__} {str(cell)[:40]!r}", "texts must be strings")
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the text of {place} holds half a character at position {error.start}", "mend it") from None
    return cell


def _image(cell: Any, place: str, grid: Grid) -> Raw | None:
    """Read a cell that holds an image file's bytes, {"bytes": ..., "path": ...}, or a path."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if missing(cell):
        return None
    if isinstance(cell, str):
        return Path(grid.origin).parent / cell
    if not isinstance(cell, bytes):
        raise DataError(f"the image of {place} is {type(cell).__name__}", "give bytes of an image file, or its path")
    return cell


def _labels(grid: Grid, at: int, places: Sequence[str]) -> tuple[list[Label | None], tuple[str, ...] | None]:
    classes = grid.classes.get(grid.names[at])
    cells = grid.column(at)
    return [_label(cell, place, classes) for cell, place in zip(cells, places, strict=True)], classes


def _label(cell: Any, place: str, classes: tuple[str, ...] | None) -> str | None:
    if missing(cell):
        return None
    if classes and isinstance(cell, int) and not isinstance(cell, bool):
        if cell == -1:  # the hub's mark for unlabelled rows
            return None
        if not 0 <= cell < len(classes):
            raise DataError(f"{place} has label {cell}; there are {len(classes)} class names", "mend the file")
        return classes[cell]
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, str | int | float):
        return str(cell).strip()
    raise DataError(
        f"the label of {place} is {type(cell).__name__}", "give one string or number a row, or data.label_columns"
    )


def _flags(grid: Grid, cfg: recipe.Data, places: Sequence[str]) -> tuple[list[Label | None], tuple[str, ...] | None]:
    """Read 0/1 columns; a row with a missing flag has no label."""
    found = [find(grid, name, (), "label_columns") for name in cfg.label_columns]
    if len(set(found)) < len(found):
        raise DataError(f"data.label_columns {list(cfg.label_columns)} names a column twice", "name each once")
    columns = [grid.column(i) for i in found]
    rows: list[Label | None] = []
    for cells, place in zip(zip(*columns, strict=True), places, strict=True):
        if any(missing(cell) for cell in cells):
            rows.append(None)
            continue
        rows.append(tuple(_flag(c, grid.names[i], place) for c, i in zip(cells, found, strict=True)))
    return rows, tuple(grid.names[i] for i in found)


def _flag(cell: Any, name: str, place: str) -> int:
    value = cell.strip().lower() if isinstance(cell, str) else cell
    if isinstance(value, str | int | float) and value in FLAGS:
        return FLAGS[value]
    raise DataError(f"column {name!r} of {place} is {cell!r}; allowed are 0 and 1", "mend the row, or drop the column")
