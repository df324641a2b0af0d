"""A folder of train, validation and test files (CSV, TSV, JSON or Parquet), as the hub lays data sets out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lessen import plugins, recipe
from lessen.data.files import existing
from lessen.data.parts import part_of
from lessen.data.table import Table, join
from lessen.errors import DataError

READERS = ("csv", "json", "parquet")


def read(cfg: recipe.Data, task: str) -> Table:
    """Read the files of a folder (or of its `data` subfolder) whose names begin with train, validation, dev or test.

    A single file of any name is read as it is, to be split.

    Raises:
        DataError: there is no such file, or several of which none is named train.
    """
    root = existing(cfg.path)
    files = data_files(root)
    if not files:
        raise DataError(f"{root} holds no CSV, TSV, JSON or Parquet file", "give a file, or another data.source")
    named = [(part, file) for file in files if (part := part_of(file.stem)) is not None]
    if len(files) > 1 and not any(part == "train" for part, _ in named):
        listed = ", ".join(f.name for f in files[:10])
        raise DataError(
            f"{root} holds several files and none is named train: {listed}", "give one of them as data.path"
        )
    wanted = named if any(part == "train" for part, _ in named) else [("train", files[0])]
    tables = [
        (part, plugins.find("data.sources", reader_of(file)).read(cfg.model_copy(update={"path": str(file)}), task))
        for part, file in wanted
    ]
    table = join(tables)
    facts = {**table.facts, "path": str(root), "files": [file.name for _, file in wanted]}
    return replace(table, parts=table.parts if len(files) > 1 else None, facts=facts)


def data_files(root: Path) -> list[Path]:
    """Return the tables of a folder, or else of its `data` subfolder, sorted by name."""
    for folder in (root, root / "data"):
        if folder.is_dir():
            found = sorted(f for f in folder.iterdir() if f.is_file() and reader_of(f) and not f.name.startswith("."))
            tables = [f for f in found if f.name not in ("dataset_info.json", "dataset_infos.json", "state.json")]
            if tables:
                return tables
    return []


def reader_of(file: Path) -> str:
    """Return the source that reads a file, by its suffix; an empty string where there is none."""
    for name in READERS:
        if file.suffix.lower() in plugins.find("data.sources", name).SUFFIXES:
            return name
    return ""
