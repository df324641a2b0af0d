"""The inputs that models are timed on: typical real test samples, encoded beforehand, one fixed shape a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.errors import DataError

if TYPE_CHECKING:
    from lessen.data import Split
    from lessen.processors import Processor

POOL = 64  # samples at most


@dataclass(frozen=True)
class Probe:
    """Encoded batches of one shape.

    Attributes:
        length: tokens a text is padded to, or pixels a side.
        unit: "tokens" or "pixels".
    """

    batches: list[dict[str, np.ndarray[Any, Any]]]
    batch_size: int
    length: int
    unit: str


def typical_rows(test: Split, at_least: int = 1) -> list[int]:
    """Return the rows of the test texts nearest to the median length in characters (images: the first rows).

    The choice does not depend on a tokenizer, so that every model is timed on the same samples.
    """
    if not len(test):
        raise DataError("the test split is empty", "give more rows or a larger test_frac")
    wanted = min(len(test), max(POOL, at_least))
    if not isinstance(test.inputs[0], str):
        return list(range(wanted))
    lengths = np.asarray([len(text) for text in test.inputs])
    order = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")
    return sorted(int(i) for i in order[:wanted])


def probe(test: Split, processor: Processor, batch_size: int) -> Probe:
    """Encode typical test samples into batches of one shape; rows repeat where there are too few."""
    rows = typical_rows(test, batch_size)
    items = processor.encode([test.inputs[i] for i in rows])
    text = processor.kind == "text"
    length = max(len(item) for item in items) if text else int(items[0].shape[0])
    count = -(-len(items) // batch_size)
    batches = [
        processor.collate(
            [items[(b * batch_size + k) % len(items)] for k in range(batch_size)], pad_to=length if text else None
        )
        for b in range(count)
    ]
    return Probe(batches, batch_size, length, "tokens" if text else "pixels")


def save(probes: list[Probe], path: Path) -> None:
    """Write probes to one .npz file (plain arrays, no pickle), keys batch_size/index/input name."""
    arrays = {
        f"{p.batch_size}/{i}/{name}": values
        for p in probes
        for i, batch in enumerate(p.batches)
        for name, values in batch.items()
    }
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> dict[int, list[dict[str, np.ndarray[Any, Any]]]]:
    """Read what `save` wrote: batch size -> batches."""
    out: dict[int, dict[int, dict[str, np.ndarray[Any, Any]]]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            size, index, name = key.split("/", 2)
            out.setdefault(int(size), {}).setdefault(int(index), {})[name] = arrays[key]
    return {size: [batches[i] for i in sorted(batches)] for size, batches in out.items()}
