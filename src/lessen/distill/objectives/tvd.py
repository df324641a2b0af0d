"""Total variation distance: half of what the two distributions differ by.

Source: Wen et al. 2023, f-Divergence Minimization for Sequence-Level Knowledge Distillation,
https://arxiv.org/abs/2307.15190 (the TVD, per token).
Differs: times T, not T². The distance is of the first order in the difference of the logits, the KLs are of the
second, so its gradient falls as 1 / T; the factor keeps it constant, as T² does theirs.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import compared, variation

NEEDS = "logits"
SIGMOID = True
SOFTENS = True
PER_BATCH = False
CLASSES = 2
TOKENS = True
ORDER = 1


def between(log_t: Float[Tensor, "*d c"], log_s: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return ½ Σ |teacher − student| of the probabilities, in 0 to 1."""
    return variation(log_t, log_s)


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return T · `between` of the answers softened by T, one value per sample; arguments as in kl.py."""
    return compared(between, student, teacher, order=ORDER, temperature=temperature, sigmoid=sigmoid)
