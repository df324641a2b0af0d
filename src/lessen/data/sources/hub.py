"""Data sets of the Hugging Face hub, by id, and local copies of them. No code of a data set is ever run."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lessen import recipe
from lessen.data.columns import IMAGE_NAMES, Grid, find, to_table
from lessen.data.parts import part_of
from lessen.data.table import Table, join, kind_of
from lessen.errors import DataError, UnavailableError

CONNECT_SECONDS = 5.0
SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` writes
OPTIONS = (
    "give a local CSV, TSV, JSON, Parquet file or folder as data.path,"
    " or an embedded data.source: docstrings, digits, pydocs"
)


def read(cfg: recipe.Data, task: str) -> Table:
    """Read a data set by id, or from a folder written by `save_to_disk`.

    Its splits named train, validation (dev, valid) and test are kept apart; others are left out and counted.

    Raises:
        UnavailableError: it is not on this machine and the hub cannot be reached or does not have it.
        DataError: it has no train split, or lacks a column.
    """
    if cfg.path is None:
        raise DataError("data.path is not set", "give the id of a hub data set such as stanfordnlp/sst2")
    splits = _load(cfg.path, cfg.hub_config)
    parts = {name: part_of(name) for name in splits}
    if "train" not in parts.values():
        raise DataError(f"{cfg.path} has no train split; it has {', '.join(splits)}", "give another data set")
    tables = [(part, _table(splits[name], cfg, task)) for name, part in parts.items() if part is not None]
    table = join(tables)
    left_out = {name: len(splits[name]) for name, part in parts.items() if part is None}
    facts = {**table.facts, "path": cfg.path, "config": cfg.hub_config, "splits_left_out": left_out}
    return replace(table, parts=table.parts if len(tables) > 1 else None, facts=facts)


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any((folder / name).is_file() for name in SAVED)


def _load(name: str, config: str | None) -> dict[str, Any]:
    """Return the splits by name."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    folder = Path(name).expanduser()
    try:
        if folder.is_dir() and is_saved(folder):
            loaded = datasets.load_from_disk(str(folder))
        else:
            if not folder.is_dir():
                _must_be_had(name, datasets.config)
            loaded = datasets.load_dataset(str(folder) if folder.is_dir() else name, config)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise UnavailableError(f"{name} cannot be fetched: {_line(error)}", OPTIONS) from None
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{name} cannot be read: {_line(error)}", "check data.path and data.hub_config") from None
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _must_be_had(name: str, config: Any) -> None:
    """Raise at once where the hub is out of reach and the cache has no copy; the client would try for half a minute."""
    cached = Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")
    if cached.is_dir() or (not config.HF_HUB_OFFLINE and _reachable(config.HF_ENDPOINT)):
        return
    raise UnavailableError(f"data set {name} is not on this machine and the hub cannot be reached", OPTIONS)


def _reachable(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    if parts.scheme in urllib.request.getproxies() or parts.hostname is None:
        return True  # the proxy knows
    try:
        socket.create_connection((parts.hostname, parts.port or 443), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _table(split: Any, cfg: recipe.Data, task: str) -> Table:
    import datasets

    names = tuple(split.column_names)
    classes = {
        n: tuple(f.names) for n, f in split.features.items() if isinstance(f, datasets.ClassLabel) and f.names
    }  # fmt: skip
    origin = f"{cfg.path} ({split.split or 'train'})"
    if kind_of(task) == "image":
        at = find(Grid(names, lambda at: [], origin), cfg.image_column, IMAGE_NAMES, "image_column")
        if isinstance(split.features[names[at]], datasets.Image):
            split = split.cast_column(names[at], datasets.Image(decode=False))

    def column(at: int) -> Sequence[Any]:
        values: list[Any] = split[names[at]][:]
        return values

    return to_table(Grid(names, column, origin, classes), cfg, task)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
