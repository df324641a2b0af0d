"""What is kept of a teacher's distribution over a vocabulary: its likeliest tokens and a tail, or samples of it.

Top-k: K tokens and one bucket for all others. Both sides are compared as distributions over these K + 1 outcomes, so
every divergence stays one (never negative, 0 where the two agree); a softmax over the K logits alone would not say how
likely the K are. Merging outcomes never raises a divergence: forward KL, reverse KL, Jensen-Shannon, skewed KLs and
total variation over buckets are lower bounds of those over the vocabulary, exact where K is the whole of it.

Sampled: tokens drawn from the teacher, weighed by how often. The weights estimate the distribution without bias, so the
gradient of the cross-entropy does too; nothing is known of the tokens not drawn, so there is no tail and no other
objective than forward KL. Source: Anshumann et al. 2025, Sparse Logit Sampling, https://arxiv.org/abs/2503.16870.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lessen.distill.divergence import cross_entropy, wide
from lessen.errors import ModelError, RecipeError


@dataclass(frozen=True, eq=False)
class SparseTargets:
    """A teacher's answer at n positions, at temperature 1.

    Attributes:
        index: distinct token ids, int64 [n, k]; −1 in unused places.
        log_p: their log-probabilities, or the log of their weights where sampled, fp32 [n, k]; −inf in unused places.
        tail: log of the mass of all other tokens, fp32 [n], −inf where there is none; None: sampled.
    """

    index: Tensor
    log_p: Tensor
    tail: Tensor | None

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.index)

    @property
    def mass(self) -> Tensor:
        """Probability of the kept tokens together, [n] in 0 to 1; what the tail holds is missing."""
        return self.log_p.exp().sum(dim=1)

    def rows(self, chosen: Tensor | slice) -> SparseTargets:
        """Return the answers at some of the positions."""
        tail = None if self.tail is None else self.tail[chosen]
        return SparseTargets(self.index[chosen], self.log_p[chosen], tail)

    def to(self, device: torch.device) -> SparseTargets:
        """Return the same on a device."""
        tail = None if self.tail is None else self.tail.to(device)
        return SparseTargets(self.index.to(device), self.log_p.to(device), tail)


def top_k(logits: Tensor, k: int) -> SparseTargets:
    """Keep the k likeliest tokens of each row and the mass of the rest.

    The tail is the log-sum-exp of the tokens left out, not one minus those kept: it is right where it is tiny. A token
    that the teacher forbids (logit −inf) is never kept.

    Args:
        logits: the teacher's, at temperature 1, [n, vocab].
        k: at least 1; all tokens where it is more than there are.
    """
    log_all = functional.log_softmax(wide(logits.detach()), dim=-1)
    log_p, index = log_all.topk(min(k, log_all.shape[-1]), dim=-1)
    tail = log_all.scatter(-1, index, -torch.inf).logsumexp(dim=-1)
    return SparseTargets(index.masked_fill(log_p == -torch.inf, -1), log_p.float(), tail.float())


def sampled(logits: Tensor, draws: int, generator: torch.Generator | None = None) -> SparseTargets:
    """Draw tokens from each row's distribution, with replacement; weight = times drawn / draws.

    The proposal is the teacher itself, so the importance weights are all 1 / draws before equal tokens are merged, they
    sum to 1, and their expectation is the teacher's probability.

    Args:
        logits: the teacher's, at temperature 1, [n, vocab].
        draws: of each row, at least 1.
        generator: of the draws, on the logits' device; rows use it in their order.
    """
    p = functional.softmax(wide(logits.detach()), dim=-1)
    if not len(p):
        return SparseTargets(p.new_zeros(0, 1, dtype=torch.int64), p.new_zeros(0, 1).float(), None)
    drawn = torch.multinomial(p, draws, replacement=True, generator=generator).sort(dim=1).values
    first = functional.pad(drawn[:, 1:] != drawn[:, :-1], (1, 0), value=True)
    place = first.long().cumsum(dim=1) - 1
    width = int(place.max()) + 1
    index = torch.full_like(drawn, -1).scatter(1, place, drawn)[:, :width]
    counts = torch.zeros_like(drawn).scatter_add(1, place, torch.ones_like(drawn))[:, :width]
    return SparseTargets(index, (counts.float() / draws).log(), None)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each row's distribution in nats, [n]: what a cross-entropy against it cannot go below."""
    log_p = functional.log_softmax(wide(logits.detach()), dim=-1)
    return cross_entropy(log_p, log_p)


def softened(log_p: Tensor, temperature: float) -> Tensor:
    """Return log-probabilities over buckets at a temperature, normalized over the last dimension.

    An approximation where a bucket holds several tokens: p^(1/T) of the tail is taken of its mass as if it were one
    token, since what is in it is not known. Student and teacher are treated alike, so the minimum stays where they
    agree; with K the whole vocabulary, and at T = 1, nothing is approximate.
    """
    return functional.log_softmax(log_p / temperature, dim=-1)


def soft_values(
    log_s: Tensor, told: SparseTargets, file: Any, settings: dict[str, float], temperature: float
) -> Tensor:
    """Return the soft term of each position, T^ORDER times the objective's `between`, [n].

    Sampled targets give the cross-entropy −Σ w log q, which is KL plus the entropy of the teacher, in expectation: that
    entropy is not known from a sample, so the value does not fall to 0; the gradient is that of KL.

    Args:
        log_s: the student's log-probabilities at T = 1 of the K tokens and of all others together, [n, k + 1].
        told: what the teacher said; see `refuse_targets` for what fits.
        file: the objective's.
        settings: further arguments of its `between`.
        temperature: T > 0; see `softened`.
    """
    if told.tail is None:
        return cross_entropy(told.log_p, log_s[:, :-1])
    log_t = softened(torch.cat([told.log_p, told.tail[:, None]], dim=1).to(log_s.dtype), temperature)
    log_s = log_s if temperature == 1 else softened(log_s, temperature)
    values: Tensor = temperature**file.ORDER * file.between(log_t, log_s, **settings)
    return values


def refuse_targets(told: SparseTargets, objective: str, file: Any, temperature: float) -> None:
    """Raise unless an objective can be taken from truncated targets.

    Raises:
        RecipeError: it needs the whole distribution, or more than samples of it.
        ModelError: the parts of the targets do not fit each other.
    """
    if told.index.shape != told.log_p.shape or (told.tail is not None and told.tail.shape != told.index.shape[:1]):
        shapes = [tuple(t.shape) for t in (told.index, told.log_p, told.tail) if t is not None]
        raise ModelError(f"sparse targets have the shapes {shapes}", "give index and log_p [n, k] and tail [n]")
    if not hasattr(file, "between"):
        raise RecipeError(
            f"distill.objective {objective} compares logits, of which truncated targets hold only a part",
            "use objective kl, or distill.targets dense",
        )
    if told.tail is None and (objective != "kl" or temperature != 1):
        raise RecipeError(
            f"distill.targets is sampled, distill.objective {objective}, distill.temperature {temperature:g}: samples "
            "estimate the forward KL at temperature 1 without bias, and nothing else",
            "use objective kl with temperature 1, or distill.targets top_k",
        )
