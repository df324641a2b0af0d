"""A part of a recipe, the ranges that its settings use, and the defaults that differ by task."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    """A part of a recipe: unknown keys are refused, values never change."""

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


def overlay(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with those given laid over the defaults."""
    parts = {
        key: overlay(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in given.items()
    }
    return {**defaults, **parts}
