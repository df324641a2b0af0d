"""Skew Kullback-Leibler divergence: the student is helped by a share of the teacher, so the gradient stays bounded.

Source: Ko et al. 2024, DistiLLM, https://arxiv.org/abs/2402.03898, sec. 3.1 (skew KLD).
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
    """Return KL(teacher ‖ α teacher + (1 − α) student), mixed as probabilities.

    Args:
        skew: α in (0, 1), the share of the teacher mixed into the student; at 0 this is kl.py. At most −log α.
    """
    return divergence(log_t, mixture(log_t, log_s, skew))


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
