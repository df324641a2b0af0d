"""Labelled data, pairs and documents: read, clean, split. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lessen import recipe
from lessen.context import digest
from lessen.data import auto, texts
from lessen.data.clean import Clean, clean
from lessen.data.encoding import sequences_of
from lessen.data.images import Images
from lessen.data.split import Split, Splits, assign
from lessen.data.table import PARTS, Label, Table, join
from lessen.errors import DataError
from lessen.info import generates

__all__ = ["Split", "Splits", "load", "sequences_of"]


def load(cfg: recipe.Data, task: str, seed: int) -> Splits:
    """Read the data of a recipe and split it.

    Missing rows and duplicates are dropped first, and counted; then rows are split, so that no content stands in two
    splits. Rows of train that stand in a given validation or test file are removed from train. The same content and
    seed give the same splits, whatever the order of the file.

    Args:
        cfg: with folds > 1, `fold` (0 where absent) says which one is the test split.
        task: text-classification, image-classification, seq2seq or causal-lm.
        seed: decides the splits together with the rows' contents, unless cfg.seed does.

    Raises:
        DataError: the data cannot be used as asked.
        UnavailableError: a hub data set that cannot be had.
    """
    seed = seed if cfg.seed is None else cfg.seed
    table = _tables(cfg, task)
    if table.form != "labels":
        return texts.load(table, cfg, task, seed)
    if cfg.held_out:
        raise DataError(f"data.held_out is given, task is {task} with labels", "held-out texts are for causal-lm")
    splits = _labelled(table, cfg, task, seed)
    return texts.worded(splits, cfg) if generates(task) else splits


def _labelled(table: Table, cfg: recipe.Data, task: str, seed: int) -> Splits:
    rows = clean(table, cfg.labels)
    chosen = assign(rows, cfg, seed)
    classes = table.classes if table.multi_label and table.classes else _classes(rows, chosen, cfg, table.classes)
    splits = {part: _split(part, rows, chosen[part], table, classes) for part in PARTS}
    _check(splits, classes, table)
    parts_digest = {part: digest({"ids": s.ids.tolist(), "labels": s.labels.tolist()}) for part, s in splits.items()}
    whole = digest({"task": task, "labels": classes, "multi_label": table.multi_label, **parts_digest})
    facts = {
        "source": cfg.source if cfg.source != "auto" else auto.choose(cfg, task),
        **table.facts,
        **rows.facts,
        "fraction": cfg.fraction,
        "seed": seed,
        "stratified": cfg.stratify,
        "folds": cfg.folds,
        "fold": (cfg.fold or 0) if cfg.folds > 1 else None,
        "labels": list(classes),
        "rows": {part: len(split) for part, split in splits.items()},
        "rows_per_class": {part: _counts(split, classes) for part, split in splits.items()},
        "digests": parts_digest,
        "digest": whole,
    }
    parts = (splits["train"], splits["validation"], splits["test"])
    return Splits(task, classes, table.multi_label, *parts, facts, whole, cfg)


def _tables(cfg: recipe.Data, task: str) -> Table:
    """Read the main table and the separate ones, one below the other, each row with its part."""
    main = auto.read(cfg, task)
    separate = [("validation", cfg.validation_path), ("test", cfg.test_path)]
    given = [(part, path) for part, path in separate if path is not None]
    for part, path in given:
        if main.parts is not None and part in main.parts:
            raise DataError(f"{cfg.path} has its own {part} part, and data.{part}_path is {path}", "drop one of them")
    own = "train" if main.parts is not None else ""
    others = []
    for part, path in given:
        table = auto.read(cfg.model_copy(update={"path": path, "source": "auto"}), task)
        if table.parts is not None:
            raise DataError(f"data.{part}_path {path} is itself in several parts", "give a single file")
        others.append((part, table))
    return join([(own, main), *others])


def _classes(
    rows: Clean, chosen: dict[str, list[int]], cfg: recipe.Data, named: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the class names in the order of the outputs: as the recipe or the source has them, else sorted.

    Raises:
        DataError: there is one class only, or a class has no rows to learn from.
    """
    learned = {str(rows.labels[i]) for i in chosen["train"]}
    if len(learned) < 2:
        raise DataError(
            f"all training rows have the label {next(iter(learned), None)!r}; two or more classes are needed",
            "check data.label_column",
        )
    for part in ("validation", "test"):
        for i in chosen[part]:
            if str(rows.labels[i]) not in learned:
                known = ", ".join(_sorted(learned))
                raise DataError(
                    f"{rows.places[i]} has label {rows.labels[i]!r}; the training split has {known}",
                    "mend the row, or add training rows of this class",
                )
    unused = [label for label in cfg.labels if label not in learned]
    if unused:
        raise DataError(f"label {unused[0]!r} of data.labels has no training rows", "drop it from data.labels")
    if cfg.labels:
        return cfg.labels
    return tuple(name for name in named if name in learned) if named else tuple(_sorted(learned))


def _sorted(labels: set[str]) -> list[str]:
    """Sort whole numbers by value, anything else by name."""
    if all(re.fullmatch(r"-?\d+", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _split(part: str, rows: Clean, at: Sequence[int], table: Table, classes: tuple[str, ...]) -> Split:
    inputs: Any = [rows.inputs[i] for i in at]
    if table.kind == "image":
        inputs = Images(inputs, [rows.places[i] for i in at])
    ids = np.asarray([rows.ids[i] for i in at], dtype="<U16")
    return Split(part, ids, inputs, _encode([rows.labels[i] for i in at], classes, table.multi_label))


def _encode(labels: Sequence[Label], classes: tuple[str, ...], multi_label: bool) -> np.ndarray[Any, Any]:
    if multi_label:
        return np.asarray(labels, dtype=np.float32).reshape(len(labels), len(classes))
    index = {name: i for i, name in enumerate(classes)}
    return np.asarray([index[str(label)] for label in labels], dtype=np.int64)


def _check(splits: dict[str, Split], classes: tuple[str, ...], table: Table) -> None:
    for part, split in splits.items():
        if not len(split):
            raise DataError(f"the {part} split has no rows after cleaning", "give more rows")
    if table.multi_label:
        for name, column in zip(classes, splits["train"].labels.T, strict=True):
            if column.min() == column.max():
                raise DataError(f"label {name!r} is {int(column[0])} in every training row", "drop it, or add rows")


def _counts(split: Split, classes: tuple[str, ...]) -> dict[str, int]:
    if split.labels.ndim == 2:
        return {name: int(n) for name, n in zip(classes, split.labels.sum(axis=0), strict=True)}
    counts = np.bincount(split.labels, minlength=len(classes))
    return {name: int(n) for name, n in zip(classes, counts, strict=True)}
