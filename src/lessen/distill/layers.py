"""Which student layer learns from which teacher layer. Layers count from 1; 0 is what enters the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lessen.errors import RecipeError

LayerMap = Literal["uniform", "last"] | Sequence[tuple[int, int]]
Pairs = tuple[tuple[int, int], ...]


def pairs(layer_map: LayerMap, student: int, teacher: int, *, stages: bool = False, lowest: int = 0) -> Pairs:
    """Return (student layer, teacher layer) pairs.

    uniform: layer i of S learns from layer round(i · T / S) of T, halves up; with S > T the teacher's layers are
    spread over the student's. Stages of convolutional networks are paired from the last, so that resolutions meet.
    last: the two last layers.

    Args:
        layer_map: uniform, last, or the pairs themselves.
        student: number of layers of the student, at least 1.
        teacher: number of layers of the teacher, at least 1.
        stages: the layers are stages of convolutional networks.
        lowest: 0 where layer 0 exists (hidden states), 1 where not (attention).

    Raises:
        RecipeError: a pair names a layer that does not exist, or there are no pairs.
    """
    if layer_map == "last":
        return ((student, teacher),)
    if layer_map == "uniform":
        count = min(student, teacher)
        if stages:
            return tuple((student - i, teacher - i) for i in reversed(range(count)))
        return tuple((_spread(i, count, student), _spread(i, count, teacher)) for i in range(1, count + 1))
    chosen = tuple((int(s), int(t)) for s, t in layer_map)
    for s, t in chosen:
        if not (lowest <= s <= student and lowest <= t <= teacher):
            raise RecipeError(
                f"distill.layer_map has the pair ({s}, {t}); the student has layers {lowest} to {student}, "
                f"the teacher {lowest} to {teacher}",
                "layers count from 1" + ("; 0 is what enters the first" if lowest == 0 else ""),
            )
    if not chosen:
        raise RecipeError("distill.layer_map is empty", "use uniform, last, or (student layer, teacher layer) pairs")
    return chosen


def _spread(index: int, count: int, layers: int) -> int:
    return (2 * index * layers + count) // (2 * count)
