"""What shrinks together: a group of units, and the slices of parameters that make one unit.

A unit is a whole attention head, one feed-forward neuron or one channel. Its producers compute it, its
consumers read it; cutting a unit removes both and changes nothing else, so that a cut model equals the model
whose consumers' columns of that unit are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cut:
    """The slice of one parameter or buffer that belongs to the units of a group."""

    module: str  # path below the model
    leaf: str  # weight, bias, running_mean, running_var
    axis: int
    width: int = 1  # entries per unit, contiguous
    blocks: int = 1  # the axis holds this many times all units one after the other: entries [blocks, units, width]


@dataclass(frozen=True)
class Group:
    """Units that are kept or removed as a whole."""

    name: str
    kind: Literal["heads", "ffn", "channels"]
    units: int  # as the model stands now
    producers: tuple[Cut, ...]
    consumers: tuple[Cut, ...]
    layer: int
    part: Literal["attention", "ffn", "conv", "stream"]  # stream: a residual stream, cut over several layers
    multiple: int = 1  # kept units should be a multiple of this, for the kernels


def entries(cut: Cut, units: Sequence[int], there: int) -> list[int]:
    """Return the entries along the cut's axis that belong to some units, block by block.

    Args:
        units: which units, in the order wanted.
        there: units that the group has now.
    """
    starts = [(block * there + unit) * cut.width for block in range(cut.blocks) for unit in units]
    return [start + i for start in starts for i in range(cut.width)]


def multiple_of(units: int, want: int) -> int:
    """Return the largest power of two, at most `want`, that leaves at least eight steps of choice."""
    multiple = 1
    while multiple * 2 <= want and multiple * 16 <= units:
        multiple *= 2
    return multiple


def linear(path: str, width: int = 1, bias: bool = True) -> tuple[Cut, ...]:
    """Return the producer slices of a Linear or Conv2d: rows of the weight, entries of the bias."""
    cuts = (Cut(path, "weight", 0, width),)
    return (*cuts, Cut(path, "bias", 0, width)) if bias else cuts


def norm(path: str) -> tuple[Cut, ...]:
    """Return the slices of a BatchNorm2d: affine parameters and running statistics."""
    return tuple(Cut(path, leaf, 0) for leaf in ("weight", "bias", "running_mean", "running_var"))


def reads(path: str, width: int = 1) -> Cut:
    """Return the consumer slice of a Linear or Conv2d: columns of the weight."""
    return Cut(path, "weight", 1, width)
