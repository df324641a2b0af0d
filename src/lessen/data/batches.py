"""Encoded samples, the order they are visited in, and the weights of classes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lessen.data import cache
from lessen.data.split import Split
from lessen.data.views import view_of
from lessen.errors import RecipeError
from lessen.processors import Processor

Array = np.ndarray[Any, Any]
CHUNK = 50  # batches that are sorted by length together: enough that lengths agree, few enough that order stays random


@dataclass(frozen=True, eq=False)
class Encoded:
    """A split through a processor.

    Attributes:
        items: int32 token ids per text, or uint8 pixels [size, size, channels] per image.
        ids, labels: as in the split.
        augment: none, crop or crop_flip: the kind of random views of images.
    """

    processor: Processor
    items: Sequence[Array]
    ids: Array
    labels: Array
    augment: str = "none"

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    @cached_property
    def lengths(self) -> Array:
        """Tokens of each text; images are all 1 long."""
        if self.processor.kind == "image":
            return np.ones(len(self), dtype=np.int64)
        return np.asarray([len(item) for item in self.items], dtype=np.int64)

    def batch(self, rows: Array, view: int | None = None) -> dict[str, Array]:
        """Return the collated inputs of rows.

        Args:
            rows: row indices.
            view: seed of the random views of images; the same (view, id) gives the same pixels. None: as they are.
        """
        items = [self.items[int(row)] for row in rows]
        if view is not None and self.augment != "none":
            items = [
                view_of(item, view, str(self.ids[int(row)]), self.augment)
                for item, row in zip(items, rows, strict=True)
            ]
        return self.processor.collate(items)


def encode(split: Split, processor: Processor, cache_dir: Path | None, augment: str = "none") -> Encoded:
    """Run a split through a processor, or take it from the cache on disk.

    The cache is keyed by the processor's digest and the ids (content hashes) of the samples. Two processors over the
    same split give two Encoded whose rows are the same samples.

    Args:
        cache_dir: none: nothing is kept.
        augment: none, crop or crop_flip; images only.
    """
    if augment != "none" and processor.kind != "image":
        raise RecipeError(f"data.augment is {augment!r}; texts have no random views", "use none")
    items: Sequence[Array]
    if processor.kind == "text":
        items = cache.tokens(split, processor, cache_dir)
    else:
        items = cache.pixels(split, processor, cache_dir)
    return Encoded(processor, items, split.ids, split.labels, augment)


def plan(lengths: Array, batch_size: int, *, seed: int, epoch: int, buckets: bool, shuffle: bool = True) -> list[Array]:
    """Return the rows of each optimizer step of an epoch; every row comes once.

    There are ceil(n / batch_size) batches, all full but one. The order depends on seed and epoch alone.

    Args:
        lengths: tokens of each row.
        buckets: rows of similar length share a batch; the order of the batches stays random.
        shuffle: false: rows in their order, or by length with `buckets`.
    """
    n = len(lengths)
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(n) if shuffle else np.arange(n)
    if buckets:
        chunk = CHUNK * batch_size if shuffle else max(n, 1)
        parts = [order[at : at + chunk] for at in range(0, n, chunk)]
        parts = [part[np.argsort(np.asarray(lengths)[part], kind="stable")] for part in parts]
        order = np.concatenate(parts) if parts else order
    batches = [order[at : at + batch_size] for at in range(0, n, batch_size)]
    if buckets and shuffle:
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches


def class_weights(labels: Array, classes: int, multi_label: bool) -> Array:
    """Return weights by inverse frequency, float32 [classes].

    Formula: n / (classes · n_c) for a class with n_c of n rows, so that the mean weight over rows is 1; multi-label:
    negatives / positives of each label.
    """
    n = len(labels)
    if multi_label:
        positive = np.asarray(labels, dtype=np.float64).sum(axis=0)
        return np.asarray((n - positive) / np.maximum(positive, 1), dtype=np.float32)
    counts = np.bincount(np.asarray(labels), minlength=classes)
    return np.asarray(n / (classes * np.maximum(counts, 1)), dtype=np.float32)
