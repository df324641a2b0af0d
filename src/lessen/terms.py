"""What the training loop and a loss tell each other: batches, and the terms of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

Array = np.ndarray[Any, Any]


class Rows(Protocol):
    """What is trained or evaluated on: Encoded (labels), Pairs and Blocks (sequences)."""

    @property
    def processor(self) -> Any:
        """The tokenizer or image processor."""
        ...

    @property
    def ids(self) -> Array:
        """Content hashes, one a row."""
        ...

    @property
    def labels(self) -> Array:
        """Labels, one a row."""
        ...

    @property
    def lengths(self) -> Array:
        """Tokens of each row: rows of similar length share a batch."""
        ...

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def batch(self, rows: Array, view: int | None = None) -> dict[str, Array]:
        """Return the inputs of rows; sequences: and their targets."""
        ...


@dataclass(frozen=True)
class Batch:
    """What the loss sees: inputs of one micro-batch on the device, and which samples they are."""

    inputs: dict[str, Tensor]
    labels: Tensor  # [batch, ...]; sequences: the token that each position predicts, or -100, [batch, tokens]
    rows: Array  # rows of the training data
    epoch: int
    view: int | None = None  # seed of the random views, None where there are none
    amount: float = 0.0  # what the loss is a sum over: samples, or supervised tokens


@dataclass(frozen=True)
class Term:
    """One term of the loss: a weight, and fp32 values whose sum over the batch counts (one a sample, or one in all)."""

    weight: float
    values: Tensor  # [batch] or []; sequences: sums over tokens


class Loss(Protocol):
    """Calls the module itself and returns the terms by name."""

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Term]:
        """Return the terms of a micro-batch."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A loss that is asked once a step, before any micro-batch: it may replace texts, or update a teacher."""

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the batches to learn from."""
        ...


def amount(data: Rows, rows: Array) -> float:
    """Return what the loss of these rows is a sum over: their number, or their supervised tokens."""
    tokens = getattr(data, "tokens", None)
    return float(len(rows) if tokens is None else tokens[rows].sum())
