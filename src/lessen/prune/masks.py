"""Masks over single weights: exact counts, and a module that holds them through training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.prune.schedule import share
from lessen.prune.tensors import Layout, matrices, pieces

Score = Callable[[str, Tensor], Tensor]  # (name, weight) -> scores per weight in its layout, not negative


def count(frac: float, size: int) -> int:
    """Return how many of `size` weights a share is: rounded, halves up."""
    return min(size, math.floor(frac * size + 0.5))


def keep_global(scores: Sequence[Tensor], remove: int) -> list[Tensor]:
    """Return masks (True: stays) that remove exactly `remove` of all weights together, the lowest scores first.

    Among equal scores at the border the first in order go. Memory: no copy of all scores is made; the border is found
    by counting the bit patterns of non-negative floats, which are ordered like the numbers (torch.quantile refuses more
    than 16 M values).

    Raises:
        ModelError: a score is negative or not finite.
    """
    flat = [_ordered(s) for s in scores]
    masks = [torch.ones(s.shape, dtype=torch.bool, device=s.device) for s in scores]
    if remove <= 0:
        return masks
    border = _border(flat, remove)
    left = remove - sum(int((f < border).sum()) for f in flat)
    for f, mask in zip(flat, masks, strict=True):
        gone = f < border
        ties = (f == border).nonzero()[:, 0][:left]
        gone[ties] = True
        left -= len(ties)
        mask.view(-1)[gone] = False
    return masks


def keep_rows(scores: Tensor, remove: int) -> Tensor:
    """Return a mask that removes exactly `remove` weights, the same number in every row (dimension 0).

    Where the rows do not divide it, the first rows lose one more. Within a row the lowest go first, ties in order.
    """
    rows = scores.reshape(scores.shape[0], -1)
    _ordered(rows)
    each, more = divmod(remove, len(rows))
    numbers = each + (torch.arange(len(rows), device=scores.device) < more).long()
    rank = rows.argsort(dim=1, stable=True).argsort(dim=1)
    return (rank >= numbers[:, None]).reshape(scores.shape)


def keep_nm(scores: Tensor, keep: int, group: int) -> Tensor:
    """Return a mask that keeps exactly `keep` of every `group` neighbours along the input dimension (1).

    Among equal scores the later go. Kernels of a convolution are grouped per tap: [out, kh, kw, in].

    Raises:
        ModelError: the input dimension is not a multiple of `group`.
    """
    if scores.shape[1] % group:
        raise ModelError(f"{scores.shape[1]} inputs are not a multiple of {group}", "leave this layer dense")
    last = scores.movedim(1, -1)
    blocks = last.reshape(-1, group)
    _ordered(blocks)
    order = (-blocks).argsort(dim=1, stable=True)[:, :keep]
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(1, order, True)
    return mask.reshape(last.shape).movedim(-1, 1).contiguous()


def _ordered(scores: Tensor) -> Tensor:
    flat = scores.detach().float().reshape(-1)
    if flat.numel() and (not bool(torch.isfinite(flat).all()) or float(flat.min()) < 0):
        raise ModelError("a score of a weight is negative or not finite", "look at the model's weights for nan and inf")
    return (flat + 0.0).view(torch.int32)  # + 0.0: minus zero becomes zero


def _border(flat: Sequence[Tensor], rank: int) -> int:
    """Return the bit pattern of the rank-th smallest score (rank counts from 1): its upper 16 bits, then its lower."""
    upper, below = _nth([f >> 16 for f in flat], rank, 1 << 15)
    lower, _ = _nth([f[(f >> 16) == upper] & 0xFFFF for f in flat], rank - below, 1 << 16)
    return (upper << 16) + lower


def _nth(values: Sequence[Tensor], rank: int, bins: int) -> tuple[int, int]:
    """Return the rank-th smallest of small non-negative integers, and how many are smaller."""
    counts = torch.stack([torch.bincount(v, minlength=bins).cpu() for v in values]).sum(dim=0).cumsum(dim=0)
    index = int(torch.searchsorted(counts, rank))
    return index, int(counts[index - 1]) if index else 0


@dataclass(frozen=True)
class Plan:
    """How masks are chosen and when."""

    frac: float  # share of the chosen weights to remove at the end
    compare: str = "layer"  # layer | all | row: among which weights scores are compared
    nm: tuple[int, int] | None = None  # N of every M stay; `compare` has no meaning then
    schedule: str = "one_shot"
    start_epoch: float = 0.0
    end_epoch: float = 0.0
    frequency: int = 1  # steps between updates

    def target(self, shapes: Mapping[str, Sequence[int]], due: float = 1.0) -> dict[str, int] | int:
        """Return the exact number of weights to remove once a share `due` of the target is: per matrix, or in all."""
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        if self.nm:
            gone = self.gone(due)
            return {name: size // self.nm[1] * gone for name, size in sizes.items()}
        if self.compare == "all":
            return count(due * self.frac, sum(sizes.values()))
        return {name: count(due * self.frac, size) for name, size in sizes.items()}

    def gone(self, due: float) -> int:
        """Return how many of a group of M are removed once a share `due` of the target is."""
        return math.floor(due * (self.nm[1] - self.nm[0]) + 1e-9) if self.nm else 0


class Masks(nn.Module):
    """Boolean masks over weights of a model; give it to `fit` as an attachment.

    After every optimizer step the removed weights are zero again, whatever momentum and weight decay did to them. A
    growing schedule recomputes the masks on its way; what is once removed stays removed. The masks are buffers and so
    in every checkpoint; the weights themselves are not registered here.

    Rows, groups of M and counts are those of matrices [out, in]: a Conv1D is turned, each expert is one of its own.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        plan: Plan,
        score: Score,
        layouts: Mapping[str, Layout] | None = None,
    ) -> None:
        super().__init__()
        given = layouts or {}
        self.layouts: dict[str, Layout] = {name: given.get(name, "rows") for name in weights}
        self._weights = dict(weights)  # a plain dict: registers nothing
        self._score = score
        self.plan = plan
        for index, weight in enumerate(self._weights.values()):
            self.register_buffer(f"mask{index}", torch.ones(weight.shape, dtype=torch.bool, device=weight.device))
        if plan.schedule == "one_shot":
            self.update_(1.0)
            self.apply_()

    def by_name(self) -> dict[str, Tensor]:
        """Return the masks (True: stays) by the weights' names, in their layouts."""
        return {name: getattr(self, f"mask{index}") for index, name in enumerate(self._weights)}

    def after_step(self, step: int, total_steps: int, steps_per_epoch: int) -> None:
        """Recompute the masks where the schedule says so, then zero the removed weights.

        Args:
            step: optimizer steps done, from 1.
        """
        plan = self.plan
        if plan.schedule != "one_shot":
            start = round(plan.start_epoch * steps_per_epoch)
            end = max(start + 1, min(total_steps, math.floor(plan.end_epoch * steps_per_epoch + 1e-9)))
            if step == end or (start < step < end and (step - start) % plan.frequency == 0):
                self.update_(share(plan.schedule, (step - start) / (end - start)))
        self.apply_()

    @torch.no_grad()
    def update_(self, due: float) -> None:
        """Choose the masks for a share `due` of the target, in place."""
        old = self.by_name()
        scores = [self._alive(name, weight, old[name]) for name, weight in self._weights.items()]
        for mask, new in zip(old.values(), self._chosen(scores, due), strict=True):
            mask.copy_(new)

    def _alive(self, name: str, weight: Tensor, mask: Tensor) -> Tensor:
        tiny = torch.finfo(torch.float32).tiny
        return self._score(name, weight).float().clamp_min(tiny).masked_fill(~mask, 0.0)

    def _chosen(self, scores: list[Tensor], due: float) -> list[Tensor]:
        masks = [torch.empty_like(s, dtype=torch.bool) for s in scores]
        views = [v for name, m in zip(self._weights, masks, strict=True) for v in matrices(m, self.layouts[name])]
        each = [v for name, s in zip(self._weights, scores, strict=True) for v in matrices(s, self.layouts[name])]
        for view, mask in zip(views, self._kept(each, due), strict=True):
            view.copy_(mask)
        return masks

    def _kept(self, scores: list[Tensor], due: float) -> list[Tensor]:
        plan = self.plan
        target = plan.target(matrix_shapes(self._weights, self.layouts), due)
        if isinstance(target, int):
            return keep_global(scores, target)
        if plan.nm:
            return [keep_nm(s, plan.nm[1] - plan.gone(due), plan.nm[1]) for s in scores]
        if plan.compare == "row":
            return [keep_rows(s, n) for s, n in zip(scores, target.values(), strict=True)]
        return [keep_global([s], n)[0] for s, n in zip(scores, target.values(), strict=True)]

    @torch.no_grad()
    def apply_(self) -> None:
        """Zero the removed weights, in place."""
        for weight, mask in zip(self._weights.values(), self.by_name().values(), strict=True):
            weight.masked_fill_(~mask, 0.0)


def matrix_shapes(weights: Mapping[str, Tensor], layouts: Mapping[str, Layout]) -> dict[str, tuple[int, ...]]:
    """Return the shape [out, in, ...] of every matrix of some weights (or their masks), by name."""
    found: dict[str, tuple[int, ...]] = {}
    for name, weight in weights.items():
        names, parts = pieces(name, weight, layouts[name]), matrices(weight, layouts[name])
        found |= {piece: tuple(part.shape) for piece, part in zip(names, parts, strict=True)}
    return found
