"""Loss and gradient of some rows of logits, in place: what `fused_loss` computes between its matrix products.

Each function is given logits [r, vocab], returns the values of its rows, and leaves in the logits the gradient of
hard · ce + soft · (soft term) with respect to them. No graph spans the vocabulary: the objective's function is
differentiated with respect to log-probabilities, and the chain to the logits is written out. With g the gradient with
respect to log q, and q_j the student's probability: d/dz_j = g_j − q_j Σ g.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lessen.distill.tokens.targets import SparseTargets, soft_values


@dataclass(frozen=True)
class Weighing:
    """Weights of the two terms, and what the soft one is."""

    hard: float
    soft: float
    file: Any  # of objectives/; None: labels alone
    settings: dict[str, float]
    temperature: float


def labelled(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's cross-entropy [r] and whether the label is the likeliest token; the logits stay."""
    return z.logsumexp(dim=1) - z.gather(1, labels[:, None])[:, 0], z.argmax(dim=1) == labels


def against_sparse_(z: Tensor, labels: Tensor, told: SparseTargets | None, how: Weighing) -> tuple[Tensor, Tensor]:
    """Return ce [r] and soft [r]; the logits become the gradient. told: None for labels alone.

    The K tokens are taken out of the row first. The student's tail is the log-sum-exp of what remains, which is
    log(1 − mass of the K) without its cancellation: right where the tail is tiny, −inf where nothing is left.
    """
    index = labels[:, None][:, :0] if told is None else told.index
    used, at = index >= 0, index.clamp_min(0)
    of_label = z.gather(1, labels[:, None])
    kept = z.gather(1, at).masked_fill_(~used, -torch.inf)
    z.scatter_add_(1, at, torch.zeros_like(kept).masked_fill_(used, -torch.inf))
    peak = z.amax(dim=1, keepdim=True)
    empty = peak == -torch.inf
    peak.masked_fill_(empty, 0.0)
    mass = z.sub_(peak).exp_().sum(dim=1, keepdim=True)
    parts = torch.cat([kept, peak + mass.log()], dim=1)
    whole = parts.logsumexp(dim=1, keepdim=True)
    log_q = parts - whole
    values, slope = _soft(log_q, lambda s: None if told is None else _values(s, told, how), how.soft)
    flow = log_q.exp().mul_(how.hard - slope.sum(dim=1, keepdim=True)).add_(slope)
    z.mul_((flow[:, -1:] / mass).masked_fill_(empty, 0.0))
    z.scatter_add_(1, at, flow[:, :-1].masked_fill(~used, 0.0))
    z.scatter_add_(1, labels[:, None], torch.full_like(of_label, -how.hard))
    return (whole - of_label)[:, 0], values


def against_dense_(z: Tensor, labels: Tensor, teacher: Tensor, how: Weighing) -> tuple[Tensor, Tensor]:
    """Return ce [r] and soft [r] against the teacher's logits [r, vocab]; the logits become the gradient."""
    log_q = functional.log_softmax(z, dim=1)
    ce = -log_q.gather(1, labels[:, None])[:, 0]
    if not hasattr(how.file, "between"):  # compares logits
        values, pull = _soft(z, lambda s: _whole(s, teacher, labels, how), how.soft)
    else:
        log_t = functional.log_softmax(teacher / how.temperature, dim=1)
        log_s = log_q if how.temperature == 1 else functional.log_softmax(z / how.temperature, dim=1)
        values, slope = _soft(log_s, lambda s: _between(log_t, s, how), how.soft)
        pull = slope.sub_(log_s.exp().mul_(slope.sum(dim=1, keepdim=True))).div_(how.temperature)
    if how.hard:
        torch.exp(log_q, out=z)
        z.mul_(how.hard).add_(pull)
        z.scatter_add_(1, labels[:, None], torch.full_like(ce, -how.hard)[:, None])
    else:
        z.copy_(pull)
    return ce, values


def _soft(x: Tensor, values: Callable[[Tensor], Tensor | None], weight: float) -> tuple[Tensor, Tensor]:
    """Return values of x and weight times the gradient of their sum; zeros where there are none."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        found = values(leaf)
        if found is None:
            return x.new_zeros(len(x)), torch.zeros_like(x)
        (slope,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), slope if weight == 1 else slope * weight


def _values(log_s: Tensor, told: SparseTargets, how: Weighing) -> Tensor:
    return soft_values(log_s, told, how.file, how.settings, how.temperature)


def _between(log_t: Tensor, log_s: Tensor, how: Weighing) -> Tensor:
    values: Tensor = how.temperature**how.file.ORDER * how.file.between(log_t, log_s, **how.settings)
    return values


def _whole(z: Tensor, teacher: Tensor, labels: Tensor, how: Weighing) -> Tensor:
    values: Tensor = how.file.loss(z, teacher, labels, temperature=how.temperature, sigmoid=False, **how.settings)
    return values
