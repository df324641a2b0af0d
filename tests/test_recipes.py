"""Every committed recipe can be carried out, and the packaged ones are found by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from lessen.cli.flags import build
from lessen.cli.run import DEMOS, locate
from lessen.recipe import parse, read

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_accepted(path: Path) -> None:
    assert parse(read(path)) is not None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_and_how_to_run_it(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert head
    assert any("lessen " in line or "scripts/" in line for line in head)


@pytest.mark.parametrize("name", [demo.recipe for demo in DEMOS.values()])
def test_the_demos_need_no_file_and_no_network(name: str) -> None:
    recipe = build(locate(name), {}, {})
    assert recipe.data.path is None
    assert recipe.data.source != "auto"
    assert recipe.teacher.model.startswith("scratch:")


def test_recipes_are_packaged_with_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"recipes": "lessen/recipes"}
