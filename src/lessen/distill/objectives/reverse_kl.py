"""Reverse Kullback-Leibler divergence: the student avoids what the teacher finds unlikely.

Source: Gu et al. 2024, MiniLLM, https://arxiv.org/abs/2306.08543, eq. 1 (for classes in place of tokens).
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import compared, divergence

NEEDS = "logits"
SIGMOID = True
SOFTENS = True
PER_BATCH = False
CLASSES = 2
TOKENS = True
ORDER = 2


def between(log_t: Float[Tensor, "*d c"], log_s: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return KL(student ‖ teacher) of log-probabilities over their last dimension."""
    return divergence(log_s, log_t)


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return T² · KL(student ‖ teacher), both softened by T, one value per sample; arguments as in kl.py."""
    return compared(between, student, teacher, order=ORDER, temperature=temperature, sigmoid=sigmoid)
