"""Random: the control that every criterion must beat."""

from __future__ import annotations

import torch
from torch import Tensor

NEEDS: tuple[str, ...] = ("generator",)
SIDE = "units"  # one draw per unit: a sum over many draws would make wide units all alike
NORM = 1


def saliency(weight: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return an independent draw from [0, 1) for every weight (or unit), from a seeded CPU generator."""
    draws = torch.rand(weight.shape, generator=generator, dtype=torch.float32)
    return draws.to(weight.device)
