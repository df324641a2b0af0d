"""Skew reverse Kullback-Leibler divergence: the teacher is widened by a share of the student.

Source: Ko et al. 2024, DistiLLM, https://arxiv.org/abs/2402.03898, sec. 3.1 (skew RKLD).
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
SETTING = "skew"


def between(log_t: Float[Tensor, "*d c"], log_s: Float[Tensor, "*d c"], *, skew: float = 0.1) -> Float[Tensor, "*d"]:
    """Return KL(student ‖ (1 − α) teacher + α student), mixed as probabilities.

    Args:
        skew: α in (0, 1), the share of the student mixed into the teacher; at 0 this is reverse_kl.py. At most −log α.
    """
    return divergence(log_s, mixture(log_s, log_t, skew))


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
    skew: float = 0.1,
) -> Float[Tensor, " b"]:
    """Return T² · `between` of the answers softened by T, one value per sample; arguments as in kl.py and `between`."""
    return compared(between, student, teacher, order=ORDER, temperature=temperature, sigmoid=sigmoid, skew=skew)
