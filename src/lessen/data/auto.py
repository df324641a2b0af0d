"""Which source reads a path: chosen by its form."""

from __future__ import annotations

import re
from pathlib import Path

from lessen import plugins, recipe
from lessen.data.files import existing
from lessen.data.table import Table
from lessen.errors import DataError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TABLE = re.compile(r".*\.(csv|tsv|tab|txt|jsonl?|ndjson|parquet|pq|gz|zip|xlsx?|arrow|pkl|png|jpe?g)", re.IGNORECASE)


def read(cfg: recipe.Data, task: str) -> Table:
    """Read the rows of a recipe's source."""
    table: Table = plugins.find("data.sources", choose(cfg)).read(cfg, task)
    return table


def choose(cfg: recipe.Data) -> str:
    """Return the name of the source that reads `cfg.path`.

    A file by its suffix; a folder by what lies in it; what does not exist and looks like a hub id, from the hub.

    Raises:
        UnknownNameError: data.source is none of the sources.
        DataError: the path does not exist, or nothing reads it.
    """
    if cfg.source != "auto":
        plugins.require("data.sources", cfg.source)
        return cfg.source
    if cfg.path is None:
        existing(cfg.path)
    path = Path(str(cfg.path)).expanduser()
    if path.is_dir():
        return _of_folder(path)
    from lessen.data.sources.folder import reader_of

    if path.is_file():
        name = reader_of(path)
        if not name:
            raise DataError(
                f"{path} has the suffix {path.suffix or 'none'};"
                " read are .csv .tsv .tab .txt .json .jsonl .ndjson .parquet .pq",
                "convert it, or set data.source",
            )
        return name
    text = str(cfg.path)
    if text in ("docstrings", "digits", "pydocs"):
        return text
    if not _HUB_ID.fullmatch(text) or _TABLE.fullmatch(text) or (path.parent.is_dir() and len(path.parts) > 1):
        existing(path)
    return "hub"


def _of_folder(path: Path) -> str:
    from lessen.data.sources.folder import data_files
    from lessen.data.sources.hub import is_saved
    from lessen.data.sources.image_folder import has_images

    if is_saved(path):
        return "hub"
    if data_files(path):
        return "folder"
    if has_images(path):
        return "image_folder"
    raise DataError(
        f"{path} holds neither tables (CSV, TSV, JSON, Parquet) nor one folder of images per class",
        "give a file, or set data.source",
    )
