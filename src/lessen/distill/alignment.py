"""Tokens of two tokenizers brought together by the characters they cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from lessen.data.batches import Encoded

Spans = np.ndarray[Any, np.dtype[np.int64]]  # [tokens, 2]: first character, one past the last; equal for special ones


def same_tokens(a: Encoded, b: Encoded) -> bool:
    """Whether two encodings of the same samples hold the same tokens, so that positions can be compared."""
    if a is b or a.processor.digest == b.processor.digest:
        return True
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a.items, b.items, strict=True))


def overlap(student: Spans, teacher: Spans) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return weights [student tokens, teacher tokens] that average, per student token, the teacher tokens under it.

    A teacher token counts when it shares a character with the student token. Special tokens cover none: the first
    and the last of either text ([CLS], [SEP]) are matched with each other. A row of zeros: nothing lies there, such as
    beyond the teacher's truncation.
    """
    first = np.maximum(student[:, None, 0], teacher[None, :, 0])
    last = np.minimum(student[:, None, 1], teacher[None, :, 1])
    weights = (first < last).astype(np.float32)
    for end in (0, -1):
        if len(student) and len(teacher) and _special(student[end]) and _special(teacher[end]):
            weights[end, end] = 1.0
    total = weights.sum(axis=1, keepdims=True)
    out: np.ndarray[Any, np.dtype[np.float32]] = np.divide(weights, np.maximum(total, 1.0), dtype=np.float32)
    return out


def aligner(student: Sequence[Spans], teacher: Sequence[Spans], size: tuple[int, int]) -> Float[Tensor, "b s t"]:
    """Return the `overlap` weights of a batch, padded with zeros to `size` (student tokens, teacher tokens)."""
    out = np.zeros((len(student), *size), dtype=np.float32)
    for row, (s, t) in enumerate(zip(student, teacher, strict=True)):
        out[row, : len(s), : len(t)] = overlap(s, t)
    return torch.from_numpy(out)


def _special(span: Spans) -> bool:
    return bool(span[0] == span[1])
