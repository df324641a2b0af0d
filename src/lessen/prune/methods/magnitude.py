"""Magnitude: small weights matter least."""

from __future__ import annotations

from torch import Tensor

NEEDS: tuple[str, ...] = ()
SIDE = "both"  # a unit is scored on what makes it and on what reads it (group L2 norm)
NORM = 2  # a unit's score is the L2 norm over its weights


def saliency(weight: Tensor) -> Tensor:
    """Return |w| for every weight.

    Summed over a unit as an L2 norm: L2 ranked units at least as well as L1 in our measurements.
    """
    return weight.detach().abs()
