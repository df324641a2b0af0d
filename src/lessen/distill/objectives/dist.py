"""DIST: the student keeps the teacher's ranking, of classes within a sample and of samples within a class.

Source: Huang et al. 2022, Knowledge Distillation from A Stronger Teacher, https://arxiv.org/abs/2205.10536, eq. 9.
Differs: T² as the authors' code has it; a class on which the teacher does not vary in the batch has no ranking and is
left out.

The second part is a statistic of the whole batch, hence not a sum over samples: micro-batches or ranks would change
it, so the stage refuses train.accumulate > 1 and more than one process. Every sample is given the same share of it.
"""

from __future__ import annotations

from jaxtyping import Float, Num
from torch import Tensor

from lessen.distill.divergence import log_probabilities, unit

NEEDS = "logits"
SIGMOID = False
SOFTENS = True
PER_BATCH = True
CLASSES = 2  # with two classes the ranking within a sample is one bit; the ranking of samples does the work

WITHIN = 1.0  # weight of the classes within a sample (beta of the paper)
ACROSS = 1.0  # weight of the samples within a class (gamma)


def loss(
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    labels: Num[Tensor, "b ..."],
    *,
    temperature: float,
    sigmoid: bool,
) -> Float[Tensor, " b"]:
    """Return T² · (WITHIN · (1 − ρ over classes) + ACROSS · mean over classes of (1 − ρ over samples)).

    ρ is Pearson's correlation of the probabilities softened by T. The first part is the sample's own, the second the
    batch's; a batch of one sample has no second part.

    Args:
        labels: not used; every soft objective takes them.
        temperature: T > 0, no unit.
        sigmoid: must be false.
    """
    p_t = log_probabilities(teacher.detach(), temperature=temperature, sigmoid=False)[:, 0].exp()
    p_s = log_probabilities(student, temperature=temperature, sigmoid=False)[:, 0].exp()
    within, ranked = _unlike(p_s, p_t)
    across, varied = _unlike(p_s.T, p_t.T)
    whole = (across * varied).sum() / varied.sum().clamp_min(1)
    return temperature**2 * (WITHIN * within * ranked + ACROSS * whole)


def _unlike(a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return 1 − Pearson's correlation of the rows, and 1 for rows in which b varies, else 0."""
    x, y = (unit(rows - rows.mean(dim=1, keepdim=True), dim=1) for rows in (a, b))
    return 1 - (x * y).sum(dim=1), (y != 0).any(dim=1).float()
