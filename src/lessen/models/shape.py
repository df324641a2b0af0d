"""What a model is made of: layers, widths, parameters; also before it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lessen.models.family import family

if TYPE_CHECKING:
    from lessen.models import Model


def describe(model: Model) -> dict[str, Any]:
    """Return parameters, the embeddings' share of them, layers, and units of every group.

    Returns:
        parameters: distinct parameters, buffers not counted; embedding_frac: share of `parameters`; layers;
        widths: group name -> units now; further: the family's shape (hidden_size, heads, ...).
    """
    one = family(model.info.family)
    total = count(model.module)
    return {
        "parameters": total,
        "embedding_frac": one.embeddings(model.module) / total,
        **one.shape(model.module),
        "widths": {g.name: g.units for g in one.groups(model.module)},
    }


def count(module: nn.Module) -> int:
    """Return the number of distinct parameters."""
    return sum(p.numel() for p in module.parameters())


def example(model: Model, batch: int = 1, length: int | None = None) -> dict[str, Tensor]:
    """Return inputs for export and FLOP counts.

    Args:
        batch: samples.
        length: tokens, or pixels a side; the processor's own when absent.
    """
    processor: Any = model.processor
    own = processor.max_length if processor.kind == "text" else processor.size
    return family(model.info.family).example(model.module, batch, length or own)
