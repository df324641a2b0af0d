"""Which units stay: from scores and a budget to a list of kept units per layer. Imports no torch.

Every layer's units are put in an order of removal and cut into steps (one unit, or as many as keep the layer's width
a multiple that kernels like). A step's key says when its turn comes:

    per layer: the share of the layer that is gone halfway through the step, so that all layers shrink alike
    global:    the step's mean score divided by the layer's mean score, so that no layer empties because its weights
               happen to be small

A budget on parameters or FLOPs takes the shortest run of steps that meets it, and so overshoots by less than a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lessen.errors import RecipeError

Cost = Callable[[Mapping[str, int]], float]  # kept units per layer -> what is left of the budgeted quantity
ROOMY = 4  # a layer keeps its multiple only when it has this many of them


@dataclass(frozen=True)
class Layer:
    """The units of one group and what they are worth."""

    name: str
    scores: np.ndarray[Any, Any]  # [units], higher matters more
    multiple: int = 1  # round the kept units to this
    whole: int | None = None  # units before any pruning, where earlier rounds took some

    @property
    def units(self) -> int:
        """Units there are now."""
        return len(self.scores)

    @property
    def base(self) -> int:
        """Units there were before any pruning."""
        return self.whole or self.units

    @property
    def grain(self) -> int:
        """The multiple that kept units are rounded to: halved until the layer holds at least four of it."""
        multiple = self.multiple
        while multiple > 1 and self.base < ROOMY * multiple:
            multiple //= 2
        return multiple


@dataclass(frozen=True)
class _Step:
    layer: int
    kept: int  # units of the layer that are left after this step
    key: float


def choose(
    layers: Sequence[Layer],
    remove_frac: float,
    *,
    scope: str = "per_layer",
    cost: Cost | None = None,
    whole: float = 0.0,
    required: bool = True,
) -> dict[str, list[int]]:
    """Return the units to keep, ascending, per layer.

    Args:
        layers: what may be pruned; at least one unit of each stays.
        remove_frac: share to remove of the units there were before any pruning, or of `whole`.
        scope: per_layer, global.
        cost: what is left (parameters, FLOPs) as a function of kept units; None: count units.
        whole: the cost before any pruning.
        required: removing nothing is an error.

    Raises:
        RecipeError: nothing to prune, nothing removed, or the budget is out of reach (says how far it goes).
    """
    if not layers:
        raise RecipeError(
            "there is no unit that prune.kinds and prune.layers allow in this model", "allow more kinds or layers"
        )
    for layer in layers:
        if not np.isfinite(layer.scores).all():
            raise RecipeError(
                f"scores of {layer.name} are not finite", "look at the model's weights, or use another prune.method"
            )
    if cost is None and scope == "per_layer":
        kept = {layer.name: _rounded(layer, remove_frac) for layer in layers}
    else:
        steps = _steps(layers, scope)
        kept = _prefix(layers, steps, _length(layers, steps, remove_frac, cost, whole))
    if required and all(kept[layer.name] == layer.units for layer in layers):
        widths = ", ".join(f"{layer.name} {layer.units}" for layer in layers[:4])
        raise RecipeError(f"removing {remove_frac:g} takes no unit away (units: {widths} ...)", "remove a larger share")
    return {layer.name: best(layer.scores, kept[layer.name]) for layer in layers}


def best(scores: np.ndarray[Any, Any], keep: int) -> list[int]:
    """Return the indices of the `keep` highest scores, ascending; among equals the first stays."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    return sorted(int(i) for i in order[:keep])


def _rounded(layer: Layer, remove_frac: float) -> int:
    grain = layer.grain
    aim = layer.base * (1 - remove_frac)
    keep = max(1, math.floor(aim / grain + 0.5)) * grain
    return min(layer.units, keep)


def _steps(layers: Sequence[Layer], scope: str) -> list[_Step]:
    steps = []
    for index, layer in enumerate(layers):
        ascending = np.sort(np.asarray(layer.scores, dtype=np.float64))
        mean = float(ascending.mean()) or 1.0
        before, grain = layer.units, layer.grain
        while before > grain:
            after = (before - 1) // grain * grain
            if scope == "global":
                key = float(ascending[layer.units - before : layer.units - after].mean()) / mean
            else:
                key = 1 - (before + after) / 2 / layer.base
            steps.append(_Step(index, after, key))
            before = after
    return sorted(steps, key=lambda s: (s.key, s.layer, -s.kept))


def _prefix(layers: Sequence[Layer], steps: Sequence[_Step], length: int) -> dict[str, int]:
    kept = {layer.name: layer.units for layer in layers}
    for step in steps[:length]:
        kept[layers[step.layer].name] = step.kept
    return kept


def _length(
    layers: Sequence[Layer], steps: Sequence[_Step], remove_frac: float, cost: Cost | None, whole: float
) -> int:
    """Return how many steps meet the budget: the fewest for a cost, the nearest count for units."""
    if cost is None:
        base = sum(layer.base for layer in layers)
        aim = round(remove_frac * base)
        gone = [base - sum(_prefix(layers, steps, n).values()) for n in range(len(steps) + 1)]
        return int(np.argmin([abs(g - aim) for g in gone]))
    allowed = (1 - remove_frac) * whole
    least = cost(_prefix(layers, steps, len(steps)))
    if least > allowed:
        raise RecipeError(
            f"removing {remove_frac:g} of the budget is out of reach: what may go holds {1 - least / whole:.3g} of it",
            "remove a smaller share, or allow more kinds or layers",
        )
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if cost(_prefix(layers, steps, middle)) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low
