"""Soft targets: Kullback-Leibler divergence of the student's softened answers from the teacher's.

Source: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531, sec. 2.
Differs: the entropy of the teacher is subtracted, so that the value is 0 where the two agree; one-logit and
multi-label answers are compared as independent yes/no distributions, a softmax over them would mean nothing.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import compared, divergence

NEEDS = "logits"
SIGMOID = True  # one-logit and multi-label answers
SOFTENS = True  # uses the temperature
PER_BATCH = False  # a sample's value does not depend on the other samples
CLASSES = 2  # at least, where softmax
TOKENS = True  # also compares distributions over tokens, whole and truncated: `between`
ORDER = 2  # times T to this power, so that the gradient does not shrink with the temperature


def between(log_t: Float[Tensor, "*d c"], log_s: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return KL(teacher ‖ student) of log-probabilities over their last dimension."""
    return divergence(log_t, log_s)


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return T² · KL(teacher ‖ student), both softened by T, one value per sample.

    Softmax: summed over the classes. Sigmoid: summed over yes and no, averaged over the labels, as the label loss is.

    Args:
        labels: not used; every soft objective takes them.
        temperature: T > 0, no unit.
        sigmoid: the logits are of one-logit or multi-label answers.
    """
    return compared(between, student, teacher, order=ORDER, temperature=temperature, sigmoid=sigmoid)
