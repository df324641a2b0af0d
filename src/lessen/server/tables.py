"""Is this a table of text? CSV, TSV, JSON and JSON lines, read once from the front, a line in memory at a time."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from lessen.data.columns import TEXT_NAMES
from lessen.errors import DataError, LessenError

SEPARATED = (".csv", ".tsv", ".tab")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*SEPARATED, *LINES, ".json")
MAX_BYTES = 128 << 20
MAX_JSON_BYTES = 8 << 20  # of a file that is a single JSON value
MAX_LINE = 1 << 20  # characters
MAX_ROWS, MAX_COLUMNS = 2_000_000, 4_096
SHOWN_ROWS, SHOWN_CHARACTERS = 5, 200
SEPARATORS = (",", "\t", ";", "|")
BINARY = re.compile(r"[\x00-\x08\x0e-\x1f]")  # what no table of text holds
Facts = dict[str, Any]


def check_table(path: Path, name: str) -> Facts:
    """Return format, columns, rows and the first rows of a table. Cells stay text, whatever they begin with.

    Args:
        name: as the file was called; its ending says the format.

    Raises:
        DataError: it is not what its ending says, not UTF-8, or larger than a table may be.
    """
    suffix, size = Path(name).suffix.lower(), path.stat().st_size
    most = MAX_JSON_BYTES if suffix == ".json" and _is_one_value(path) else MAX_BYTES
    if size > most:
        hint = "write JSON lines instead" if most == MAX_JSON_BYTES else "hand in a sample"
        raise DataError(f"{name} has {size} bytes, a table of this form may have {most}", hint)
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as stream:
            if suffix in SEPARATED:
                return _separated(stream, name, suffix)
            if suffix in LINES or not _is_one_value(path):
                return _objects(_json_lines(stream, name), name, "json lines")
            return _objects(_json_rows(stream.read(), name), name, "json")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8: byte {error.start} of a part is 0x{error.object[error.start]:02x}",
            "save it as UTF-8",
        ) from None


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and not line.endswith("\n"):
            raise DataError(f"line {number} of {name} is longer than {MAX_LINE} characters", "is it a table?")
        if BINARY.search(line):
            raise DataError(f"line {number} of {name} holds bytes that are no text", "is it a table?")
        yield line


def _separated(stream: TextIO, name: str, suffix: str) -> Facts:
    first = stream.readline(MAX_LINE)
    stream.seek(0)
    separator = "\t" if suffix != ".csv" else max(SEPARATORS, key=lambda s: (first.count(s), -SEPARATORS.index(s)))
    reader = csv.reader(
        _lines(stream, name),
        delimiter=separator,
        quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,  # a lone mark in a TSV is often just text
    )
    shown: list[list[str]] = []
    rows, columns = 0, 0
    try:
        for row in reader:
            if not row:
                continue
            columns = columns or len(row)
            if len(row) > columns or columns > MAX_COLUMNS:
                raise DataError(
                    f"row {rows + 1} of {name} has {len(row)} cells, the first has {columns}",
                    "quote cells that hold the separator or a line break",
                )
            rows += 1
            if rows > MAX_ROWS:
                raise DataError(f"{name} has more than {MAX_ROWS} rows", "hand in a sample")
            if len(shown) <= SHOWN_ROWS:
                shown.append([cell[:SHOWN_CHARACTERS] for cell in row])
    except csv.Error as error:
        raise DataError(f"{name} cannot be read near line {reader.line_num}: {error}", "is it a table?") from None
    texts_alone = columns == 1 and shown[0][0].strip().lower() in TEXT_NAMES  # for a language model
    if rows < 2 or (columns < 2 and not texts_alone):
        raise DataError(f"{name} has {rows} rows of {columns} columns", "give texts and their labels (or targets)")
    names, body = shown[0], shown[1:]
    return {"format": suffix[1:], "separator": separator, "columns": names, "rows": rows - 1, "preview": body}


def _is_one_value(path: Path) -> bool:
    """Whether a .json file is one JSON value, not a row a line."""
    with path.open("rb") as stream:
        first = stream.readline(MAX_LINE).lstrip(b"\xef\xbb\xbf \t\r\n")
        rest = stream.readline(MAX_LINE).strip()
    if not first.startswith(b"{") or not rest:
        return True
    try:
        return not isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return True


def _json_lines(stream: TextIO, name: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_lines(stream, name), 1):
        if line.strip():
            found = _value(line, f"line {number} of {name}")
            if not isinstance(found, dict):
                raise DataError(
                    f"line {number} of {name} is no JSON object", 'write rows as {"text": ..., "label": ...}'
                )
            yield found


def _json_rows(text: str, name: str) -> Iterator[Mapping[str, Any]]:
    found = _value(text, name)
    if isinstance(found, dict):
        lists = {key: value for key, value in found.items() if isinstance(value, list)}
        if len(lists) == 1 and all(isinstance(row, dict) for row in next(iter(lists.values()))):
            found = next(iter(lists.values()))
        elif lists and len(lists) == len(found) and len({len(v) for v in lists.values()}) == 1:
            found = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{name} holds no rows", 'write rows as [{"text": ..., "label": ...}, ...]')
    yield from found


def _value(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{where} is not JSON", "mend it") from None


def _objects(rows: Iterator[Mapping[str, Any]], name: str, form: str) -> Facts:
    names: dict[str, None] = {}
    shown: list[list[str]] = []
    count = 0
    for row in rows:
        count += 1
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS or count > MAX_ROWS:
            raise _too_many(name)
        if len(shown) < SHOWN_ROWS:
            shown.append([_shown(row.get(key)) for key in names])
    if not count or len(names) < 1:
        raise DataError(f"{name} has no rows", 'write rows as {"text": ..., "label": ...}')
    return {"format": form, "columns": [key[:SHOWN_CHARACTERS] for key in names], "rows": count, "preview": shown}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:SHOWN_CHARACTERS]


def _too_many(name: str) -> LessenError:
    return DataError(f"{name} has more than {MAX_COLUMNS} columns or {MAX_ROWS} rows", "hand in a sample")
