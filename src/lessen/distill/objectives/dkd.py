"""Decoupled distillation: the label's probability and the shape of the rest are weighed apart.

Source: Zhao et al. 2022, Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679, eq. 7.
Differs: no warm-up of the weight over the first epochs. With OTHERS = 1 − p_label(teacher) it would be kl.py.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from lessen.distill.divergence import divergence, log_probabilities

NEEDS = "logits"
SIGMOID = False
SOFTENS = True
PER_BATCH = False
CLASSES = 3  # with two classes nothing is left beside the label, and this is kl.py

LABEL = 1.0  # weight of the label's part (alpha of the paper)
OTHERS = 2.0  # weight of the other classes' part (beta); the paper takes 0.5 to 8, 2 for ResNet-50 to MobileNet


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return T² · (LABEL · KL of (p_label, 1 − p_label) + OTHERS · KL among the other classes), one value per sample.

    Args:
        labels: class indices, int64 [b].
        temperature: T > 0, no unit.
        sigmoid: must be false.
    """
    mine = functional.one_hot(labels.long(), student.shape[1]).bool()
    label_t, others_t = _parts(teacher.detach(), mine, temperature)
    label_s, others_s = _parts(student, mine, temperature)
    return temperature**2 * (LABEL * divergence(label_t, label_s) + OTHERS * divergence(others_t, others_s))


def _parts(
    logits: Float[Tensor, "b c"], mine: Tensor, temperature: float
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b c"]]:
    """Return log-probabilities of (label, not label) and of the classes given that it is not the label."""
    log_p = log_probabilities(logits, temperature=temperature, sigmoid=False)[:, 0]
    rest = log_p.masked_fill(mine, -torch.inf)
    log_rest = rest.logsumexp(dim=1, keepdim=True)
    return torch.cat([log_p[mine][:, None], log_rest], dim=1), rest - log_rest
