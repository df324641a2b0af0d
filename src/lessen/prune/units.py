"""What a unit is worth: a method's scores of its weights, summed over the tensors that make or read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lessen import plugins
from lessen.context import digest
from lessen.errors import ModelError
from lessen.prune import tensors
from lessen.prune.calibrate import Calibration, gradients, input_norms

if TYPE_CHECKING:
    from lessen.loss import LabelLoss
    from lessen.models.groups import Cut, Group

Needs = dict[str, dict[str, Any]]  # name of a weight -> what the method needs to score it


def needs(
    method: ModuleType, module: nn.Module, names: Sequence[str], batches: Calibration, loss: LabelLoss, seed: int
) -> Needs:
    """Return what a method asks for (its NEEDS), per weight.

    Args:
        names: of the weights that are scored; see tensors.py.
        loss: loss on labels, for gradients.
        seed: of random draws; each weight has its own, so that their order does not matter.
    """
    out: Needs = {name: {} for name in names}
    for need in method.NEEDS:
        values: Mapping[str, Any]
        if need == "norm":
            values = input_norms(module, names, batches)
        elif need == "gradient":
            values = gradients(module, names, batches, loss)
        elif need == "generator":
            values = {name: generator(seed, name) for name in names}
        else:
            raise ModelError(
                f"{method.__name__} asks for {need!r}, which is not measured",
                "NEEDS may hold norm, gradient, generator",
            )
        for name in names:
            out[name][need] = values[name]
    return out


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator seeded by a number and a name."""
    return torch.Generator().manual_seed(int(digest([seed, name])[:15], 16))


def unit_scores(
    method: ModuleType, module: nn.Module, groups: Sequence[Group], batches: Calibration, loss: LabelLoss, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Return a score per unit, float64 [units], by group name.

    Formula: (sum of saliency^p over the unit's weights)^(1/p), p = the method's NORM, over the weights that the
    method's SIDE names: producers, consumers, or both. Biases, tables of position biases and norms are not scored.
    """
    if method.SIDE == "units":
        return {
            g.name: _numpy(method.saliency(torch.empty(g.units), generator=generator(seed, g.name))) for g in groups
        }
    cuts = {g.name: _scored(method, module, g) for g in groups}
    names = list(dict.fromkeys(_name(cut) for some in cuts.values() for cut in some))
    given = needs(method, module, names, batches, loss, seed)
    power: float = method.NORM
    out = {}
    for group in groups:
        total = torch.zeros(group.units, dtype=torch.float64)
        for cut in cuts[group.name]:
            name = _name(cut)
            weight, how = tensors.tensor(module, name), tensors.layout(module, name)
            worth = saliency(method, weight, how, given[name]).double().pow(power)
            per_entry = worth.movedim(cut.axis, 0).reshape(weight.shape[cut.axis], -1).sum(dim=1)
            total += per_entry.reshape(cut.blocks, group.units, cut.width).sum(dim=(0, 2)).cpu()
        out[group.name] = _numpy(total.pow(1 / power))
    return out


def saliency(method: ModuleType, weight: Tensor, how: tensors.Layout, given: Mapping[str, Any]) -> Tensor:
    """Return a method's saliency of every weight, in the layout that the weight is stored in.

    Methods read [out, in, ...]: Conv1D is turned for them, and experts are given one after the other where what the
    method needs differs among them.

    Args:
        given: what the method needs of this weight; see `needs`.
    """
    if how == "columns":
        turned = {k: v.T if isinstance(v, Tensor) and v.dim() == 2 else v for k, v in given.items()}
        worth: Tensor = method.saliency(weight.T, **turned).T
    elif how == "experts" and "norm" in given:
        each = [{k: v[e] for k, v in given.items()} for e in range(len(weight))]
        worth = torch.stack([method.saliency(w, **some) for w, some in zip(weight, each, strict=True)])
    else:
        worth = method.saliency(weight, **given)
    return worth


def _name(cut: Cut) -> str:
    return tensors.name_of(cut.module, cut.leaf)


def _scored(method: ModuleType, module: nn.Module, group: Group) -> list[Cut]:
    sides = {"producers": group.producers, "consumers": group.consumers, "both": (*group.producers, *group.consumers)}
    cuts = [c for c in sides[method.SIDE] if _scores(module, c)]
    if not cuts:
        raise ModelError(
            f"{group.name} has no weights that {method.__name__.rpartition('.')[2]} can score",
            "use prune.method: magnitude",
        )
    return cuts


def _scores(module: nn.Module, cut: Cut) -> bool:
    """Whether a slice is one of a matrix, a kernel or experts; a bias, a norm or a table is not."""
    owner = module.get_submodule(cut.module)
    weight: Tensor | None = getattr(owner, cut.leaf)
    return isinstance(weight, nn.Parameter) and weight.dim() >= 2 and not isinstance(owner, nn.Embedding)


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    out: np.ndarray[Any, Any] = values.double().numpy()
    return out


def scorer(name: str) -> ModuleType:
    """Return the method file of this name."""
    return plugins.find("prune.methods", name)
