"""Generalised Jensen-Shannon divergence between teacher and student.

Source: Agarwal et al. 2024, On-Policy Distillation, https://arxiv.org/abs/2306.13649, eq. 1.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import divergence, log_probabilities, mixture

NEEDS = "logits"
SIGMOID = True
SOFTENS = True
PER_BATCH = False
CLASSES = 2


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
    teacher_share: float = 0.5,
) -> Float[Tensor, " b"]:
    """Return T² · (β KL(teacher ‖ m) + (1 − β) KL(student ‖ m)), m = β teacher + (1 − β) student, one value per sample.

    Args:
        teacher_share: β in (0, 1), the teacher's share of the mixture. Towards 0 and 1 the value tends to 0, not to
            a KL: divided by β it tends to kl.py's, divided by 1 − β to reverse_kl.py's.
    """
    log_t = log_probabilities(teacher.detach(), temperature=temperature, sigmoid=sigmoid)
    log_s = log_probabilities(student, temperature=temperature, sigmoid=sigmoid)
    log_m = mixture(log_t, log_s, teacher_share)
    both = teacher_share * divergence(log_t, log_m) + (1 - teacher_share) * divergence(log_s, log_m)
    return temperature**2 * both.mean(dim=1)
