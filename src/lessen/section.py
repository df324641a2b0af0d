"""A part of a recipe, the ranges that its settings use, and the defaults that differ by task."""

from __future__ import annotations

from itertools import repeat
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]

OF_TASK: dict[str, dict[str, Any]] = {  # defaults where they differ from classification; sources in docs/distill.md
    "seq2seq": {
        "student": {"tokenizer": "teacher"},
        "teacher": {"model": "scratch:t5-mini", "train": {"lr": 1e-3, "weight_decay": 0.0}},
        "distill": {"temperature": 1.0, "train": {"lr": 1e-3, "weight_decay": 0.0}},
        "prune": {"kinds": ["heads", "ffn"], "recover": {"lr": 2e-4, "epochs": 3}},
    },
    "causal-lm": {
        "data": {"max_length": 256},
        "student": {"tokenizer": "teacher"},
        "teacher": {"model": "scratch:gpt2-mini", "train": {"lr": 1e-3, "weight_decay": 0.1}},
        "distill": {"temperature": 1.0, "alpha": 0.9, "train": {"lr": 1e-3, "weight_decay": 0.1}},
        "prune": {"kinds": ["heads", "ffn"], "recover": {"lr": 2e-4, "epochs": 3}},
    },
}


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values never change, true and false are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults(cls, values: Any) -> Any:
        """Lay a part that is given over its own default: prune.recover stays at 3 epochs where only lr is given."""
        if not isinstance(values, dict):
            return values
        over = dict(values)
        for name, field in cls.model_fields.items():
            if isinstance(values.get(name), dict) and isinstance(field.default, Section):
                over[name] = overlay(field.default.model_dump(exclude_unset=True), values[name])
        return over

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where they would be read as 1 and 0, at any depth of a field."""
        if _misread(cls.model_fields[info.field_name or ""].annotation, value):
            raise PydanticCustomError("number_expected", "Input should be a number, not true or false")
        return value


def _misread(kind: Any, value: Any) -> bool:
    """Whether a value of this kind holds a boolean that would be read as a number."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _misread(args[0], value)
    if origin in (Union, UnionType):
        return bool not in args and any(_misread(arg, value) for arg in args)
    if isinstance(value, bool):
        return kind in (int, float)
    if origin is dict and isinstance(value, dict):
        return any(_misread(args[1], part) for part in value.values())
    if origin in (tuple, list, set, frozenset) and isinstance(value, tuple | list | set | frozenset):
        kinds = repeat(args[0]) if origin is not tuple or args[-1] is Ellipsis else args
        return any(_misread(one, part) for one, part in zip(kinds, value, strict=False))
    return False


def overlay(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with those given laid over the defaults."""
    parts = {
        key: overlay(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in given.items()
    }
    return {**defaults, **parts}
