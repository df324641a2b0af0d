"""Tables of text: CSV, TSV and the like, with or without a header."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessen import recipe
from lessen.data.columns import Grid, headed, to_table
from lessen.data.files import existing, read_text
from lessen.data.table import Table, kind_of
from lessen.errors import DataError

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SEPARATORS = (",", "\t", ";", "|")


def read(cfg: recipe.Data, task: str) -> Table:
    """Read a table of text.

    The separator is a tab for .tsv and .tab, else the one of comma, tab, semicolon and bar that the first line holds
    most often. Cells stay strings: "NA", "null" and "007" are what they are; an empty cell is missing.

    Raises:
        DataError: the file is absent, empty, of another encoding, has a longer row than the first, or lacks a column.
    """
    path = existing(cfg.path)
    text = read_text(path, cfg.encoding)
    separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else _separator(text)
    rows, quoted = _parse(path, text, separator)
    positions = headed(rows, cfg)
    if positions is None:
        names, body = tuple(str(cell).strip() for cell in rows[0]), rows[1:]
    else:
        names, body = tuple(map(str, range(len(rows[0])))), rows
        other = "target_column" if cfg.target_column is not None else "label_column"
        cfg = cfg.model_copy(update={f"{kind_of(task)}_column": str(positions[0]), other: str(positions[1])})
    facts = {"encoding": cfg.encoding, "separator": separator, "header": positions is None, "quoting": quoted}
    grid = Grid(names, lambda at: [row[at] for row in body], str(path), facts=facts)
    return to_table(grid, cfg, task)


def _separator(text: str) -> str:
    first = text.lstrip().split("\n", 1)[0]
    return max(SEPARATORS, key=lambda s: (first.count(s), -SEPARATORS.index(s)))


def _parse(path: Path, text: str, separator: str) -> tuple[Sequence[Sequence[Any]], bool]:
    """Return the rows, and whether quotes enclose cells.

    In a tab-separated file a lone quotation mark is often just text: where quotes do not pair up so that every row
    has the same number of cells, they are read as characters.
    """
    try:
        return _rows(text, separator, quoted=True), True
    except DataError as error:
        reason = error.message
    if separator == "\t":
        try:
            return _rows(text, separator, quoted=False), False
        except DataError as error:
            reason = error.message
    raise DataError(f"{path}: {reason}", "quote cells that hold the separator or a line break")


def _rows(text: str, separator: str, *, quoted: bool) -> Sequence[Sequence[Any]]:
    import csv

    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                io.StringIO(text), sep=separator, header=None, dtype=str, keep_default_na=False, na_filter=False,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, skip_blank_lines=True, engine="c",
            )  # fmt: skip
        except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
            reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
            raise DataError(reason) from None
    if separator == "\t" and quoted and _short(frame):
        raise DataError("quotation marks do not pair up")
    rows: list[list[Any]] = frame.astype(object).to_numpy().tolist()
    return rows


def _short(frame: Any) -> bool:
    """Whether a quoted cell swallowed a line: it holds a line break, which tab-separated files do not have."""
    return any(frame[name].str.contains("\n", regex=False).fillna(False).any() for name in frame)
