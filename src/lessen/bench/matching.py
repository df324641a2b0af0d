"""Which weight of a file is which parameter of the torch model it was made from.

Exporters keep the names of some weights and rename others (`val_96`, transposed). What a name does not tell, the
numbers do: the parameter of the same shape whose values are nearest. Where a BatchNorm was folded into a convolution
the numbers differ, and the order among equal shapes decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lessen.bench.stored import Stored

Array = np.ndarray[Any, Any]
SAMPLED = 4096  # elements that are compared before all are
NEAR = 0.25  # relative square error up to which numbers are taken for the same: INT4 stays below 0.05
PREFIX = "module."


@dataclass(frozen=True)
class Match:
    """A parameter and the stored weight that stands for it."""

    parameter: str
    stored: Stored
    turned: bool  # stored transposed
    error: float | None  # mean square of stored minus parameter; None: they are not the same numbers


def match(stored: list[Stored], parameters: dict[str, Stored]) -> tuple[dict[str, Match], list[Stored]]:
    """Return matches by parameter, and the weights that belong to none."""
    found: dict[str, Match] = {}
    left: list[Stored] = []
    for weight in stored:
        name = _named(weight.name, parameters)
        same = name is not None and name not in found and _fits(weight.values, parameters[name].values)
        if name is not None and same:
            found[name] = _matched(name, weight, parameters[name])
        else:
            left.append(weight)
    left = _by_numbers(left, parameters, found)
    return found, _by_order(left, parameters, found)


def _named(name: str, parameters: dict[str, Stored]) -> str | None:
    for candidate in (name, name.removeprefix(PREFIX), name.removeprefix(f"{PREFIX}{PREFIX}")):
        if candidate in parameters:
            return candidate
    return None


def _fits(a: Array, b: Array) -> bool:
    return a.shape == b.shape or (a.ndim == 2 and a.T.shape == b.shape)


def _matched(name: str, weight: Stored, parameter: Stored) -> Match:
    straight, turned = _error(weight.values, parameter.values), _error(weight.values.T, parameter.values)
    error = min(straight, turned)
    near = error <= NEAR * _square(parameter.values)
    return Match(name, weight, turned < straight, error if near else None)


def _by_numbers(left: list[Stored], parameters: dict[str, Stored], found: dict[str, Match]) -> list[Stored]:
    """Match each weight to the nearest parameter of its shape; return those without a near one."""
    rest = []
    for weight in left:
        free = [n for n, p in parameters.items() if n not in found and _fits(weight.values, p.values)]
        best = min(free, key=lambda n: _distance(weight.values, parameters[n].values), default=None)
        if best is not None and _distance(weight.values, parameters[best].values) <= NEAR:
            found[best] = _matched(best, weight, parameters[best])
        else:
            rest.append(weight)
    return rest


def _by_order(left: list[Stored], parameters: dict[str, Stored], found: dict[str, Match]) -> list[Stored]:
    rest = []
    for weight in left:
        free = [
            n for n, p in parameters.items()
            if n not in found and p.values.shape == weight.values.shape and p.values.ndim > 1
        ]  # fmt: skip
        if free:
            found[free[0]] = Match(free[0], weight, False, None)
        else:
            rest.append(weight)
    return rest


def _distance(a: Array, b: Array) -> float:
    """Return the relative square distance of a sample of two arrays, in the better of two orientations."""
    size = max(_square(b), 1e-30)
    return min(_sampled(a, b), _sampled(a.T, b)) / size


def _sampled(a: Array, b: Array) -> float:
    if a.shape != b.shape:
        return float("inf")
    if b.ndim < 2 or b.size <= SAMPLED:
        return float(np.square(a - b).mean())
    rows = max(1, SAMPLED // b[0].size)
    step = max(1, len(b) // rows)
    return float(np.square(a[::step] - b[::step]).mean())


def _error(a: Array, b: Array) -> float:
    return float(np.square(a - b, dtype=np.float64).mean()) if a.shape == b.shape else float("inf")


def _square(a: Array) -> float:
    return float(np.square(a, dtype=np.float64).mean())
