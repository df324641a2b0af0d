"""How a mixture of experts is computed: by the fused kernel where it can be, else one expert after the other.

The fused kernel that transformers chooses raises an error in float64, in which the check behind every cut runs, and for
widths of which a row is not a multiple of 16 bytes, as cuts leave them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "lessen"  # of the implementation, among those of transformers
FUSED = (torch.float32, torch.bfloat16, torch.float16)
ALIGNMENT = 16  # bytes


def use_(module: nn.Module) -> None:
    """Make the experts of a transformers model be computed as here."""
    from transformers.integrations.moe import ExpertsInterface

    ExpertsInterface.register(NAME, compute)
    module.set_experts_implementation(NAME)  # type: ignore[operator]


def compute(experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted outputs of each token's experts, [tokens, width].

    Args:
        experts: gate_up_proj [experts, 2 x units, width], down_proj [experts, width, units], act_fn.
        states: [tokens, width].
        chosen: experts of each token, int64 [tokens, k].
        weights: of their outputs, [tokens, k].
    """
    if fits(experts.gate_up_proj) and fits(experts.down_proj):
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

        fused: Tensor = ALL_EXPERTS_FUNCTIONS["grouped_mm"](experts, states, chosen, weights)
        return fused
    return one_by_one(experts, states, chosen, weights)


def fits(weight: Tensor) -> bool:
    """Whether the fused kernel takes the weights of some experts, [experts, rows, columns]."""
    return weight.dtype in FUSED and weight.shape[-1] * weight.element_size() % ALIGNMENT == 0


def one_by_one(experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Return what `compute` does, in any precision and of any width."""
    total = torch.zeros_like(states)
    gates_ups, downs = experts.gate_up_proj.unbind(0), experts.down_proj.unbind(0)  # gradients are gathered once
    for expert in sorted(set(chosen.flatten().tolist())):
        token, place = torch.where(chosen == expert)
        gate, up = functional.linear(states[token], gates_ups[expert]).chunk(2, dim=-1)
        made = functional.linear(experts.act_fn(gate) * up, downs[expert]) * weights[token, place, None]
        total = total.index_add(0, token, made.to(total.dtype))
    return total
