"""Hidden states: what of the teacher's states a learned linear projector cannot tell from the student's.

Source: Romero et al. 2015, FitNets, https://arxiv.org/abs/1412.6550, eq. 3; Jiao et al. 2020, TinyBERT,
https://arxiv.org/abs/1909.10351, eq. 8.
Differs: the squared error is divided by the variance of the teacher's layer, so that a weight means the same on every
layer and architecture; no projector where the widths are equal; each starts at the least-squares fit on training data.

Chosen over 1 − cosine (DistilBERT) on 4,000 rows of SST-2, BERT 3 × 96 to 2 × 48 from random weights, 4 epochs, three
seeds, weight 1, error not yet divided by the variance. Without the term / cosine / squared error: agreement with the
teacher 0.883 / 0.928 / 0.934, divergence from it 0.095 / 0.043 / 0.037 nats, in this order in every seed; accuracy
0.748 / 0.745 / 0.744 on 2,000 rows: the student copies the teacher (0.747) more closely, it does not get better.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lessen.distill.layers import Pairs
from lessen.distill.outputs import Need
from lessen.distill.positions import as_positions, mean_over

ALIGNS = True  # different tokenizers: states can be averaged over character spans
RIDGE = 1e-3  # of the mean variance of the student's states


def needs(images: bool) -> Need:
    """Return what of the models' outputs is compared."""
    return "hidden"


class Match(nn.Module):
    """Compares hidden states of layer pairs; its parameters are the projectors."""

    variance: Tensor  # of the teacher's states about their mean, per layer pair

    def __init__(
        self, pairs: Pairs, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], *, images: bool
    ) -> None:
        """Make projectors for the widths seen in example states."""
        super().__init__()
        self.pairs = pairs
        self.register_buffer("variance", torch.ones(len(pairs)))
        self.projectors = nn.ModuleDict()
        for s, t in pairs:
            width_s, width_t = _width(student[s]), _width(teacher[t])
            same = width_s == width_t
            self.projectors[f"{s}-{t}"] = nn.Identity() if same else nn.Linear(width_s, width_t)

    @torch.no_grad()
    def start_(self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], real: Tensor | None) -> None:
        """Take the teacher's variances; set each projector to the ridge regression of its states on the student's."""
        for index, (s, t) in enumerate(self.pairs):
            x, y = as_positions(student[s], teacher[t])
            keep = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if real is None else real
            x, y = x[keep].double(), y[keep].double()
            variance = y.var(dim=0, correction=0).mean()
            self.variance[index] = variance if variance > 0 else 1.0
            projector = self.projectors[f"{s}-{t}"]
            if isinstance(projector, nn.Linear):
                _regress_(projector, x, y)

    def forward(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], real: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, " b"]:
        """Return mean (P h_student − h_teacher)² / variance, over width, real positions and layer pairs, shape [b]."""
        values = []
        for (s, t), variance in zip(self.pairs, self.variance, strict=True):
            x, y = as_positions(student[s], teacher[t].detach())
            projected = self.projectors[f"{s}-{t}"](x).float()
            values.append(mean_over((projected - y).square().mean(dim=2) / variance, real))
        return torch.stack(values).mean(dim=0)


def _regress_(projector: nn.Linear, x: Float[Tensor, "n s"], y: Float[Tensor, "n t"]) -> None:
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    gram = (x - mean_x).T @ (x - mean_x)
    gram += RIDGE * (gram.diagonal().mean() + torch.finfo(torch.float32).tiny) * torch.eye(len(gram)).to(gram)
    weight = torch.linalg.solve(gram, (x - mean_x).T @ (y - mean_y)).T
    projector.weight.copy_(weight)
    projector.bias.copy_(mean_y - weight @ mean_x)


def _width(state: Tensor) -> int:
    return int(state.shape[2] if state.ndim == 3 else state.shape[1])
