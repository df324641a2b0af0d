"""From a request to a recipe: a preset, settings, or settings laid over a preset."""

from __future__ import annotations

import json
import shlex
from typing import Any

import yaml

from lessen.errors import RecipeError
from lessen.recipe import Recipe, parse
from lessen.server import presets, uploads
from lessen.server.service import Service

HERE = ("output_dir", "cache_dir")  # the service chooses where runs are kept


def requested(
    service: Service, model_name: str | None, level: str | None, values: dict[str, Any] | None, name: str | None
) -> tuple[Recipe, str | None]:
    """Return the recipe that a request asks for, and the canonical name of its preset.

    Raises:
        RecipeError: nothing is asked for, or a setting is refused.
    """
    given = presets.nested(values or {})
    for key in HERE:
        if given.get(key) is not None:
            raise RecipeError(f"{key} is {given[key]!r}; the service keeps runs below its own folder", "leave it out")
    if name is not None:
        given["name"] = name
    if model_name is None and level is None:
        if not values:
            raise RecipeError("neither model_name nor recipe is given", "give one; GET /api/v1/presets lists models")
        return parse(uploads.resolve(service, given)), None
    found = presets.find(model_name or "distillBert")
    recipe = presets.recipe(found.model_name, level or "demo", uploads.resolve(service, given))
    return recipe, found.model_name


def as_yaml(values: dict[str, Any]) -> str:
    """Return a recipe as YAML, in the order of its schema."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def as_curl(url: str, body: dict[str, Any]) -> str:
    """Return the command that sends the same request; the token is taken from its file."""
    said = shlex.quote(json.dumps(body, ensure_ascii=False))
    return (
        f"curl -X POST {shlex.quote(url)} "
        '-H "Authorization: Bearer $(cat ~/.config/lessen/token)" '
        f"-H 'Content-Type: application/json' -d {said}"
    )
