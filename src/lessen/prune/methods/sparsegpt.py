"""SparseGPT: take weights out column by column, and let the columns that follow make up for each."""

from __future__ import annotations

import torch
from torch import Tensor

from lessen.prune.masks import keep_global, keep_nm

NEEDS: tuple[str, ...] = ("hessian",)
SIDE = "matrix"  # it scores no units: `solve` takes a whole matrix and changes the weights that stay
DAMPING = 0.01  # of the mean diagonal of the Hessian
DEAD = 1e-6  # factor of the saliency of inputs that were never active
BLOCK = 128  # columns among which an unstructured mask is chosen


def solve(
    weight: Tensor, hessian: Tensor, remove: int, nm: tuple[int, int] | None = None, *, block: int = BLOCK
) -> tuple[Tensor, Tensor]:
    """Return a pruned weight and its mask (True: stays), by algorithm 1 of the source.

    With U the upper Cholesky factor of the inverse Hessian, column j loses weights w and passes their error on:

        e = w / U_jj,   W[:, k] -= e U_jk for the columns k > j that are still to come

    A weight's saliency is w² / U_jj² (ranked by its root), of what earlier columns have made of it. Unstructured masks
    are chosen among the weights of `block` columns at a time; each block removes its share of `remove`, so that the
    whole is exact. N:M masks are chosen when their first column is reached. Weights of inputs that were never active go
    first, the small ones among them before the others.

    Args:
        weight: [out, in]; not changed.
        hessian: [in, in], sum over rows x of x xᵀ; its scale does not matter.
        remove: weights to remove, exactly; with nm, what nm implies.
        nm: N of every M neighbours along the inputs stay.

    Source: Frantar and Alistarh 2023, https://arxiv.org/abs/2301.00774, algorithm 1.
    """
    left, factor = weight.detach().double().clone(), inverse_factor(hessian)
    step = max(1, block // nm[1]) * nm[1] if nm else block
    price = torch.where(hessian.diagonal() > 0, 1.0, DEAD) / factor.diagonal()
    mask = torch.ones_like(left, dtype=torch.bool)
    columns, gone = left.shape[1], 0
    for start in range(0, columns, step):
        end = min(start + step, columns)
        if nm is None:
            due = (2 * remove * end + columns) // (2 * columns)  # rounded share of the columns so far; all in the end
            mask[:, start:end] = keep_global([left[:, start:end].abs() * price[start:end]], due - gone)[0]
            gone = due
        errors = left.new_zeros(len(left), end - start)
        for j in range(start, end):
            if nm is not None and j % nm[1] == 0:
                mask[:, j : j + nm[1]] = keep_nm(left[:, j : j + nm[1]].abs() * price[j : j + nm[1]], *nm)
            error = left[:, j].masked_fill(mask[:, j], 0.0) / factor[j, j]
            left[:, j:end] -= error[:, None] * factor[j, j:end]
            errors[:, j - start] = error
        left[:, end:] -= errors @ factor[start:end, end:]
    return left.masked_fill(~mask, 0.0).to(weight.dtype), mask


def inverse_factor(hessian: Tensor) -> Tensor:
    """Return the upper Cholesky factor U of the damped inverse Hessian, inverse = Uᵀ U, float64."""
    damped = hessian.detach().double().clone()
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(DAMPING * mean if mean > 0 else 1.0)  # no input at all: by magnitude
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
