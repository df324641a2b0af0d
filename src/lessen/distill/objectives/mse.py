"""Logit matching by squared error.

Source: Kim et al. 2021, Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation,
https://arxiv.org/abs/2105.08919, eq. 6.
Differs: averaged over the classes, not summed; with centred logits it is then twice the limit of kl.py for T → ∞.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

NEEDS = "logits"
SIGMOID = True
SOFTENS = False
PER_BATCH = False
CLASSES = 2
TOKENS = True  # whole vocabularies alone: it compares logits, there is no `between` of log-probabilities


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return the mean over the outputs of (student − teacher)², one value per sample; the temperature has no part."""
    return (student.float() - teacher.detach().float()).square().mean(dim=1)
