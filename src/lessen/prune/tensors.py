"""Weights as matrices [out, in], however a layer stores them.

A weight goes by one name: the path of its layer, or, where a module holds several (the fused experts of a mixture:
gate_up_proj and down_proj), the path of the parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn

Layout = Literal["rows", "columns", "experts"]  # [out, in, ...]; Conv1D's [in, out]; [experts, out, in]
EXPERTS = ("gate_up_proj", "down_proj")
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
ROUTERS = ("gate", "router", "shared_expert_gate")  # beside experts


def is_conv1d(layer: nn.Module) -> bool:
    """Whether a layer is the Linear of GPT-2, whose weight is [in, out]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def is_experts(part: nn.Module) -> bool:
    """Whether a module holds fused experts: gate_up_proj [experts, 2 units, in] and down_proj [experts, out, units]."""
    return all(isinstance(getattr(part, leaf, None), nn.Parameter) for leaf in EXPERTS)


def weighted(module: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield (name, path of the module, module) of every weight of a linear layer, convolution or expert."""
    for path, part in module.named_modules():
        if isinstance(part, WEIGHTED) or is_conv1d(part):
            yield path, path, part
        elif is_experts(part):
            yield from ((f"{path}.{leaf}", path, part) for leaf in EXPERTS)


def name_of(path: str, leaf: str) -> str:
    """Return the name of a parameter of the module at `path`."""
    return path if leaf == "weight" else f"{path}.{leaf}"


def tensor(module: nn.Module, name: str) -> nn.Parameter:
    """Return the weight of this name."""
    path, _, leaf = name.rpartition(".")
    found: Any = getattr(module.get_submodule(path), leaf)
    weight: nn.Parameter = found if isinstance(found, nn.Parameter) else found.weight
    return weight


def layout(module: nn.Module, name: str) -> Layout:
    """Return how the weight of this name is stored."""
    path, _, leaf = name.rpartition(".")
    found: Any = getattr(module.get_submodule(path), leaf)
    if isinstance(found, nn.Parameter):
        return "experts"
    return "columns" if is_conv1d(found) else "rows"


def matrices(weight: Tensor, how: Layout) -> tuple[Tensor, ...]:
    """Return views [out, in, ...] of a weight: one, or one for each expert."""
    if how == "experts":
        return weight.unbind(0)
    return (weight.T,) if how == "columns" else (weight,)


def pieces(name: str, weight: Tensor, how: Layout) -> list[str]:
    """Return a name for each matrix of a weight."""
    return [f"{name}[{e}]" for e in range(len(weight))] if how == "experts" else [name]


def is_router(module: nn.Module, name: str) -> bool:
    """Whether a Linear chooses among experts or weighs them."""
    path, _, leaf = name.rpartition(".")
    return leaf in ROUTERS and hasattr(module.get_submodule(path), "experts")
