"""Scores on validation while training: fast, in memory, for choices only.

What a report prints comes from `lessen.measure`, taken from the artifact on disk and the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from lessen.data.sequences import IGNORE
from lessen.errors import RecipeError
from lessen.info import generates
from lessen.loss import label_loss
from lessen.recipe import Train

if TYPE_CHECKING:
    from lessen.data.batches import Encoded
    from lessen.info import Floats
    from lessen.models import Model
    from lessen.terms import Rows


@dataclass(frozen=True)
class Scores:
    """Validation scores; loss in nats per sample or token, the rest shares of 1 (accuracy of samples or tokens)."""

    loss: float
    accuracy: float
    f1_macro: float | None  # None: sequences
    threshold: float

    def as_dict(self, prefix: str) -> dict[str, float]:
        """Return loss, accuracy and, where there is one, f1_macro with a prefix."""
        there = {k: getattr(self, k) for k in ("loss", "accuracy", "f1_macro")}
        return {f"{prefix}{k}": v for k, v in there.items() if v is not None}


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


def evaluate(model: Model, data: Rows, device: torch.device, *, tune_threshold: bool = False) -> Scores:
    """Score a model on labelled data, or on sequences.

    Args:
        tune_threshold: choose the decision threshold of a binary model here, by macro-F1, first.
    """
    if model.info.generates:
        nll, hit = predict_tokens(model, data, device)
        return Scores(float(nll.mean()), float(hit.mean()), None, model.info.threshold)
    known: Any = data
    return _classified(model, known, device, tune_threshold)


def _classified(model: Model, data: Encoded, device: torch.device, tune_threshold: bool) -> Scores:
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


def predict_tokens(
    model: Model, data: Rows, device: torch.device, batch_size: int = 16
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the negative log-likelihood (nats, float64) of every supervised token and whether it was the likeliest.

    Both have shape [tokens], in the order in which rows of similar length are read; the model is left in eval mode.
    """
    from lessen.models import language

    model.module.eval()
    order = np.argsort(data.lengths, kind="stable")
    losses, hits = [], []
    with torch.inference_mode():
        head = language.head(model)
        for start in range(0, len(order), batch_size):
            inputs = {
                k: torch.from_numpy(v).to(device) for k, v in data.batch(order[start : start + batch_size]).items()
            }
            targets = inputs.pop("targets")
            states = language.states(model.module, inputs)
            there = targets != IGNORE
            nll, hit = language.scores(states[there], head, targets[there])
            losses.append(nll.double().cpu().numpy())
            hits.append(hit.cpu().numpy())
    return np.concatenate(losses), np.concatenate(hits)


def monitor(cfg: Train, task: str) -> str:
    """Return the validation score that training is best at.

    Raises:
        RecipeError: the task has no such score.
    """
    if cfg.monitor == "f1_macro" and generates(task):
        raise RecipeError(f"train.monitor is f1_macro, the task is {task}", "use auto, loss or accuracy (of tokens)")
    if cfg.monitor != "auto":
        return cfg.monitor
    return "loss" if generates(task) else "f1_macro"


def vocabulary(module: torch.nn.Module) -> int:
    """Return the number of tokens that a generating model chooses from."""
    config: Any = module.config
    return int(config.vocab_size)


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
