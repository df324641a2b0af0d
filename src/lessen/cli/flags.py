"""Flags for every setting of the recipe, made from its schema, and for every flag of the predecessor."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lessen import legacy
from lessen.errors import RecipeError
from lessen.recipe import Recipe, parse, read
from lessen.section import Section

SET_BY_PROGRAM = {"legacy", "data.fold"}
SHARED = ("pipeline", "seed", "output_dir", "cache_dir")  # the predecessor has these flags too
USUAL = {
    "pipeline", "task", "name", "seed", "device", "output_dir",
    "data.path", "data.source", "data.text_column", "data.label_column", "data.folds", "data.fraction",
    "teacher.model", "teacher.train.epochs", "teacher.train.lr", "student.model", "student.layers",
    "distill.alpha", "distill.temperature", "distill.train.epochs", "distill.train.lr",
    "prune.remove_frac", "prune.method", "prune.pattern", "quantize.backend", "export.formats",
}  # fmt: skip
_PREFIX = "set:"


def settings() -> Iterator[tuple[str, FieldInfo, Any]]:
    """Yield (dotted name, field, default) of every setting; a section that may be none comes before its fields."""
    yield from _walk(Recipe, "", None)


def add(parser: argparse.ArgumentParser, *, every: bool) -> None:
    """Add a flag for every setting and every flag of the predecessor; without `every`, help shows the usual ones."""
    groups: dict[str, Any] = {}
    for path, field, default in settings():
        section = path.split(".")[0] if "." in path else "recipe"
        group = groups.setdefault(section, parser.add_argument_group(f"{section} settings"))
        boolean = {"nargs": "?", "const": "true"} if _is_bool(field) else {}
        group.add_argument(
            f"--{path}", dest=_PREFIX + path, default=argparse.SUPPRESS, metavar=_metavar(field),
            help=_help(path, field, default) if every or path in USUAL else argparse.SUPPRESS, **boolean,
        )  # fmt: skip
    group = parser.add_argument_group("flags of the predecessor (docs/legacy.md)")
    for flag in legacy.FLAGS:
        shape: dict[str, Any] = {"metavar": "|".join(flag.choices) or flag.kind.upper()}
        if flag.kind == "switch":
            shape = {"action": "store_const", "const": True}
        elif flag.kind == "list":
            shape |= {"nargs": "+"}
        group.add_argument(
            f"--{flag.name}", dest=flag.name, default=argparse.SUPPRESS,
            help=flag.help if every else argparse.SUPPRESS, **shape,
        )  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, str]:
    """Return the settings that were given: dotted name -> text."""
    return {k.removeprefix(_PREFIX): v for k, v in vars(args).items() if k.startswith(_PREFIX)}


def old(args: argparse.Namespace) -> dict[str, Any]:
    """Return the predecessor's flags that were given."""
    return {k: v for k, v in vars(args).items() if k in legacy.BY_NAME}


def build(path: Path | None, set_: Mapping[str, str], old_: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a file, the predecessor's flags and settings, each over the one before.

    With --dataset_path and no file, what is not given has the predecessor's defaults; else lessen's.

    Raises:
        RecipeError: as `recipe.parse`; names the predecessor's flag where one gave the value.
    """
    values = read(path) if path else {}
    if path and "name" not in values:
        values["name"] = path.stem
    speaks_old = bool(old_) or set_.get("pipeline", "").startswith("baseline_")
    shared = {k: set_[k] for k in SHARED if k in set_ and speaks_old}
    if speaks_old:
        complete = path is None and "dataset_path" in old_
        _lay(values, legacy.translate({**old_, **shared}, complete=complete))
    fields = {name: field for name, field, _ in settings()}
    for name, text in set_.items():
        if name not in shared:
            _create(values, name)
            legacy.put(values, name, _value(fields[name], text))
    try:
        return parse(values)
    except RecipeError as error:
        flag = legacy.flag_of(error.message.split(" ", 1)[0])
        if flag in old_:
            raise type(error)(f"--{flag}: {error.message}", error.hint) from None
        raise


def _walk(model: type[Section], prefix: str, defaults: Any) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Walk a section; `defaults` is the section as it is where the recipe says nothing of it."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = next((t for t in _parts(field.annotation) if isinstance(t, type) and issubclass(t, Section)), None)
        if path in SET_BY_PROGRAM:
            continue
        default = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, name)
        if inner is None or NoneType in _parts(field.annotation):
            yield path, field, default
        if inner is not None:
            yield from _walk(inner, f"{path}.", default)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation alone; Annotated is taken off."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(part for member in get_args(annotation) for part in _parts(member))
    return (annotation,)


def _is_bool(field: FieldInfo) -> bool:
    return _parts(field.annotation) == (bool,)


def _is_section(field: FieldInfo) -> bool:
    return any(isinstance(t, type) and issubclass(t, Section) for t in _parts(field.annotation))


def _metavar(field: FieldInfo) -> str:
    if _is_section(field):
        return "none"
    names = []
    for part in _parts(field.annotation):
        if get_origin(part) is Literal:
            names += [str(a) for a in get_args(part)]
        elif get_origin(part) is tuple:
            names.append("A,B,...")
        elif get_origin(part) is dict:
            names.append("KEY=VALUE,...")
        else:
            names.append({bool: "true|false", int: "N", float: "X", str: "TEXT", NoneType: "none"}.get(part, "VALUE"))
    return "|".join(names)


def _help(path: str, field: FieldInfo, default: Any) -> str:
    text = field.description or path.rsplit(".", 1)[-1].replace("_", " ")
    if _is_section(field):
        return f"none: {path} is left out"
    shown = "" if default in (None, (), {}) or default is PydanticUndefined else f" (default {_shown(default)})"
    return f"{text}{shown}".replace("%", "%%")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(field: FieldInfo, text: str) -> Any:
    """Return what pydantic is to check: text for scalars, plain values for lists and mappings, None for none."""
    parts = _parts(field.annotation)
    if NoneType in parts and text.lower() in ("none", "null"):
        return None
    origins = {get_origin(part) for part in parts}
    if dict in origins and "=" in text and not text.lstrip().startswith("{"):
        pairs = (pair.partition("=") for pair in text.split(","))
        return {key.strip(): _plain(value) for key, _, value in pairs}
    if dict in origins:
        return _plain(text)
    if tuple in origins:
        plain = _plain(text) if text.lstrip().startswith("[") else text
        literal = any(get_origin(part) is Literal and text in get_args(part) for part in parts)
        return [v.strip() for v in text.split(",") if v.strip()] if isinstance(plain, str) and not literal else plain
    return text


def _plain(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r} is not YAML: {error}", "quote it, as in '{hidden: 0.3}'") from None


def _create(values: dict[str, Any], path: str) -> None:
    """Make room for a setting whose section a recipe sets to none."""
    for name in path.split(".")[:-1]:
        if not isinstance(values.get(name, {}), dict):
            values[name] = {}
        values = values.setdefault(name, {})


def _lay(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay values over others, in place; a section that the recipe sets to none stays none."""
    for name, value in over.items():
        there = values.get(name, {})
        if isinstance(value, dict) and name in values and there is None:
            continue
        if isinstance(value, dict) and isinstance(there, dict) and name != "features":
            values[name] = dict(there)
            _lay(values[name], value)
        else:
            values[name] = value
