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

ALSO = {"causal-lm": " .md .txt.gz .md.gz", "seq2seq": ", and files that end in data.languages"}
OF_FOLDER = {"causal-lm": "text (.txt, .md)", "seq2seq": "files that end in data.languages"}


def read(cfg: recipe.Data, task: str) -> Table:
    """Read the rows of a recipe's source."""
    table: Table = plugins.find("data.sources", choose(cfg, task)).read(cfg, task)
    return table


def choose(cfg: recipe.Data, task: str = "") -> str:
    """Return the name of the source that reads `cfg.path`.

    A file by its suffix; a folder by what lies in it; what does not exist and looks like a hub id, from the hub. The
    task decides where a form is ambiguous: .txt is a table for classification, running text for causal-lm.

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
        return _of_folder(path, cfg, task)
    from lessen.data.sources.folder import reader_of

    if path.is_file():
        name = _by_task(path, cfg, task) or reader_of(path)
        if not name:
            raise DataError(
                f"{path} has the suffix {path.suffix or 'none'};"
                f" read are .csv .tsv .tab .txt .json .jsonl .ndjson .parquet .pq{ALSO.get(task, '')}",
                "convert it, or set data.source",
            )
        return name
    text = str(cfg.path)
    if text in ("docstrings", "digits", "pydocs"):
        return text
    if not _HUB_ID.fullmatch(text) or _TABLE.fullmatch(text) or (path.parent.is_dir() and len(path.parts) > 1):
        existing(path)
    return "hub"


def _by_task(path: Path, cfg: recipe.Data, task: str) -> str:
    """Return the source of a file that only this task reads so; an empty string where there is none."""
    from lessen.data.sources.text import is_text

    if task == "causal-lm" and is_text(path):
        return "text"
    plain = path.name[:-3] if path.suffix.lower() == ".gz" else path.name
    if task == "seq2seq" and cfg.languages and plain.endswith(tuple(f".{language}" for language in cfg.languages)):
        return "parallel"
    return ""


def _of_folder(path: Path, cfg: recipe.Data, task: str) -> str:
    from lessen.data.sources.folder import data_files
    from lessen.data.sources.hub import is_saved
    from lessen.data.sources.image_folder import has_images
    from lessen.data.sources.parallel import endings
    from lessen.data.sources.text import is_text, text_files

    if is_saved(path):
        return "hub"
    if task == "seq2seq" and cfg.languages and set(cfg.languages) & endings(path):
        return "parallel"
    if any(task != "causal-lm" or not is_text(file) for file in data_files(path)):
        return "folder"
    if task == "causal-lm" and text_files(path):
        return "text"
    if task == "seq2seq" and endings(path):
        return "parallel"
    if has_images(path):
        return "image_folder"
    wanted = OF_FOLDER.get(task, "one folder of images per class")
    raise DataError(
        f"{path} holds neither tables (CSV, TSV, JSON, Parquet) nor {wanted}", "give a file, or set data.source"
    )
