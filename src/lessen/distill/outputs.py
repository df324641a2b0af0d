"""What a model says on the way to its answer: logits, hidden states and attention, by layer.

Layers count from 1; 0 is what enters the first layer (embeddings, the first map). The layers of a convolutional
network are its stages: the last map of each resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lessen.errors import ModelError

if TYPE_CHECKING:
    from lessen.runtime import Runtime

Need = Literal["hidden", "attentions"]
RECORDED = "lessen_log_attention"


@dataclass(frozen=True)
class Outputs:
    """Logits [b, outputs]; hidden states [b, tokens, width] or maps [b, channels, height, width]; log-attention
    [b, heads, queries, keys]."""

    logits: Tensor
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    attentions: Mapping[int, Tensor] = field(default_factory=dict)


def answer(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    needs: Collection[Need] = (),
    keep: Mapping[Need, Collection[int]] | None = None,
) -> Outputs:
    """Run a model and return its logits and the layers asked for.

    Args:
        needs: hidden and / or attentions; none: logits alone.
        keep: layers to return for each need; all when absent.

    Raises:
        ModelError: the model does not give them.
    """
    if not needs:
        return Outputs(module(**inputs).logits)
    flags: dict[str, Any] = {f"output_{'hidden_states' if n == 'hidden' else n}": True for n in needs}
    with recorded_attention(module) if "attentions" in needs else _nothing():
        out = module(**inputs, **flags)
    hidden = _layers(out, "hidden_states", hidden_layers) if "hidden" in needs else {}
    attentions = _layers(out, "attentions", lambda a: dict(enumerate(a, start=1))) if "attentions" in needs else {}
    if keep is not None:
        hidden = {k: v for k, v in hidden.items() if k in keep.get("hidden", ())}
        attentions = {k: v for k, v in attentions.items() if k in keep.get("attentions", ())}
    return Outputs(out.logits, hidden, attentions)


def hidden_layers(states: Sequence[Tensor]) -> dict[int, Tensor]:
    """Number hidden states by layer: tokens one by one, maps by stage."""
    if states[0].ndim == 3:
        return dict(enumerate(states))
    stages: list[Tensor] = []
    for state in states:
        if stages and stages[-1].shape[-2:] == state.shape[-2:]:
            stages[-1] = state
        else:
            stages.append(state)
    return {0: states[0], **dict(enumerate(stages, start=1))}


def _layers(out: Any, name: str, number: Callable[[Sequence[Tensor]], dict[int, Tensor]]) -> dict[int, Tensor]:
    values = getattr(out, name, None)
    if not values:
        raise ModelError(f"this model gives no {name}", "leave this feature out of distill.features")
    return number(values)


@contextmanager
def recorded_attention(module: nn.Module) -> Iterator[None]:
    """Have attention layers return log-probabilities in fp32, before dropout, for as long as this is open.

    What a model returns by itself is after dropout and in its own precision: no distribution one can compare.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(RECORDED, _log_attention)
    AttentionMaskInterface.register(RECORDED, eager_mask)
    configs = {id(c): c for c in (getattr(m, "config", None) for m in module.modules()) if c is not None}
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation = RECORDED
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _log_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend as transformers' eager function does; return the log of the weights before dropout beside the result."""
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(2, 3)).float() * scale
    if attention_mask is not None:
        scores = scores + attention_mask
    log_p = functional.log_softmax(scores, dim=-1)
    p = functional.dropout(log_p.exp().to(value.dtype), p=dropout, training=module.training)
    return torch.matmul(p, value).transpose(1, 2).contiguous(), log_p


class Frozen:
    """A teacher that never changes: eval mode (BatchNorm too), no gradient, and part of no other module.

    It is no nn.Module, so that no parent's `.train()`, `.parameters()` or `.state_dict()` reaches it.
    """

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        self.module, self.runtime = module.to(runtime.device), runtime
        self.module.eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def __call__(
        self,
        inputs: Mapping[str, Tensor],
        needs: Collection[Need] = (),
        keep: Mapping[Need, Collection[int]] | None = None,
    ) -> Outputs:
        """Return what `answer` returns, as plain tensors without a graph."""
        self.module.eval()  # also when someone who shares the module switched it
        with torch.inference_mode(), self.runtime.autocast():
            out = answer(self.module, inputs, needs, keep)
        # Tensors of inference mode cannot be saved for the student's backward pass; their copies can.
        return Outputs(
            out.logits.clone(),
            {k: v.clone() for k, v in out.hidden.items()},
            {k: v.clone() for k, v in out.attentions.items()},
        )
