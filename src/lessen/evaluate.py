"""Scores on validation while training: fast, in memory, for choices only.

What a report prints comes from `lessen.measure`, taken from the artifact on disk and the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from lessen.loss import label_loss
from lessen.recipe import Train

if TYPE_CHECKING:
    from lessen.data.batches import Encoded
    from lessen.info import Floats
    from lessen.models import Model


@dataclass(frozen=True)
class Scores:
    """Validation scores; loss in nats per sample, the rest shares of 1."""

    loss: float
    accuracy: float
    f1_macro: float
    threshold: float

    def as_dict(self, prefix: str) -> dict[str, float]:
        """Return loss, accuracy and f1_macro with a prefix."""
        return {f"{prefix}{k}": getattr(self, k) for k in ("loss", "accuracy", "f1_macro")}


def predict_logits(model: Model, data: Encoded, device: torch.device, batch_size: int = 128) -> Floats:
    """Return logits, shape [n, outputs], fp32, in the order of `data`; the model is left in eval mode."""
    model.module.eval()
    out = np.zeros((len(data), model.info.logits), dtype=np.float32)
    order = np.argsort(data.lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = {k: torch.from_numpy(v).to(device) for k, v in data.batch(rows).items()}
            out[rows] = model.module(**inputs).logits.float().cpu().numpy()
    return out


def evaluate(model: Model, data: Encoded, device: torch.device, *, tune_threshold: bool = False) -> Scores:
    """Score a model on labelled data.

    Args:
        tune_threshold: choose the decision threshold of a binary model here, by macro-F1, first.
    """
    logits = predict_logits(model, data, device)
    info = model.info
    probabilities = info.probabilities(logits)
    if tune_threshold:
        info = info.model_copy(update={"threshold": best_threshold(probabilities[:, 1], data.labels)})
    decided = info.decide(probabilities)
    losses = label_loss(info, Train(), None)(torch.from_numpy(logits), torch.from_numpy(data.labels))
    return Scores(
        loss=float(losses.mean()),
        accuracy=float((decided == data.labels).mean()),
        f1_macro=float(f1_score(data.labels, decided, average="macro", zero_division=0)),
        threshold=info.threshold,
    )


def best_threshold(positive: Floats, labels: np.ndarray[Any, Any]) -> float:
    """Return the threshold on P(positive) with the best macro-F1, the one nearest 0.5 among equals.

    Args:
        positive: probability of the second label, shape [n].
        labels: 0 or 1, shape [n].
    """
    grid = np.linspace(0.30, 0.70, 41)
    scores = np.array([f1_score(labels, positive >= t, average="macro", zero_division=0) for t in grid])
    ties = grid[scores >= scores.max() - 1e-12]
    return float(round(ties[np.argmin(np.abs(ties - 0.5))], 4))
