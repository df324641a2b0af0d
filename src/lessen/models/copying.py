"""Copy a teacher into a smaller student: whole layers, and of wide tensors the part that matters most.

The same hidden dimensions are taken everywhere, so that the narrowed residual stream stays coherent.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.encoders import Encoder
from lessen.models.family import family
from lessen.models.groups import drop_layers_, groups, settle_, slice_
from lessen.models.narrow import Narrowing, norms

if TYPE_CHECKING:
    from lessen.models import Model

Tag = tuple[str, int] | None  # what runs along an axis: ("hidden", 0), ("ffn", layer), ...


def copy_(student: Model, teacher: Model) -> dict[str, Any]:
    """Copy what fits, in place.

    Returns:
        facts: layer_map (teacher's layer of each student layer, from 0), copied_parameters and their share,
        not_copied (names or the reason).
    """
    if student.info.family != teacher.info.family:
        reason = f"{student.info.family} cannot take over {teacher.info.family}'s weights"
        return {"copied_parameters": 0, "copied_frac": 0.0, "layer_map": [], "not_copied": reason}
    one: Any = family(student.info.family)
    with torch.no_grad():
        if hasattr(one, "copy_"):
            layers, copied = one.copy_(student, teacher)
        elif student.info.generates:
            layers, copied = _generators_(student, teacher)
        elif isinstance(one, Encoder):
            layers, copied = _Plan(student, teacher, one).copy_()
        else:
            layers, copied = _convolutions_(student, teacher)
    own = dict(student.module.named_parameters())
    count = sum(own[name].numel() for name in copied if name in own)
    return {
        "layer_map": layers,
        "copied_parameters": count,
        "copied_frac": count / sum(p.numel() for p in own.values()),
        "not_copied": sorted(name for name in own if name not in copied),
    }


def layer_map(student: int, teacher: int) -> list[int]:
    """Return the teacher's layer for each student layer: evenly spaced, the last one included; none where deeper."""
    if student > teacher:
        return []
    return [(2 * (i + 1) * teacher + student) // (2 * student) - 1 for i in range(student)]


@dataclass
class _Plan:
    """Which entries of the teacher's tensors the student takes, for text encoders."""

    student: Model
    teacher: Model
    one: Encoder
    chosen: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def copy_(self) -> tuple[list[int], set[str]]:
        one, mine, theirs = self.one, self.student.module, self.teacher.module
        self.layers = layer_map(len(one.layers(mine)), len(one.layers(theirs)))
        self.source = dict(theirs.state_dict())
        self.axes = _axes(theirs, one)
        copied = set()
        for name, target in mine.state_dict().items():
            value = self._value(name, target)
            if value is not None:
                target.copy_(value)
                copied.add(name)
        return self.layers, copied

    def _value(self, name: str, target: Tensor) -> Tensor | None:
        origin = self._origin(name)
        value = self.source.get(origin) if origin is not None else None
        if origin is None or value is None or value.ndim != target.ndim or not value.is_floating_point():
            return None
        for axis, (tag, size) in enumerate(zip(self.axes.get(origin, ()), target.shape, strict=False)):
            index = self._pick(tag, value.shape[axis], size)
            if index is None:
                return None
            value = value.index_select(axis, index)
        if value.shape != target.shape:
            return None
        rows = self.axes[origin][0] if self.axes.get(origin) else None
        scaled: Tensor = value * self._scale(rows[1]) if rows and rows[0] == "query" else value
        return scaled

    def _origin(self, name: str) -> str | None:
        prefix = f"{self.student.module.base_model_prefix}.{self.one.list_path}."
        if not name.startswith(prefix):
            return name
        index, _, rest = name.removeprefix(prefix).partition(".")
        return f"{prefix}{self.layers[int(index)]}.{rest}" if self.layers else None

    def _pick(self, tag: Tag, have: int, want: int) -> Tensor | None:
        """Return which entries along an axis are taken; None: it does not fit."""
        if want > have:
            return None
        if tag is None:
            return torch.arange(have) if have == want else None
        if tag[0] == "words":
            same = self.student.processor.digest == self.teacher.processor.digest
            return torch.arange(have) if same and have == want else None
        if tag[0] == "labels":
            mine, theirs = self.student.info, self.teacher.info
            same = mine.labels == theirs.labels and mine.one_logit == theirs.one_logit
            return torch.arange(have) if same and have == want else None
        if tag[0] == "positions":
            return torch.arange(want)
        if tag[0] in ("query", "key", "value"):
            return self._heads(tag[0], tag[1])
        if tag not in self.chosen:
            self.chosen[tag] = _largest(self._norms(tag, have), want)
        return self.chosen[tag]

    def _norms(self, tag: Tag, size: int) -> Tensor:
        """Return the squared norm of each entry, over all tensors that run along it, each weighed alike."""
        total = torch.zeros(size, dtype=torch.float64)
        for name, tags in self.axes.items():
            for axis, here in enumerate(tags):
                if here == tag and self.source[name].ndim == 2:
                    part = self.source[name].double().pow(2).sum(dim=1 - axis)
                    total += part / part.mean().clamp(min=1e-30)
        return total

    def _heads(self, kind: str, layer: int) -> Tensor | None:
        """Return the rows of the heads that are kept; of narrower heads the dimensions of largest norm."""
        target = self.layers.index(layer)
        count, size = _head_shape(self.student.module, self.one, target)
        old_count, old_size = _head_shape(self.teacher.module, self.one, layer)
        if count > old_count or size > old_size:
            return None
        rows = {k: self._norms((k, layer), old_count * old_size) for k in ("query", "key", "value")}
        heads = _largest(torch.stack(list(rows.values())).sum(0).reshape(old_count, old_size).sum(1), count)
        # A dimension of a query is worth nothing without the same one of its key.
        norms = rows["value"] if kind == "value" else rows["query"] * rows["key"]
        dims = [_largest(norms.reshape(old_count, old_size)[h], size) + h * old_size for h in heads.tolist()]
        return torch.cat(dims)

    def _scale(self, layer: int) -> float:
        """Return what keeps the scores alike where heads are narrower: they are divided by the root of the size."""
        _, size = _head_shape(self.student.module, self.one, self.layers.index(layer))
        _, old = _head_shape(self.teacher.module, self.one, layer)
        return float((size / old) ** 0.5)


def _axes(module: nn.Module, one: Encoder) -> dict[str, tuple[Tag, ...]]:
    """Return, for every tensor that may be copied, what runs along its axes."""
    found = dict(_layer_axes(module, one))
    hidden: Tag = ("hidden", 0)
    config: Any = module.config
    factorised = getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    narrow: Tag = ("embedding", 0) if factorised else hidden
    prefix = f"{module.base_model_prefix}."
    first: dict[str, Tag] = {"word_embeddings": ("words", 0), "position_embeddings": ("positions", 0)}
    linears = [n for n, m in module.named_modules() if n.startswith(("classifier", "pre_classifier")) and _is_linear(m)]
    for name, tensor in module.state_dict().items():
        if name in found:
            continue
        path, _, leaf = name.rpartition(".")
        if name.startswith(f"{prefix}embeddings."):
            table = path.rpartition(".")[2]
            found[name] = (first.get(table), narrow) if tensor.ndim == 2 else (narrow,)
        elif path == f"{prefix}embeddings_project":
            found[name] = (hidden, narrow) if leaf == "weight" else (hidden,)
        elif path == f"{prefix}pooler.dense":
            found[name] = (hidden, hidden) if leaf == "weight" else (hidden,)
        elif path in linears:
            found[name] = _head_axes(path, leaf, linears, one)
    return found


def _head_axes(path: str, leaf: str, linears: list[str], one: Encoder) -> tuple[Tag, ...]:
    hidden: Tag = ("hidden", 0)
    square = len(linears) == 2 and linears[0] in one.head  # the stock head's first Linear keeps the width
    middle: Tag = hidden if square else ("head", 0)
    rows: Tag = ("labels", 0) if path == linears[-1] else middle
    columns: Tag = hidden if path == linears[0] else middle
    return (rows, columns) if leaf == "weight" else (rows,)


def _layer_axes(module: nn.Module, one: Encoder) -> Iterator[tuple[str, tuple[Tag, ...]]]:
    hidden: Tag = ("hidden", 0)
    for i, layer in enumerate(one.layers(module)):
        ffn: Tag = ("ffn", i)
        parts: dict[str, tuple[Tag, Tag]] = {
            one.query: (("query", i), hidden),
            one.key: (("key", i), hidden),
            one.value: (("value", i), hidden),
            one.out: (hidden, ("value", i)),
            one.up: (ffn, hidden),
            one.down: (hidden, ffn),
        }
        for name, (rows, columns) in parts.items():
            yield f"{layer}.{name}.weight", (rows, columns)
            yield f"{layer}.{name}.bias", (rows,)
        for name, part in module.get_submodule(layer).named_modules():
            if isinstance(part, nn.LayerNorm):
                yield f"{layer}.{name}.weight", (hidden,)
                yield f"{layer}.{name}.bias", (hidden,)


def _head_shape(module: nn.Module, one: Encoder, layer: int) -> tuple[int, int]:
    path = one.layers(module)[layer]
    size = int(module.get_submodule(f"{path}.{one.attention}").attention_head_size)  # type: ignore[arg-type]
    query: Any = module.get_submodule(f"{path}.{one.query}")
    return query.weight.shape[0] // size, size


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _largest(norms: Tensor, count: int) -> Tensor:
    return torch.sort(torch.argsort(norms, descending=True, stable=True)[:count]).values


def _convolutions_(student: Model, teacher: Model) -> tuple[list[int], set[str]]:
    """Cut a copy of the teacher to the student's depths and widths, then take every tensor that fits."""
    cut = copy.deepcopy(teacher)
    layers = _match_depth_(cut, student)
    if not layers:
        return [], set()
    mine = {g.name: g.units for g in groups(student, streams=True)}
    for group in groups(cut, streams=True):
        want = mine.get(group.name, group.units)
        if want < group.units:
            slice_(cut.module, group, _largest(norms(cut.module, group), want).tolist())
    settle_(cut)
    source = cut.module.state_dict()
    same = student.info.labels == teacher.info.labels and student.info.one_logit == teacher.info.one_logit
    copied = set()
    for name, target in student.module.state_dict().items():
        value = source.get(name)
        if value is None or value.shape != target.shape or (name.startswith("classifier") and not same):
            continue
        target.copy_(value)
        copied.add(name)
    return layers, copied


def _generators_(student: Model, teacher: Model) -> tuple[list[int], set[str]]:
    """Copy evenly spaced layers of each stack, and of wide tensors the strongest units."""
    one = family(student.info.family)
    mine, theirs = one.layers(student.module), one.layers(teacher.module)
    origin, layers = {}, []
    for stack in dict.fromkeys(path.rpartition(".")[0] for path in mine):
        here, there = ([p for p in paths if p.rpartition(".")[0] == stack] for paths in (mine, theirs))
        for at, taken in enumerate(layer_map(len(here), len(there))):
            origin[here[at]] = there[taken]
            layers.append(theirs.index(there[taken]))
    return layers, Narrowing(student, teacher, origin).copy_()


def _match_depth_(cut: Model, student: Model) -> list[int]:
    one = family(cut.info.family)
    have, want = _by_stage(one.layers(cut.module)), _by_stage(one.layers(student.module))
    fixed, start, keep = one.fixed(cut.module), 0, []
    if len(have) != len(want) or any(count > mine for mine, count in zip(have, want, strict=True)):
        return []  # more stages or blocks than the teacher: layers do not correspond
    for mine, count in zip(have, want, strict=True):
        first = [0] if start in fixed and count < mine else []
        rest = layer_map(count - len(first), mine - len(first)) if count > len(first) else []
        keep += [start + i for i in first] + [start + len(first) + i for i in rest]
        start += mine
    try:
        drop_layers_(cut, keep)
    except ModelError:
        return []
    return keep


def _by_stage(paths: list[str]) -> list[int]:
    stages: dict[str, int] = {}
    for path in paths:
        stage = re.sub(r"\.layers\.\d+$", "", path) if ".layers." in path else path
        stages[stage] = stages.get(stage, 0) + 1
    return list(stages.values())
