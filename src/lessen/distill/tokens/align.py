"""Teacher and student with different tokenizers, brought together by the bytes that their tokens cover.

The text is cut where both have a boundary, as finely as that allows. What is compared of a span are the distributions
at the positions that predict its first token: there both models have read exactly the same bytes.

- Both have one token there, of the same bytes: KL(teacher ‖ student) over the shared vocabulary (tokens whose bytes are
  the same in both), all other tokens in one bucket. Merging outcomes never raises a divergence. Where the student has
  no other tokens, the teacher's distribution is conditioned on the shared ones, since it could never be followed.
- Otherwise: the L1 distance of the probabilities, sorted and padded with zeros, which needs no vocabulary in common.
  Source: Boizard et al. 2024, Universal Logit Distillation, https://arxiv.org/abs/2402.12030, eq. 4.

The distributions at later tokens of a span are left out: their contexts end in the middle of a token of the other side.
TRL's GOLD multiplies them by the probabilities of the tokens before (chain rule), which is not normalized; ULD compares
positions by number, whatever text they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lessen.distill.divergence import divergence, variation, wide
from lessen.distill.tokens.words import Vocabularies
from lessen.errors import ModelError

Array = np.ndarray[Any, Any]


class Head(Protocol):
    """What is read of models.language.Head."""

    @property
    def vocab(self) -> int:
        """Tokens that the tokenizer has."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """Return logits [..., rows]; rows beyond vocab are padding."""
        ...


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans of a text, in its order.

    Attributes:
        bytes: first byte, one past the last, int64 [spans, 2].
        teacher, student: first token, one past the last, int64 [spans, 2].
    """

    bytes: Array
    teacher: Array
    student: Array

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.bytes)

    @property
    def single(self) -> Array:
        """Whether a span is one token on both sides, bool [spans]."""
        return np.asarray((np.diff(self.teacher)[:, 0] == 1) & (np.diff(self.student)[:, 0] == 1))

    def positions(self, *, teacher_start: int = 1, student_start: int = 1) -> tuple[Array, Array, Array]:
        """Return the spans that both sides predict, and the positions that predict their first token.

        Args:
            teacher_start, student_start: tokens that are read before the first of the offsets, which the offsets leave
                out: a start token or none. Without one, nothing predicts the first token.
        """
        teacher, student = self.teacher[:, 0] + teacher_start - 1, self.student[:, 0] + student_start - 1
        there = np.flatnonzero((teacher >= 0) & (student >= 0))
        return there, teacher[there], student[there]


def align(teacher_offsets: Array, student_offsets: Array, *, cut: bool = False) -> Spans:
    """Return the finest spans at whose ends both sides have a boundary; they cover every byte once.

    Args:
        teacher_offsets, student_offsets: first byte and one past the last of each token of the same text, int64
            [tokens, 2]. Tokens without bytes (special ones) are in no span.
        cut: the two may end at different places; what lies beyond the last boundary in common is in no span.

    Raises:
        ModelError: tokens leave bytes out, cover some twice, or the two sides cover different texts.
    """
    sides = [_covering(np.asarray(o, dtype=np.int64).reshape(-1, 2)) for o in (teacher_offsets, student_offsets)]
    (teacher, teacher_ends), (student, student_ends) = sides
    if not cut and _last(teacher_ends) != _last(student_ends):
        raise ModelError(
            f"the teacher's tokens cover {_last(teacher_ends)} bytes, the student's {_last(student_ends)}",
            "give the tokens of the same text, not cut",
        )
    cuts = np.intersect1d(teacher_ends, student_ends)
    return Spans(
        np.stack([np.concatenate([[0], cuts[:-1]]), cuts], axis=1).astype(np.int64) if len(cuts) else _none(),
        _tokens(teacher, teacher_ends, cuts),
        _tokens(student, student_ends, cuts),
    )


def ended(offsets: Array) -> Array:
    """Return offsets with the end token, as if it covered one more byte of the text."""
    last = _last(offsets.reshape(-1, 2)[:, 1])
    return np.concatenate([offsets.reshape(-1, 2), [[last, last + 1]]])


