"""Generalised Jensen-Shannon divergence between teacher and student.

Source: Agarwal et al. 2024, On-Policy Distillation, https://arxiv.org/abs/2306.13649, eq. 1.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import compared, divergence, mixture

NEEDS = "logits"
SIGMOID = True
SOFTENS = True
PER_BATCH = False
CLASSES = 2
TOKENS = True
ORDER = 2
SETTING = "beta"  # the setting of distill that `between` and `loss` take


def between(log_t: Float[Tensor, "*d c"], log_s: Float[Tensor, "*d c"], *, beta: float = 0.5) -> Float[Tensor, "*d"]:
    """Return β KL(teacher ‖ m) + (1 − β) KL(student ‖ m), m = β teacher + (1 − β) student, mixed as probabilities.

    Args:
        beta: β in (0, 1), the teacher's share of the mixture. Towards 0 and 1 the value tends to 0, not to a KL:
            divided by β it tends to kl.py's, divided by 1 − β to reverse_kl.py's.
    """
    log_m = mixture(log_t, log_s, beta)
    return beta * divergence(log_t, log_m) + (1 - beta) * divergence(log_s, log_m)


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
    beta: float = 0.5,
) -> Float[Tensor, " b"]:
    """Return T² · `between` of the answers softened by T, one value per sample; arguments as in kl.py and `between`."""
    return compared(between, student, teacher, order=ORDER, temperature=temperature, sigmoid=sigmoid, beta=beta)
