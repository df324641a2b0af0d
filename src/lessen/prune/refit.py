"""Least squares: after units are gone, the layer that read them learns to do without.

For a consumer y = W x with kept inputs S and removed inputs R, the kept columns (and the bias, where there is one) get
the change D that best replaces what is lost, on calibration activations of the unpruned model:

    D = argmin sum_t || W_R x_R(t) - D [x_S(t); 1] ||^2 + damping · s ||D||^2,   s = mean over S of sum_t x(t)^2

solved in float64 from its normal equations. The damping is chosen on held-out batches; "no change" is a choice too.

Source: Kwon et al. 2022, https://arxiv.org/abs/2204.09656, section 4.3 (mask tuning); here full rows, not one scale
a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lessen.prune import tensors
from lessen.prune.calibrate import Calibration, each_input

DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1)
ENOUGH = 16  # rows (tokens, pixels) per kept feature: more change the solution little and cost as much again


@dataclass
class Site:
    """One consumer layer: which of its inputs stay, and the sums behind its normal equations."""

    module: str
    keep: Tensor  # kept input features, ascending
    gone: Tensor
    rows: int = 0  # rows behind the sums
    gram: Tensor | None = None  # [kept (+ 1), kept (+ 1)]
    cross: Tensor | None = None  # [kept (+ 1), out]
    changes: list[Tensor] = field(default_factory=list)  # a candidate for each damping, [kept (+ 1), out]
    errors: Tensor | None = None  # squared error on held-out rows: unchanged, then each candidate
    energy: float = 0.0  # squared output on held-out rows

    @property
    def full(self) -> bool:
        """Whether there are rows enough."""
        return self.rows >= ENOUGH * len(self.keep)


@dataclass(frozen=True)
class Change:
    """What to add to the kept columns (and the bias) of a consumer, and how well it did on held-out batches."""

    module: str
    weight: Tensor | None  # [out, kept]; None: no change was better
    bias: Tensor | None
    error_before: float  # squared error of the layer's output, as a share of its energy
    error_after: float
    damping: float | None
    rows: int  # tokens or pixels that it was fitted on

    def facts(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        names = ("module", "error_before", "error_after", "damping", "rows")
        return {name: getattr(self, name) for name in names}


def refittable(layer: nn.Module) -> bool:
    """Whether a layer is linear in its input features: Linear, Conv1D, or a 1x1 convolution without groups."""
    if isinstance(layer, nn.Linear) or tensors.is_conv1d(layer):
        return True
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1


def solve(module: nn.Module, kept: Mapping[str, list[int]], batches: Calibration) -> list[Change]:
    """Return the change of every consumer; the module (unpruned) is not changed.

    Args:
        kept: input features that stay, by module name; each must be `refittable`.
        batches: two passes are made over parts of them: one to fit, one to judge.
    """
    sites = {name: _site(module, name, keep) for name, keep in kept.items()}
    fit, held = batches.parts()
    _pass(module, sites, fit, _gather)
    for site in sites.values():
        _candidates(site)
    _pass(module, sites, held, _judge)
    return [_choose(module, site) for site in sites.values()]


def apply_(module: nn.Module, changes: list[Change]) -> None:
    """Add the changes to a module whose removed columns are already cut, in place."""
    with torch.no_grad():
        for change in changes:
            if change.weight is None:
                continue
            layer: Any = module.get_submodule(change.module)
            (weight,) = tensors.matrices(layer.weight, tensors.layout(module, change.module))
            weight += change.weight.reshape(weight.shape).to(weight)
            if change.bias is not None:
                layer.bias += change.bias.to(layer.bias)


def _site(module: nn.Module, name: str, keep: list[int]) -> Site:
    weight = _matrix(module, name)
    stays = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
    stays[keep] = True
    return Site(name, stays.nonzero()[:, 0], (~stays).nonzero()[:, 0])


def _pass(module: nn.Module, sites: Mapping[str, Site], batches: Calibration, work: Any) -> None:
    def see(name: str, x: Tensor) -> None:
        layer: Any = module.get_submodule(name)
        site = sites[name]
        if work is _gather and site.full:
            return
        rows, weight = x.double(), _matrix(module, name).double()
        inputs = rows[:, site.keep]
        if layer.bias is not None:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        work(site, inputs, rows[:, site.gone] @ weight[:, site.gone].T, lambda: rows @ weight.T)

    def done() -> bool:
        return work is _gather and all(site.full for site in sites.values())

    each_input(module, list(sites), batches, see, done)


def _matrix(module: nn.Module, name: str) -> Tensor:
    """Return a consumer's weight, [out, in]."""
    (weight,) = tensors.matrices(tensors.tensor(module, name).detach(), tensors.layout(module, name))
    return weight.reshape(weight.shape[0], -1)


def _gather(site: Site, inputs: Tensor, lost: Tensor, output: Callable[[], Tensor]) -> None:
    gram, cross = inputs.T @ inputs, inputs.T @ lost
    site.rows += len(inputs)
    site.gram = gram if site.gram is None else site.gram + gram
    site.cross = cross if site.cross is None else site.cross + cross


def _candidates(site: Site) -> None:
    if site.gram is None or site.cross is None:
        return
    scale = site.gram.diagonal()[: len(site.keep)].mean().clamp_min(torch.finfo(torch.float64).tiny)
    eye = torch.eye(len(site.gram), dtype=site.gram.dtype, device=site.gram.device)
    for damping in DAMPINGS:
        factor, failed = torch.linalg.cholesky_ex(site.gram + damping * scale * eye)
        if int(failed) == 0:
            site.changes.append(torch.cholesky_solve(site.cross, factor))
        else:
            site.changes.append(torch.zeros_like(site.cross))
    site.gram = site.cross = None


def _judge(site: Site, inputs: Tensor, lost: Tensor, output: Callable[[], Tensor]) -> None:
    errors = torch.stack([lost.square().sum(), *((lost - inputs @ d).square().sum() for d in site.changes)])
    site.errors = errors if site.errors is None else site.errors + errors
    site.energy += float(output().square().sum())


def _choose(module: nn.Module, site: Site) -> Change:
    if site.errors is None or not site.changes:
        return Change(site.module, None, None, 0.0, 0.0, None, site.rows)
    best = int(site.errors.argmin())
    energy = site.energy or 1.0
    before, after = float(site.errors[0]) / energy, float(site.errors[best]) / energy
    if best == 0:
        return Change(site.module, None, None, before, after, None, site.rows)
    change, count = site.changes[best - 1], len(site.keep)
    bias = change[count] if len(change) > count else None
    return Change(site.module, change[:count].T.contiguous(), bias, before, after, DAMPINGS[best - 1], site.rows)
