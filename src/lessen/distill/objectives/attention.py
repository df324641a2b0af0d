"""Attention: the student looks where the teacher looks.

Texts: divergence of the student's attention from the teacher's, per head where both have as many, of the mean over
the heads where not. Maps: where a stage of a convolutional network is active.

Source: Jiao et al. 2020, TinyBERT, https://arxiv.org/abs/1909.10351, eq. 7; Zagoruyko and Komodakis 2017, Paying More
Attention to Attention, https://arxiv.org/abs/1612.03928, eq. 2.
Differs: TinyBERT compares scores by squared error; scores may differ by a constant per query and mean the same, so
probabilities are compared. The maps' squared distance is not halved by beta.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lessen.distill.divergence import divergence, unit
from lessen.distill.layers import Pairs
from lessen.distill.outputs import Need
from lessen.distill.positions import as_positions, mean_over, several_places

ALIGNS = False  # different tokenizers: a distribution over other tokens cannot be compared


def needs(images: bool) -> Need:
    """Return what of the models' outputs is compared: maps of images, attention of texts."""
    return "hidden" if images else "attentions"


class Match(nn.Module):
    """Compares attention of layer pairs; it has no parameters."""

    def __init__(
        self, pairs: Pairs, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], *, images: bool
    ) -> None:
        """Check example outputs.

        Raises:
            ModelError: every pair of maps has one place only.
        """
        super().__init__()
        self.pairs = several_places(pairs, student, teacher, "attention") if images else pairs
        self.images = images

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], real: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, " b"]:
        """Return the distance averaged over layer pairs, shape [b]; texts: over real queries, each over real keys."""
        compare = _transfer if self.images else _divergence
        values = [compare(student[s], teacher[t].detach(), real) for s, t in self.pairs]
        return torch.stack(values).mean(dim=0)


def _divergence(
    student: Float[Tensor, "b hs q k"], teacher: Float[Tensor, "b ht q k"], real: Bool[Tensor, "b n"] | None
) -> Float[Tensor, " b"]:
    """Return KL(teacher ‖ student) of log-attention, over heads and real queries."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = _mean_head(student), _mean_head(teacher)
    if real is not None:
        hidden = ~real[:, None, None, :]
        student, teacher = student.masked_fill(hidden, -torch.inf), teacher.masked_fill(hidden, -torch.inf)
    return mean_over(divergence(teacher.float(), student.float()).mean(dim=1), real)


def _mean_head(log_p: Float[Tensor, "b h q k"]) -> Float[Tensor, "b 1 q k"]:
    return log_p.float().logsumexp(dim=1, keepdim=True) - math.log(log_p.shape[1])


def _transfer(student: Tensor, teacher: Tensor, real: Tensor | None) -> Float[Tensor, " b"]:
    """Return the squared distance of where two maps are active: Σ_c x², at unit length over the places."""
    x, y = as_positions(student, teacher)
    a, b = (unit(unit(m.flatten(1), dim=1).view_as(m).square().sum(dim=2), dim=1) for m in (x, y))
    return (a - b).square().sum(dim=1)
