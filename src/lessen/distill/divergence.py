"""The mathematics that objectives share: log-probabilities, divergences, standardised logits, unit vectors. In fp32.

Everything between two distributions is a function of their log-probabilities [..., outcomes], so that classes, whole
vocabularies, chunks of tokens and truncated targets (K tokens and a tail) are compared by the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Between = Callable[..., Tensor]
SHORTEST = 1e-12  # the derivative of 1 / sqrt(length²) is 0.5e36 there; fp32 holds 3e38

ROUNDING = 1e-5  # of log-probabilities: those of real vocabularies are −10 to −100, known to 1e-6 to 1e-5


def wide(values: Tensor) -> Tensor:
    """Return values in fp32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def log_probabilities(
    logits: Float[Tensor, "b outputs"], *, temperature: float, sigmoid: bool
) -> Float[Tensor, "b groups outcomes"]:
    """Return log-probabilities of logits / temperature in fp32, as independent distributions.

    Softmax: one group of all classes, [b, 1, outputs]. Sigmoid (one logit, multi-label): one group of two outcomes
    (no, yes) per label, [b, outputs, 2]. The cast comes before the division: bf16 and fp16 logits lose nothing more.
    """
    z = wide(logits) / temperature
    if sigmoid:
        return torch.stack([functional.logsigmoid(-z), functional.logsigmoid(z)], dim=-1)
    return functional.log_softmax(z, dim=-1)[:, None, :]


def divergence(log_p: Float[Tensor, "*d c"], log_q: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return KL(p ‖ q), summed over the outcomes, in nats.

    Formula: Σ_c p_c (log p_c − log q_c). An outcome with log p_c = −inf adds 0, to the value and to every gradient;
    one that p allows and q forbids makes the divergence infinite, as it is.
    """
    there = log_p > -torch.inf
    p = log_p.exp().masked_fill(~there, 0.0)
    return (p * (log_p.masked_fill(~there, 0.0) - log_q.masked_fill(~there, 0.0))).sum(dim=-1)


def cross_entropy(log_p: Float[Tensor, "*d c"], log_q: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return −Σ_c p_c log q_c in nats: KL(p ‖ q) plus the entropy of p. Outcomes with log p_c = −inf add 0."""
    there = log_p > -torch.inf
    p = log_p.exp().masked_fill(~there, 0.0)
    return -(p * log_q.masked_fill(~there, 0.0)).sum(dim=-1)


def variation(log_p: Float[Tensor, "*d c"], log_q: Float[Tensor, "*d c"]) -> Float[Tensor, "*d"]:
    """Return the total variation distance ½ Σ_c |p_c − q_c|, in 0 to 1.

    Outcomes whose log-probabilities differ by less than fp32 tells apart (ROUNDING) are equal: the slope of |x| would
    otherwise make full-size gradients of rounding errors.
    """
    equal = (log_p - log_q).detach().abs() < ROUNDING
    return (log_p.exp() - log_q.exp()).masked_fill(equal, 0.0).abs().sum(dim=-1) / 2


def mixture(log_p: Float[Tensor, "*d c"], log_q: Float[Tensor, "*d c"], share: float) -> Float[Tensor, "*d c"]:
    """Return log(share · p + (1 − share) · q), mixed as probabilities; −inf where both are."""
    dead = (log_p == -torch.inf) & (log_q == -torch.inf)
    a = log_p.masked_fill(dead, 0.0) + math.log(share)
    b = log_q.masked_fill(dead, 0.0) + math.log1p(-share)
    return torch.logaddexp(a, b).masked_fill(dead, -torch.inf)


def compared(
    between: Between,
    student: Float[Tensor, "b c"],
    teacher: Float[Tensor, "b c"],
    *,
    order: int,
    temperature: float,
    sigmoid: bool,
    **settings: float,
) -> Float[Tensor, " b"]:
    """Return T^order · between(log teacher, log student) of answers softened by T, the mean over labels, [b].

    Args:
        between: of two log-probabilities over their last dimension; no gradient runs to the teacher's.
        order: power of T that keeps the gradient's size.
        settings: further arguments of `between`.
    """
    log_t = log_probabilities(teacher.detach(), temperature=temperature, sigmoid=sigmoid)
    log_s = log_probabilities(student, temperature=temperature, sigmoid=sigmoid)
    values: Tensor = between(log_t, log_s, **settings)
    return temperature**order * values.mean(dim=1)


def standardized(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """Return logits with mean 0 and standard deviation 1 over the classes of each sample; 0 where all are equal.

    Source: Sun et al. 2024, Logit Standardization in Knowledge Distillation, https://arxiv.org/abs/2403.01427, eq. 9.
    """
    z = logits.float()
    centred = z - z.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (z.shape[1] - 1)
    flat = variance == 0
    return centred * variance.masked_fill(flat, 1.0).rsqrt().masked_fill(flat, 0.0)


def unit(vectors: Float[Tensor, "*d"], dim: int) -> Float[Tensor, "*d"]:
    """Return vectors at length 1 along a dimension; one shorter than SHORTEST has no direction: 0, without gradient."""
    square = vectors.square().sum(dim=dim, keepdim=True)
    flat = square < SHORTEST**2
    return vectors * square.masked_fill(flat, 1.0).rsqrt().masked_fill(flat, 0.0)
