"""A part of the data as a model reads it, whatever the task. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lessen.data.batches import encode
from lessen.errors import RecipeError
from lessen.info import generates
from lessen.processors import TextProcessor

if TYPE_CHECKING:
    from lessen.data.batches import Encoded
    from lessen.data.sequences import Blocks, Pairs
    from lessen.data.split import Splits
    from lessen.processors import Processor


def rows_of(
    splits: Splits, part: str, processor: Processor, cache_dir: Path | None, augment: str = "none"
) -> Encoded | Pairs | Blocks:
    """Return train, validation or test through a processor, or from the cache on disk.

    Args:
        part: train, validation or test; sequences: or the name of a held-out text.
        augment: none, or the kind of random views; images only.
    """
    if not generates(splits.task):
        return encode(getattr(splits, part), processor, cache_dir, augment)
    if augment != "none":
        raise RecipeError(f"data.augment is {augment!r}; texts have no random views", "use none")
    if not isinstance(processor, TextProcessor):
        raise RecipeError(f"{splits.task} reads texts, the model {processor.kind}s", "give a language model")
    from lessen.data.encoding import sequences_of

    return sequences_of(splits, part, processor, cache_dir)
