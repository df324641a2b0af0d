"""Relations: tokens that are alike to the teacher are alike to the student.

Needs no projector and no equal widths or head counts: only how positions relate is compared, not where they lie.

Source: Wang et al. 2021, MiniLMv2, https://arxiv.org/abs/2012.15828, sec. 3.1; Tung and Mori 2019,
Similarity-Preserving Knowledge Distillation, https://arxiv.org/abs/1907.09682.
Differs: cosines of hidden states, compared by squared error within a sample; MiniLMv2 softens dot products of queries,
keys and values, which not every family has, and Tung and Mori relate the samples of a batch, which is no sum over them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lessen.distill.divergence import unit
from lessen.distill.layers import Pairs
from lessen.distill.outputs import Need
from lessen.distill.positions import as_positions, several_places

ALIGNS = False  # different tokenizers: averaged tokens would be alike because they were averaged


def needs(images: bool) -> Need:
    """Return what of the models' outputs is compared."""
    return "hidden"


class Match(nn.Module):
    """Compares relations within layer pairs; it has no parameters."""

    def __init__(
        self, pairs: Pairs, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], *, images: bool
    ) -> None:
        """Check example outputs.

        Raises:
            ModelError: every pair of maps has one place only.
        """
        super().__init__()
        self.pairs = several_places(pairs, student, teacher, "relation") if images else pairs

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], real: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, " b"]:
        """Return the mean squared difference of cosines over pairs of different real positions, shape [b]."""
        values = []
        for s, t in self.pairs:
            x, y = as_positions(student[s], teacher[t].detach())
            values.append(_off_diagonal_mean((_cosines(x) - _cosines(y)).square(), real))
        return torch.stack(values).mean(dim=0)


def _cosines(states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    directions = unit(states, dim=2)
    with torch.autocast(states.device.type, enabled=False):
        return directions @ directions.transpose(1, 2)


def _off_diagonal_mean(values: Float[Tensor, "b n n"], real: Bool[Tensor, "b n"] | None) -> Float[Tensor, " b"]:
    n = values.shape[1]
    there = ~torch.eye(n, dtype=torch.bool, device=values.device).expand(len(values), n, n)
    if real is not None:
        there = there & real[:, :, None] & real[:, None, :]
    return values.masked_fill(~there, 0.0).sum(dim=(1, 2)) / there.sum(dim=(1, 2)).clamp_min(1)
