"""Feature tensors as positions: tokens of a text, places of a map."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lessen.distill.layers import Pairs
from lessen.errors import ModelError


def as_positions(
    student: Float[Tensor, "b ..."], teacher: Float[Tensor, "b ..."]
) -> tuple[Float[Tensor, "b n s"], Float[Tensor, "b n t"]]:
    """Return two features of one layer pair as [b, positions, width], in fp32, with as many positions each.

    Maps [b, channels, height, width] of different sizes are averaged down to the smaller height and width.

    Raises:
        ModelError: one is a map and the other is not, or the numbers of tokens differ.
    """
    if student.ndim != teacher.ndim or (student.ndim == 3 and student.shape[1] != teacher.shape[1]):
        raise ModelError(
            f"hidden states of shape {list(student.shape)} cannot be compared with {list(teacher.shape)}",
            "leave hidden, attention and relation out of distill.features",
        )
    if student.ndim == 3:
        return student.float(), teacher.float()
    grid = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    s, t = (functional.adaptive_avg_pool2d(x.float(), grid).flatten(2).transpose(1, 2) for x in (student, teacher))
    return s, t


def mean_over(values: Float[Tensor, "b n"], real: Bool[Tensor, "b n"] | None) -> Float[Tensor, " b"]:
    """Return the mean over the real positions of each sample; 0, with a live graph, where it has none."""
    if real is None:
        return values.mean(dim=1)
    return values.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp_min(1)


def several_places(pairs: Pairs, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], feature: str) -> Pairs:
    """Return the pairs that compare more than one position; between one position and itself there is no relation.

    Raises:
        ModelError: none is left.
    """
    left = tuple(pair for pair in pairs if as_positions(student[pair[0]], teacher[pair[1]])[0].shape[1] > 1)
    if not left:
        sizes = ", ".join(f"{list(student[s].shape[1:])} / {list(teacher[t].shape[1:])}" for s, t in pairs)
        raise ModelError(
            f"distill.features has {feature}, which compares places; these layers have one place each: {sizes}",
            "use hidden, earlier layers in distill.layer_map, or larger images",
        )
    return left
