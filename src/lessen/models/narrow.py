"""Copy a teacher that generates into a smaller student: evenly spaced layers of each stack, the strongest units.

What runs along an axis is read off the groups of the family: units where a group says so, the residual stream along the
other axes of what makes or reads units. The same dimensions of the stream are taken everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.models.cut import Cut, Group, entries
from lessen.models.family import family
from lessen.models.ties import untie_

if TYPE_CHECKING:
    from lessen.models import Model

Slot = tuple[Group, Cut]


@dataclass
class Narrowing:
    """Which entries of a teacher's tensors its student takes.

    Attributes:
        origin: path of the teacher's layer for each path of a student's layer; absent: no layer corresponds.
    """

    student: Model
    teacher: Model
    origin: dict[str, str]
    chosen: dict[str, list[int]] = field(default_factory=dict)  # by the teacher's group: units taken

    def copy_(self) -> set[str]:
        """Copy what fits into the student, in place, and return the names that were."""
        module, copied = self.student.module, set()
        untie_(module, self._apart(module))
        for name, target in module.state_dict().items():
            value = self._value(name, target)
            if value is not None:
                target.copy_(value)
                copied.add(name)
        return copied

    def _apart(self, module: nn.Module) -> list[str]:
        """Return the names that the teacher keeps in parameters of their own."""
        have = self.teacher.module.state_dict(keep_vars=True)
        seen: set[int] = set()
        names = []
        for name in module.state_dict():
            if name in have and id(have[name]) not in seen:
                seen.add(id(have[name]))
                names.append(name)
        return names

    def _value(self, name: str, target: Tensor) -> Tensor | None:
        """Return the part of a teacher's tensor that becomes the student's, or None where it does not fit."""
        path, _, leaf = name.rpartition(".")
        whence = self._whence(path)
        value = self.source.get(f"{whence}.{leaf}") if whence is not None else None
        if value is None and (path, 0) in self.tables:  # the first layer holds it for all of them (T5)
            whence, value = path, self.source.get(name)
        if value is None or whence is None or value.ndim != target.ndim or not value.is_floating_point():
            return None
        for axis, size in enumerate(target.shape):
            index = self._pick(path, whence, leaf, axis, size)
            if index is None:
                return None
            if len(index) < value.shape[axis]:  # else all of them, in order
                value = value.index_select(axis, index.to(value.device))
        return value if value.shape == target.shape else None

    def _whence(self, path: str) -> str | None:
        for mine in self.paths:
            if path == mine or path.startswith(f"{mine}."):
                return self.origin[mine] + path.removeprefix(mine) if mine in self.origin else None
        return path

    def _pick(self, path: str, whence: str, leaf: str, axis: int, want: int) -> Tensor | None:
        """Return which entries along an axis of a teacher's tensor are taken; None: it does not fit."""
        have = self.source[f"{whence}.{leaf}"].shape[axis]
        slot = self.theirs.get((whence, leaf, axis))
        if slot is not None:
            return self._units(slot, self.mine.get((path, leaf, axis)))
        if self._is_stream(whence, leaf, axis):
            return self.stream if want == len(self.stream) else None
        kind = self.tables.get((whence, axis))
        if kind == "words" and self.student.processor.digest != self.teacher.processor.digest:
            return None
        if kind == "positions" and want <= have:
            return torch.arange(want)
        return torch.arange(have) if have == want else None

    def _units(self, theirs: Slot, mine: Slot | None) -> Tensor | None:
        group, cut = theirs
        if mine is None or mine[1].width != cut.width or mine[1].blocks != cut.blocks or mine[0].units > group.units:
            return None
        want = mine[0].units
        if len(self.chosen.get(group.name, ())) != want:
            self.chosen[group.name] = _largest(norms(self.teacher.module, group), want)
        return torch.as_tensor(entries(cut, self.chosen[group.name], group.units), dtype=torch.long)

    def _is_stream(self, path: str, leaf: str, axis: int) -> bool:
        """Whether the residual stream runs along an axis of a teacher's tensor that no group has units on."""
        if (path, axis) in self.tables:
            return self.tables[path, axis] == "stream"
        return self.source[f"{path}.{leaf}"].shape[axis] == self.width

    @cached_property
    def source(self) -> dict[str, Tensor]:
        """The teacher's tensors."""
        return dict(self.teacher.module.state_dict())

    @cached_property
    def width(self) -> int:
        """Dimensions of the teacher's residual stream."""
        return _width(self.teacher)

    @cached_property
    def paths(self) -> list[str]:
        """The student's layers."""
        return family(self.student.info.family).layers(self.student.module)

    @cached_property
    def mine(self) -> dict[tuple[str, str, int], Slot]:
        """The student's slices, by module, leaf and axis."""
        return _slots(self.student)

    @cached_property
    def theirs(self) -> dict[tuple[str, str, int], Slot]:
        """The teacher's slices."""
        return _slots(self.teacher)

    @cached_property
    def tables(self) -> dict[tuple[str, int], str]:
        """What runs along the axes of the teacher's embeddings and of its last layer."""
        module: Any = self.teacher.module
        words, last = module.get_input_embeddings(), module.get_output_embeddings()
        found = {}
        for name, part in module.named_modules():
            if not isinstance(part, nn.Embedding) and part is not last:
                continue
            rows = "words" if len(part.weight) == len(words.weight) else "positions"
            if part.weight.shape[1] != self.width:
                rows = "buckets"
            found[name, 0], found[name, 1] = rows, "stream" if rows != "buckets" else "other"
        return found

    @cached_property
    def stream(self) -> Tensor:
        """The dimensions of the teacher's residual stream that the student takes, ascending."""
        want = _width(self.student)
        if want >= self.width:
            return torch.arange(self.width)
        total = torch.zeros(self.width, dtype=torch.float64)
        for name, value in self.source.items():
            path, _, leaf = name.rpartition(".")
            if value.ndim < 2:
                continue
            for axis in range(value.ndim):
                if (path, leaf, axis) not in self.theirs and self._is_stream(path, leaf, axis):
                    part = value.double().movedim(axis, 0).flatten(1).pow(2).sum(1).cpu()
                    total += part / part.mean().clamp(min=1e-30)
        return torch.as_tensor(_largest(total, want), dtype=torch.long)


def norms(module: nn.Module, group: Group) -> Tensor:
    """Return the squared L2 norm of what computes and what reads each unit, float64 [units]."""
    total = torch.zeros(group.units, dtype=torch.float64)
    for cut in (*group.producers, *group.consumers):
        weight: Any = getattr(module.get_submodule(cut.module), cut.leaf)
        if weight is not None and weight.ndim > 1:
            each = weight.detach().double().movedim(cut.axis, 0).flatten(1).pow(2).sum(1).cpu()
            total += each.reshape(cut.blocks, group.units, cut.width).sum((0, 2))
    return total


def _slots(model: Model) -> dict[tuple[str, str, int], Slot]:
    found = {}
    for group in family(model.info.family).groups(model.module):
        for cut in (*group.producers, *group.consumers):
            found[cut.module, cut.leaf, cut.axis] = (group, cut)
    return found


def _width(model: Model) -> int:
    table: Any = model.module.get_input_embeddings()  # type: ignore[operator]
    return int(table.weight.shape[1])


def _largest(values: Tensor, count: int) -> list[int]:
    return sorted(torch.argsort(values, descending=True, stable=True)[:count].tolist())
