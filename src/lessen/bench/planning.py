"""What a recipe would do, asked again with every change of a form: the data is read once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen import data
from lessen import plan as plans
from lessen.bench.opened import Opened
from lessen.context import digest
from lessen.recipe import parse

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Recipe

KEPT = 3  # data sets in memory


def plan(opened: Opened, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a recipe as plain values.

    Raises:
        LessenError: the recipe or its data cannot be used.
    """
    checked = parse(recipe)
    return plans.plan(checked, _read(opened.splits, checked)).as_dict()


def _read(known: dict[str, Splits], recipe: Recipe) -> Splits | None:
    """Return a recipe's data, read where it is not known; None where it is not on this machine."""
    source = recipe.data
    if source.path and not Path(source.path).exists() and source.source in ("auto", "hub"):
        return None
    key = digest({
        "data": source.model_dump(mode="json"), "task": recipe.task, "seed": recipe.seed,
        "changed": [_changed(p) for p in (source.path, source.validation_path, source.test_path)],
    })  # fmt: skip
    if key not in known:
        while len(known) >= KEPT:
            known.pop(next(iter(known)))
        known[key] = data.load(source, recipe.task, recipe.seed)
    return known[key]


def _changed(path: str | None) -> float | None:
    return Path(path).stat().st_mtime if path and Path(path).exists() else None