def aligned_loss(
    student_log_p: Tensor, teacher_log_p: Tensor, exact: Tensor, words: Vocabularies, *, temperature: float = 1.0
) -> Tensor:
    """Return the distance of student and teacher at the start of n spans, [n], fp32; see the module's first lines.

    Args:
        student_log_p, teacher_log_p: log-probabilities at a temperature, [n, vocabulary] of each.
        exact: whether the span is the same shared token on both sides, bool [n].
        temperature: T of the log-probabilities: KL is scaled by T², the sorted distance by T, as their gradients fall.
    """
    ours, theirs = wide(student_log_p)[:, : words.student_size], wide(teacher_log_p)[:, : words.teacher_size]
    out = ours.new_zeros(len(ours))
    if bool(exact.any()):
        out = out.masked_scatter(exact, temperature**2 * _shared_kl(ours[exact], theirs[exact], words))
    if not bool(exact.all()):
        out = out.masked_scatter(~exact, temperature * sorted_distance(ours[~exact], theirs[~exact]))
    return out


def sorted_distance(student_log_p: Tensor, teacher_log_p: Tensor) -> Tensor:
    """Return Σ |p_(i) − q_(i)| over probabilities sorted from the largest, the shorter side padded with 0, [n]."""
    p, q = (x.sort(dim=1, descending=True).values for x in (teacher_log_p.detach(), student_log_p))
    width = max(p.shape[1], q.shape[1])
    p, q = (functional.pad(x, (0, width - x.shape[1]), value=-torch.inf) for x in (p, q))
    return 2 * variation(p, q)


def aligned_values(
    student_states: Tensor,
    student_head: Head,
    teacher_states: Tensor,
    teacher_head: Head,
    exact: Tensor,
    words: Vocabularies,
    *,
    temperature: float = 1.0,
    chunk: int = 256,
) -> Tensor:
    """Return `aligned_loss` of last states, [n]; logits of `chunk` spans exist at a time, in the backward pass too.

    Args:
        student_states, teacher_states: at the positions that predict each span's first token, [n, width].
    """
    if not len(exact):
        return student_states.sum() * student_states.new_zeros(0)

    def part(ours: Tensor, theirs: Tensor, same: Tensor) -> Tensor:
        log_q = functional.log_softmax(wide(student_head.logits(ours)[:, : student_head.vocab]) / temperature, dim=1)
        with torch.no_grad():
            z = wide(teacher_head.logits(theirs)[:, : teacher_head.vocab])
            log_p = functional.log_softmax(z / temperature, dim=1)
        return aligned_loss(log_q, log_p, same, words, temperature=temperature)

    values = [
        checkpoint(part, student_states[at], teacher_states[at], exact[at], use_reentrant=False)
        for at in (slice(i, i + chunk) for i in range(0, len(exact), chunk))
    ]
    return torch.cat(values)


def _shared_kl(ours: Tensor, theirs: Tensor, words: Vocabularies) -> Tensor:
    device = ours.device
    log_q, log_p = ours[:, words.student.to(device)], theirs[:, words.teacher.to(device)].detach()
    if len(words.student_rest):
        log_q = torch.cat([log_q, ours[:, words.student_rest.to(device)].logsumexp(dim=1, keepdim=True)], dim=1)
        rest = theirs[:, words.teacher_rest.to(device)].logsumexp(dim=1, keepdim=True)
        log_p = torch.cat([log_p, rest.detach()], dim=1)
    elif len(words.teacher_rest):
        log_p = log_p.log_softmax(dim=1)
    return divergence(log_p, log_q)


def _covering(offsets: Array) -> tuple[Array, Array]:
    """Return the tokens that cover bytes and where each ends."""
    there = np.flatnonzero(offsets[:, 1] != offsets[:, 0])
    starts, ends = offsets[there, 0], offsets[there, 1]
    before = np.concatenate([[0], ends[:-1]])[: len(starts)]
    wrong = np.flatnonzero((starts != before) | (ends <= starts))
    if len(wrong):
        token = int(wrong[0])
        raise ModelError(
            f"token {int(there[token])} covers bytes {int(starts[token])} to {int(ends[token])}, the one before ends "
            f"at {int(before[token])}: the tokens do not cover the text once",
            "cross_tokenizer align needs tokenizers that give the text back, as byte-level ones do",
        )
    return there, ends


def _tokens(there: Array, ends: Array, cuts: Array) -> Array:
    """Return the first token and one past the last of each span."""
    last = np.searchsorted(ends, cuts)
    first = np.concatenate([[0], last[:-1] + 1])[: len(cuts)]
    return np.stack([there[first], there[last] + 1], axis=1).astype(np.int64) if len(cuts) else _none()


def _last(ends: Array) -> int:
    return int(ends[-1]) if len(ends) else 0


def _none() -> Array:
    return np.zeros((0, 2), dtype=np.int64)
