"""Wanda: a weight matters as much as the signal that passes through it."""

from __future__ import annotations

from torch import Tensor

NEEDS: tuple[str, ...] = ("norm",)
SIDE = "consumers"  # the norm of a unit's output is what the consumer reads
NORM = 2  # over a consumer's column: ||W[:, j]||_2 · ||x_j||_2


def saliency(weight: Tensor, *, norm: Tensor) -> Tensor:
    """Return |W_ij| · ||x_j||_2 for every weight.

    Args:
        weight: [out, in] of a linear layer, or [out, in / groups, kh, kw] of a convolution.
        norm: [in], the L2 norm of each input feature over all real tokens (pixels) of the calibration samples.

    Source: Sun et al. 2023, https://arxiv.org/abs/2306.11695, eq. 1. Scores are compared within one output row.
    """
    out, inner = weight.shape[:2]
    groups = norm.numel() // inner
    rows = norm.to(weight).reshape(groups, inner).repeat_interleave(out // groups, dim=0)
    return weight.detach().abs() * rows.reshape(out, inner, *[1] * (weight.dim() - 2))
