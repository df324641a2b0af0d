"""Whether two artifacts answer alike, by decades finer than accuracy can tell. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.export import sequences
from lessen.info import Floats, ModelInfo

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Splits
    from lessen.processors import Processor

Batch = dict[str, np.ndarray[Any, Any]]
_SEED = 0


def compare(want: Floats, got: Floats, info: ModelInfo) -> dict[str, float | None]:
    """Return how far the logits `got` are from `want`, both [n, outputs].

    Returns:
        samples; max_abs_difference (logits); logit_mse; logit_mse_relative (share of the variance of `want`; None
        where that is 0); kl_nats (mean of KL(want || got), summed over labels); agreement
        (share of equal decisions).
    """
    a, b = np.asarray(want, dtype=np.float64), np.asarray(got, dtype=np.float64)
    mse, variance = float(np.mean((a - b) ** 2)), float(np.var(a))
    same = info.decide(info.probabilities(want)) == info.decide(info.probabilities(got))
    return {
        "samples": float(len(a)),
        "max_abs_difference": float(np.abs(a - b).max()),
        "logit_mse": mse,
        "logit_mse_relative": mse / variance if variance else None,
        "kl_nats": _kl(a, b, info),
        "agreement": float(same.mean()),
    }


def _kl(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], info: ModelInfo) -> float:
    from scipy.special import log_expit, log_softmax

    if info.output == "softmax" and not info.multi_label:
        p, q = log_softmax(a, axis=1), log_softmax(b, axis=1)
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())
    on, off = log_expit(a) - log_expit(b), log_expit(-a) - log_expit(-b)
    return float((np.exp(log_expit(a)) * on + np.exp(log_expit(-a)) * off).sum(axis=1).mean())


def shapes(processor: Processor, splits: Splits | None) -> dict[str, Batch]:
    """Return the batches on which an export is compared: one sample alone, an odd shape with padding, a full batch.

    Args:
        processor: of the model.
        splits: inputs come from validation; None: inputs are made up, of the right form.
    """
    items = _items(processor, splits)
    if processor.kind == "image":
        cycle = [items[i % len(items)] for i in range(8)]
        return {f"batch {n}": processor.collate(cycle[:n]) for n in (1, 3, 8)}
    items = sorted(items, key=len)
    cycle = [items[i % len(items)] for i in range(8)]
    short, middle, long = items[0], items[len(items) // 2], items[-1]
    odd = max(3, len(long) - 1 + len(long) % 2)  # the longest odd length that is no longer than the longest item
    made: Any = processor
    full = min(len(long) + 6, made.max_length)
    return {
        f"batch 1, length {len(short)}": processor.collate([short]),
        f"batch 3, odd length {odd}, padded": processor.collate([x[:odd] for x in (short, middle, long)], pad_to=odd),
        f"batch 8, padded to {full}": processor.collate([x[:full] for x in cycle], pad_to=full),
    }


def _items(processor: Processor, splits: Splits | None) -> list[np.ndarray[Any, Any]]:
    if splits is not None:
        return list(processor.encode([splits.validation.inputs[i] for i in range(min(16, len(splits.validation)))]))
    rng = np.random.default_rng(_SEED)
    made: Any = processor
    if processor.kind == "image":
        return [rng.integers(0, 256, (made.size, made.size, made.channels), dtype=np.uint8) for _ in range(8)]
    lengths = np.linspace(3, max(3, made.max_length // 2), 8).astype(int)
    return [rng.integers(0, made.vocab_size, n).astype(np.int32) for n in lengths]


def differences(source: Artifact, other: Artifact, splits: Splits | None) -> dict[str, float]:
    """Return the largest absolute difference of a logit for each of `shapes`, both artifacts opened from disk."""
    if source.info.generates:
        return sequences.differences(source, other, splits)
    a, b = source.open(), other.open()
    return {
        name: float(np.abs(a.logits(batch) - b.logits(batch)).max())
        for name, batch in shapes(source.processor, splits).items()
    }
