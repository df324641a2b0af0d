"""What a model's outputs mean: labels, logits to probabilities, probabilities to decisions; and which tasks there are.

Imports no torch, so that a shipped artifact answers without it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Floats = NDArray[np.float32]
Task = Literal["text-classification", "image-classification", "seq2seq", "causal-lm"]
GENERATES = ("seq2seq", "causal-lm")  # tasks whose models answer with tokens


def generates(task: str) -> bool:
    """Whether the models of a task answer with tokens, not with one of a few labels."""
    return task in GENERATES


class ModelInfo(BaseModel):
    """What one needs to know to rebuild a model and to read its answers.

    Models that generate have labels only where their task is a classification put into words: the label words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str  # a file of models/families
    task: Task
    source: str  # where it came from: hub id, folder, scratch:<preset>, teacher
    labels: tuple[str, ...]  # in the order of the outputs
    output: Literal["softmax", "sigmoid"] = "softmax"
    multi_label: bool = False
    pooling: Literal["cls", "mean", "max"] = "cls"
    head_width: int | None = None
    dropout: float = 0.1
    threshold: float = 0.5  # sigmoid and two-label softmax: positive from here on
    prefix: str = ""  # seq2seq: stood before every source in training, and is put before those that are given
    widths: dict[str, int] = {}  # units kept, by group name, where not as in config.json
    masks: dict[str, Any] = {}  # unstructured or N:M: pattern, target, denominator

    @property
    def generates(self) -> bool:
        """Whether the model answers with tokens."""
        return generates(self.task)

    @property
    def logits(self) -> int:
        """Number of outputs: 1 for a one-logit binary model, else one per label."""
        return 1 if self.one_logit else len(self.labels)

    @property
    def one_logit(self) -> bool:
        """Whether two labels share a single logit."""
        return self.output == "sigmoid" and not self.multi_label

    def probabilities(self, logits: Floats) -> Floats:
        """Return probabilities, shape [n, labels], of logits, shape [n, self.logits]."""
        z = np.asarray(logits, dtype=np.float64)
        if self.multi_label:
            return _sigmoid(z).astype(np.float32)
        if self.one_logit:
            p = _sigmoid(z[:, 0])
            return np.stack([1 - p, p], axis=1).astype(np.float32)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True), dtype=np.float32)

    def decide(self, probabilities: Floats) -> NDArray[np.int64]:
        """Return decisions: label indices [n], or 0/1 flags [n, labels] where multi-label."""
        if self.multi_label:
            return (probabilities >= self.threshold).astype(np.int64)
        if len(self.labels) == 2:
            return (probabilities[:, 1] >= self.threshold).astype(np.int64)
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    half = np.tanh(z / 2)
    return np.asarray((half + 1) / 2)
