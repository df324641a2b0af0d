"""Ask the teacher first: one that knows nothing can only teach nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from lessen import models
from lessen.data.batches import encode
from lessen.data.rows import rows_of
from lessen.data.sequences import IGNORE
from lessen.distill.labels import by_name
from lessen.errors import TrainingError
from lessen.evaluate import predict_logits, predict_tokens, vocabulary
from lessen.runtime import pick_device

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.info import Floats
    from lessen.models import Model
    from lessen.recipe import Distill
    from lessen.terms import Rows

HINT = "train the teacher (teacher.train), for longer, or give another one"


def probe(teacher: Artifact, splits: Splits, cfg: Distill, ctx: Context) -> dict[str, Any]:
    """Score the teacher on validation and return what was found.

    Returns: f1_macro, majority_f1_macro, margin, n; sequences: nll, unigram_nll (nats per token), margin, n.

    Raises:
        TrainingError: its logits are not finite, or do not vary, or its macro-F1 does not beat always answering the
            most frequent label of the training split by cfg.teacher_margin; sequences: its loss is not below that of
            the tokens' frequencies by this share.
        ModelError: it answers other labels.
    """
    device = torch.device(pick_device(ctx.device))
    model = models.open_model(teacher, str(device))
    if model.info.generates:
        return _speaks(model, splits, cfg, ctx, device)
    order = by_name(model.info.labels, splits.labels)
    logits = predict_logits(model, encode(splits.validation, model.processor, ctx.cache_dir), device)
    _alive(logits, splits.validation.ids)
    decided = model.info.decide(model.info.probabilities(logits))
    decided = decided[:, list(order)] if splits.multi_label else np.argsort(order)[decided]
    found = _f1(splits.validation.labels, decided)
    majority = _f1(splits.validation.labels, _majority(splits))
    facts = {"f1_macro": found, "majority_f1_macro": majority, "margin": cfg.teacher_margin, "n": len(decided)}
    if found < majority + cfg.teacher_margin:
        raise TrainingError(
            f"the teacher's macro-F1 on {len(decided)} validation rows is {found:.3f}; always answering the most "
            f"frequent label gives {majority:.3f}, and distill.teacher_margin asks for {cfg.teacher_margin:g} more",
            HINT,
        )
    ctx.say(f"teacher probe: macro-F1 {found:.3f} on validation (most frequent label: {majority:.3f})")
    return facts


def _speaks(model: Model, splits: Splits, cfg: Distill, ctx: Context, device: torch.device) -> dict[str, Any]:
    train, validation = (rows_of(splits, part, model.processor, ctx.cache_dir) for part in ("train", "validation"))
    nll, _ = predict_tokens(model, validation, device)
    if not np.isfinite(nll).all():
        raise TrainingError(
            f"the teacher's loss is not finite for {int((~np.isfinite(nll)).sum())} of {len(nll)} validation tokens",
            "its weights are damaged or overflow; " + HINT,
        )
    found, unigram = float(nll.mean()), unigram_nll(targets_of(train), targets_of(validation), vocabulary(model.module))
    facts = {"nll": found, "unigram_nll": unigram, "margin": cfg.teacher_margin, "n": len(nll)}
    if found > (1 - cfg.teacher_margin) * unigram:
        raise TrainingError(
            f"the teacher's loss on {len(nll)} validation tokens is {found:.3f} nats; the frequencies of single tokens "
            f"give {unigram:.3f}, and distill.teacher_margin asks for {cfg.teacher_margin:.0%} less",
            HINT,
        )
    ctx.say(f"teacher probe: {found:.3f} nats per token on validation (token frequencies: {unigram:.3f})")
    return facts


def targets_of(data: Rows) -> np.ndarray[Any, Any]:
    """Return every supervised token of sequences, [tokens]."""
    parts = []
    for start in range(0, len(data), 256):
        targets = data.batch(np.arange(start, min(start + 256, len(data))))["targets"]
        parts.append(targets[targets != IGNORE])
    return np.concatenate(parts)


def unigram_nll(train: np.ndarray[Any, Any], tokens: np.ndarray[Any, Any], vocabulary: int) -> float:
    """Return the nats per token of answering each token's frequency in the training split, one added to every count."""
    counts = np.bincount(train, minlength=vocabulary) + 1.0
    return float(-np.log(counts / counts.sum())[tokens].mean())


def _alive(logits: Floats, ids: np.ndarray[Any, Any]) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise TrainingError(
            f"the teacher's answers are not finite for {int((~finite).sum())} of {len(logits)} validation rows "
            f"(samples {', '.join(str(i) for i in ids[~finite][:4])})",
            "its weights are damaged or overflow; " + HINT,
        )
    spread = float(np.ptp(logits, axis=0).max()) if len(logits) else 0.0
    if spread <= 1e-5 * max(1.0, float(np.abs(logits).max(initial=0.0))):
        raise TrainingError(
            f"the teacher answers the same to all {len(logits)} validation rows (logits differ by {spread:.1g})", HINT
        )


def _majority(splits: Splits) -> np.ndarray[Any, Any]:
    train, n = splits.train.labels, len(splits.validation)
    if splits.multi_label:
        return np.tile((train.mean(axis=0) >= 0.5).astype(np.int64), (n, 1))
    return np.full(n, np.bincount(train, minlength=len(splits.labels)).argmax(), dtype=np.int64)


def _f1(labels: np.ndarray[Any, Any], decided: np.ndarray[Any, Any]) -> float:
    return float(f1_score(labels, decided, average="macro", zero_division=0))
