"""Plans of a form that changes with every key: the data is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lessen import data
from lessen.bench.opened import Opened
from lessen.bench.planning import plan
from lessen.errors import RecipeError

pytestmark = pytest.mark.slow


def test_the_data_is_read_once_for_recipes_that_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.csv"
    rows = [f"some words {i} of row,{'ab'[i % 2]}" for i in range(60)]
    file.write_text("text,label\n" + "\n".join(rows))
    reads: list[Any] = []
    load = data.load
    monkeypatch.setattr(data, "load", lambda *given: reads.append(given) or load(*given))
    opened = Opened()
    base = {"data": {"path": str(file)}, "teacher": {"model": "scratch:bert-mini"}}
    first = plan(opened, base)
    again = plan(opened, {**base, "prune": {"remove_frac": 0.3}, "pipeline": "kd_only"})
    assert len(reads) == 1
    assert first["rows"] == again["rows"]
    assert len(first["stages"]) > len(again["stages"])
    file.write_text("text,label\n" + "\n".join(rows * 2)[:-1].replace("words", "other words"))
    import os

    os.utime(file, (1, 1))
    plan(opened, base)
    plan(opened, {**base, "seed": 9})
    assert len(reads) == 3  # the file has changed; another seed splits otherwise


def test_a_recipe_that_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError):
        plan(Opened(), {"prune": {"remove_frac": 2}})
