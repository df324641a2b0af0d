"""What each layer alone would cost: some of its least important units masked, nothing trained, validation measured.

A unit is masked by zeroing what reads it, as the oracle of the cut does; a cut of the same units would answer alike.
What was zeroed is put back bit by bit.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lessen.evaluate import evaluate
from lessen.events import Progress
from lessen.models.groups import mask_
from lessen.prune.choose import best
from lessen.prune.masks import count, keep_global
from lessen.prune.units import generator, saliency

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.context import Context
    from lessen.models import Model
    from lessen.models.groups import Group
    from lessen.prune.units import Needs
    from lessen.terms import Rows

MOST = 500  # validation samples that every mask is measured on


@dataclass(frozen=True)
class Layer:
    """One layer and one kind of unit of it, which can be masked."""

    module: str
    kind: str
    scores: np.ndarray[Any, Any]  # [units], higher matters more
    weights: tuple[Tensor, ...]  # all that masking changes
    group: Group | None = None  # None: the units are the weights themselves


class Some:
    """Some rows of labelled data, or of sequences."""

    def __init__(self, data: Rows, rows: np.ndarray[Any, Any]) -> None:
        self.data, self.rows = data, rows
        self.lengths, self.labels = data.lengths[rows], data.labels[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: np.ndarray[Any, Any]) -> Any:
        """Return the arrays of a batch; see Encoded.batch."""
        return self.data.batch(self.rows[rows])


def of_groups(module: nn.Module, groups: Sequence[Group], scores: dict[str, np.ndarray[Any, Any]]) -> list[Layer]:
    """Return the layers that structured pruning would cut.

    Args:
        scores: of the units, by group name; see units.unit_scores.
    """
    found = []
    for group in groups:
        read = {(c.module, c.leaf): getattr(module.get_submodule(c.module), c.leaf) for c in group.consumers}
        made = [c.module for c in group.producers]
        path = os.path.commonpath([name.replace(".", "/") for name in made]).replace("/", ".")
        found.append(Layer(path or made[0], group.kind, scores[group.name], tuple(read.values()), group))
    return found


def of_weights(
    method: Any, weights: dict[str, nn.Parameter], layouts: dict[str, Any], given: Needs, seed: int
) -> Iterator[Layer]:
    """Yield the weights that masks would zero one by one.

    Args:
        given: what the method needs of each; see units.needs.
    """
    for name, weight in weights.items():
        if "generator" in given[name]:  # the same draw as the masks make
            given[name]["generator"] = generator(seed, name)
        scores = saliency(method, weight.detach(), layouts[name], given[name]).cpu().numpy()
        yield Layer(name, "weights", scores, (weight,))


def measure(model: Model, layers: Sequence[Layer], shares: Sequence[float], data: Rows, ctx: Context) -> dict[str, Any]:
    """Mask each share of each layer's units alone, lowest scores first, and return the facts of the scores.

    Formula: of n units, round(share n) are masked, at least one.

    Args:
        model: on its device; its weights are the same afterwards.
        shares: above 0, at most 1.
        data: the validation split; at most 500 samples of it, evenly drawn, are read.

    Returns:
        metric (f1_macro; models that generate: loss), unit (share, or nats per token), n samples, baseline (without
        a mask), shares, and layers: module, kind, units, and values, one a share.
    """
    rows = np.linspace(0, len(data) - 1, min(MOST, len(data))).round().astype(int)
    some: Any = Some(data, rows)
    device = next(model.module.parameters()).device
    metric = "loss" if model.info.generates else "f1_macro"
    total = len(layers) * len(shares) + 1

    def score(done: int) -> float:
        ctx.check()
        ctx.emit(Progress(stage=ctx.stage, step=done, total_steps=total, unit="masks measured"))
        return float(getattr(evaluate(model, some, device), metric))

    baseline, found = score(0), []
    for index, layer in enumerate(layers):
        values = []
        for place, share in enumerate(shares):
            with masked(model, layer, share):
                values.append(score(1 + index * len(shares) + place))
        found.append({"module": layer.module, "kind": layer.kind, "units": int(layer.scores.size), "values": values})
    unit = "nats per token" if model.info.generates else "share"
    said = {"metric": metric, "unit": unit, "n": len(rows), "baseline": baseline}
    return {**said, "shares": list(shares), "layers": found}


@contextmanager
def masked(model: Model, layer: Layer, share: float) -> Iterator[None]:
    """Mask a share of a layer's units for a while; afterwards its weights are bit by bit what they were."""
    before = [weight.detach().clone() for weight in layer.weights]
    units = int(layer.scores.size)
    gone = max(1, count(share, units))
    try:
        if layer.group is None:
            (weight,) = layer.weights
            (kept,) = keep_global([torch.from_numpy(layer.scores)], gone)
            with torch.no_grad():
                weight.masked_fill_(~kept.to(weight.device), 0.0)
        else:
            mask_(model, layer.group, set(range(units)) - set(best(layer.scores, units - gone)))
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(layer.weights, before, strict=True):
                weight.copy_(old)
