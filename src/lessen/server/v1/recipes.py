"""Presets, packaged recipes, the schema, and what a request would come to."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import yaml
from fastapi import APIRouter, Request

import lessen
from lessen.errors import LessenError
from lessen.recipe import Recipe, parse
from lessen.server import presets
from lessen.server.service import Served
from lessen.server.v1.requested import as_curl, as_yaml, requested
from lessen.server.v1.system_shapes import CheckIn, CheckOut, Level, PackagedRecipe, PresetOut

router = APIRouter(tags=["recipes"])


@router.get("/presets")
def list_presets() -> list[PresetOut]:
    """List the models that can be compressed by their names, with the recipes of their levels."""
    return [_preset(found) for found in presets.PRESETS.values()]


def _preset(found: presets.Preset) -> PresetOut:
    levels = {
        name: Level(recipe=presets.recipe(found.model_name, name).model_dump(mode="json"), note=level.note)
        for name, level in found.levels.items()
    }
    return PresetOut(
        model_name=found.model_name,
        aliases=list(found.aliases),
        title=found.title,
        description=found.description,
        task=found.task,
        levels=levels,
    )


@router.get("/recipes")
def list_recipes() -> list[PackagedRecipe]:
    """List the recipes that come with lessen."""
    return [_packaged(file) for file in packaged()]


def packaged() -> list[Path]:
    """Return the files of the recipes that come with lessen: in the installed package, or in a checkout."""
    package = Path(lessen.__file__).parent
    checkout = package.parents[1]
    folders = [package / "recipes", *([checkout / "recipes"] if (checkout / "pyproject.toml").is_file() else [])]
    return sorted({f.stem: f for folder in folders for f in folder.glob("*.yaml")}.values(), key=lambda f: f.stem)


def _packaged(file: Path) -> PackagedRecipe:
    text = file.read_text(encoding="utf-8")
    recipe = parse(yaml.safe_load(text))
    said = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return PackagedRecipe(
        name=file.stem,
        description=" ".join(line.lstrip("#").strip() for line in said).strip(),
        task=recipe.task,
        recipe=recipe.model_dump(mode="json", exclude_unset=True),
        yaml=text,
    )


@router.get("/recipes/schema")
def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe: settings, ranges, defaults, help."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


@router.post("/recipes/check")
def check_recipe(service: Served, request: Request, body: CheckIn) -> CheckOut:
    """Resolve a request as POST /runs would, without starting it: recipe, plan, the same as YAML and curl."""
    recipe, _ = requested(service, body.model_name, body.preset, body.recipe, body.name)
    values = recipe.model_dump(mode="json")
    plan: dict[str, Any] | None = None
    warnings: list[str] = []
    if body.plan:
        try:
            folder = str(service.store.root / f"{recipe.name}-<time>")  # a folder of its own, as every run gets
            plan = service.bench.plan({**values, "output_dir": folder})
            warnings += plan.get("warnings", [])
        except LessenError as error:
            warnings.append(str(error))
    asked = body.model_dump(exclude_none=True, exclude={"plan"})
    url = f"{str(request.base_url).rstrip('/')}/api/v1/runs"
    shown = {k: v for k, v in values.items() if k not in ("output_dir", "cache_dir", "legacy") and v is not None}
    return CheckOut(recipe=values, plan=plan, yaml=as_yaml(shown), curl=as_curl(url, asked), warnings=warnings)
