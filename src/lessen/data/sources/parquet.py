"""Parquet files; images as bytes or as the hub's {"bytes": ..., "path": ...}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lessen import recipe
from lessen.data.columns import Grid, to_table
from lessen.data.files import existing
from lessen.data.table import Table
from lessen.errors import DataError

SUFFIXES = (".parquet", ".pq")


def read(cfg: recipe.Data, task: str) -> Table:
    """Read a Parquet file; only the columns that are used are read.

    Class names that the hub stored beside the file take the place of their numbers.

    Raises:
        DataError: the file is absent or damaged, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    path = existing(cfg.path)
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {error}", "check data.path and data.source") from None

    def column(at: int) -> Sequence[Any]:
        try:
            values: list[Any] = file.read(columns=[schema.names[at]]).column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"column {schema.names[at]!r} of {path} is damaged: {error}", "fetch the file again"
            ) from None
        return values

    return to_table(Grid(tuple(schema.names), column, str(path), _classes(schema.metadata or {})), cfg, task)


def _classes(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the class names that the hub's metadata give for columns of class numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}  # there are none
