"""Parameters and FLOPs of a model as functions of its widths, so that a budget can be solved before anything is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.models.groups import Group

Inputs = Mapping[str, Tensor]
Slots = dict[tuple[str, str], list[tuple[int, int, str, int]]]  # tensor -> (axis, width, group, units)
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


def parameters(module: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def flops(module: nn.Module, inputs: Inputs) -> int:
    """Return the FLOPs of one forward pass (2 per multiply-add).

    The module must be in eval mode; no gradient is taken. torch.utils.flop_counter does not know the CPU's fused
    attention and would count its products as nothing, so that kernel is given the formula of the GPU's.
    """
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping={fused: _attention}) as counter:
        module(**inputs)
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    count: Any = sdpa_flop_count
    return int(count(query, key, value))


@dataclass(frozen=True)
class Costs:
    """What a model would cost at other widths."""

    total_parameters: int
    total_flops: int
    _slots: Slots
    _shapes: Mapping[tuple[str, str], tuple[int, ...]]
    _weights: frozenset[tuple[str, str]]  # tensors that are parameters, not buffers
    _flops: Mapping[str, int]  # of each layer with weights, by module name
    _heads: Mapping[str, int]  # units of the groups of heads: they share the FLOPs of the attention products

    def parameters(self, kept: Mapping[str, int]) -> float:
        """Return the parameters left when each group keeps `kept[name]` units (all, where it is not named)."""
        gone = sum(math.prod(self._shapes[k]) - self._numel(k, kept) for k in self._slots if k in self._weights)
        return self.total_parameters - gone

    def flops(self, kept: Mapping[str, int]) -> float:
        """Return the FLOPs left when each group keeps `kept[name]` units (all, where it is not named)."""
        left = 0.0
        for name, value in self._flops.items():
            key = (name, "weight")
            left += value * (self._numel(key, kept) / math.prod(self._shapes[key]) if key in self._slots else 1.0)
        rest = self.total_flops - sum(self._flops.values())
        if not self._heads:
            return left + rest
        return left + rest * sum(kept.get(n, u) for n, u in self._heads.items()) / sum(self._heads.values())

    def _numel(self, key: tuple[str, str], kept: Mapping[str, int]) -> int:
        shape = list(self._shapes[key])
        for axis, width, group, units in self._slots[key]:
            shape[axis] -= width * (units - kept.get(group, units))
        return math.prod(shape)


def costs(model: Model, groups: Sequence[Group], inputs: Inputs) -> Costs:
    """Measure a model once and return its costs at any widths of `groups`.

    FLOPs of linear layers and convolutions shrink with their weights; those of the attention products (all that is
    left) with the number of heads. Both are exact as long as all layers see the same length.
    """
    module = model.module
    slots: Slots = {}
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    weights = set()
    for group in groups:
        for cut in (*group.producers, *group.consumers):
            owner = module.get_submodule(cut.module)
            tensor = getattr(owner, cut.leaf)
            if tensor is None:  # a layer without bias
                continue
            key = (cut.module, cut.leaf)
            slots.setdefault(key, []).append((cut.axis, cut.width, group.name, group.units))
            shapes[key] = tuple(tensor.shape)
            if isinstance(tensor, nn.Parameter):
                weights.add(key)
    heads = {g.name: g.units for g in groups if g.kind == "heads"}
    per_layer = _layer_flops(module, inputs)
    return Costs(parameters(module), flops(module, inputs), slots, shapes, frozenset(weights), per_layer, heads)


def _layer_flops(module: nn.Module, inputs: Inputs) -> dict[str, int]:
    seen: dict[str, int] = {}
    hooks = []

    def hook(name: str) -> Any:
        def count(layer: nn.Module, args: Any, out: Tensor) -> None:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            axis = 1 if out.dim() == 4 else -1
            seen[name] = seen.get(name, 0) + 2 * weight.numel() * (out.numel() // out.shape[axis])

        return count

    for name, layer in module.named_modules():
        if isinstance(layer, WEIGHTED):
            hooks.append(layer.register_forward_hook(hook(name)))
    try:
        with torch.no_grad():
            module(**inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return seen
