"""Taylor: how much the loss would move, to first order, if the weight were zero."""

from __future__ import annotations

from torch import Tensor

NEEDS: tuple[str, ...] = ("gradient",)
SIDE = "both"
NORM = 1


def saliency(weight: Tensor, *, gradient: Tensor) -> Tensor:
    """Return mean_b |g_b w| for every weight.

    Args:
        weight: any shape.
        gradient: mean over calibration batches of |dL/dw|, same shape. The absolute value comes before the mean: a
            signed sum lets batches cancel and ranked units clearly worse in our measurements.

    Source: Molchanov et al. 2019, https://arxiv.org/abs/1906.10771, eq. 8 (there squared and summed per unit).
    """
    return weight.detach().abs() * gradient
