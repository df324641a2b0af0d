"""Parameters and FLOPs of a model as functions of its widths, so that a budget can be solved before anything is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lessen.prune import tensors

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.models.groups import Cut, Group

Inputs = Mapping[str, Tensor]
Key = tuple[str, str]  # module, leaf
Slots = dict[Key, list[tuple["Cut", str, int]]]  # tensor -> (slice of a unit, group, units)


def parameters(module: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def flops(module: nn.Module, inputs: Inputs) -> int:
    """Return the FLOPs of one forward pass (2 per multiply-add).

    The module must be in eval mode; no gradient is taken. Of a mixture of experts, what is computed counts: each token
    passes its top_k experts (and the shared ones), whichever they are, so that the number does not depend on routing.
    torch.utils.flop_counter does not know the CPU's fused attention nor the fused experts and would count their
    products as nothing, so these are given the formulas of the kernels they stand for.
    """
    return int(_counted(module, inputs).get_total_flops())


def _counted(module: nn.Module, inputs: Inputs) -> FlopCounterMode:
    formulas: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._grouped_mm: _grouped,
    }
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):
        formulas[torch.ops.transformers.grouped_mm_fallback] = _grouped
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with torch.no_grad(), counter:
        module(**inputs)
    return counter


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    count: Any = sdpa_flop_count
    return int(count(query, key, value))


def _grouped(rows: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """Return the FLOPs of rows [n, in], each with the matrix of its own expert, weight [experts, in, out]."""
    return 2 * int(rows[0]) * int(weight[-2]) * int(weight[-1])


@dataclass(frozen=True)
class Costs:
    """What a model would cost at other widths."""

    total_parameters: int
    total_flops: int
    _slots: Slots
    _shapes: Mapping[Key, tuple[int, ...]]
    _weights: frozenset[Key]  # tensors that are parameters, not buffers
    _flops: Mapping[Key, int]  # of each weight of a layer
    _products: Mapping[str, tuple[int, int]]  # of each group of heads: FLOPs of its attention products, units

    def parameters(self, kept: Mapping[str, int]) -> float:
        """Return the parameters left when each group keeps `kept[name]` units (all, where it is not named)."""
        gone = sum(math.prod(self._shapes[k]) - self._numel(k, kept) for k in self._slots if k in self._weights)
        return self.total_parameters - gone

    def flops(self, kept: Mapping[str, int]) -> float:
        """Return the FLOPs left when each group keeps `kept[name]` units (all, where it is not named)."""
        gone = 0.0
        for key, value in self._flops.items():
            if key in self._slots:
                gone += value * (1 - self._numel(key, kept) / math.prod(self._shapes[key]))
        for name, (value, units) in self._products.items():
            gone += value * (1 - kept.get(name, units) / units)
        return self.total_flops - gone

    def _numel(self, key: Key, kept: Mapping[str, int]) -> int:
        shape = list(self._shapes[key])
        for cut, group, units in self._slots[key]:
            shape[cut.axis] -= cut.blocks * cut.width * (units - kept.get(group, units))
        return math.prod(shape)


def costs(model: Model, groups: Sequence[Group], inputs: Inputs) -> Costs:
    """Measure a model once and return its costs at any widths of `groups`.

    FLOPs of linear layers, convolutions and experts shrink with their weights; those of the products of an attention
    (all else that the attention's own module computes) with its heads; the rest, such as routers, stays.
    """
    module = model.module
    slots: Slots = {}
    shapes: dict[Key, tuple[int, ...]] = {}
    weights = set()
    for group in groups:
        for cut in (*group.producers, *group.consumers):
            owner = module.get_submodule(cut.module)
            tensor = getattr(owner, cut.leaf)
            if tensor is None:  # a layer without bias
                continue
            key = (cut.module, cut.leaf)
            slots.setdefault(key, []).append((cut, group.name, group.units))
            shapes[key] = tuple(tensor.shape)
            if isinstance(tensor, nn.Parameter):
                weights.add(key)
    per_layer = _layer_flops(module, inputs)
    counter = _counted(module, inputs)
    products = _products(module, groups, counter, per_layer)
    total = int(counter.get_total_flops())
    return Costs(parameters(module), total, slots, shapes, frozenset(weights), per_layer, products)


def _products(
    module: nn.Module, groups: Sequence[Group], counter: FlopCounterMode, per_layer: Mapping[Key, int]
) -> dict[str, tuple[int, int]]:
    """Return what the modules around the producers of heads compute beside their layers with weights."""
    counts = {str(name).partition(".")[2]: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    found: dict[str, tuple[int, int]] = {}
    for group in groups:
        if group.kind != "heads":
            continue
        around = {cut.module.rpartition(".")[0] for cut in group.producers}
        within = sum(v for (path, _), v in per_layer.items() if any(path.startswith(f"{at}.") for at in around))
        found[group.name] = (sum(counts.get(at, 0) for at in around) - within, group.units)
    return found


def _layer_flops(module: nn.Module, inputs: Inputs) -> dict[Key, int]:
    """Return the FLOPs of each weight of a Linear, Conv1D, convolution or mixture of experts."""
    seen: dict[Key, int] = {}
    hooks = []

    def hook(name: str) -> Any:
        def count(layer: nn.Module, args: Any, out: Tensor) -> None:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            axis = 1 if out.dim() == 4 else -1
            add((name, "weight"), 2 * weight.numel() * (out.numel() // out.shape[axis]))

        return count

    def hook_experts(name: str) -> Any:
        def count(experts: nn.Module, args: Any, out: Tensor) -> None:
            for leaf in tensors.EXPERTS:
                add((name, leaf), 2 * getattr(experts, leaf)[0].numel() * args[1].numel())  # tokens x top_k

        return count

    def add(key: Key, value: int) -> None:
        seen[key] = seen.get(key, 0) + value

    for path, layer in {path: layer for _, path, layer in tensors.weighted(module)}.items():
        made = hook_experts(path) if tensors.is_experts(layer) else hook(path)
        hooks.append(layer.register_forward_hook(made))
    try:
        with torch.no_grad():
            module(**inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return seen
