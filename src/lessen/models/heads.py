"""Classifier heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.models.family import Family, family

if TYPE_CHECKING:
    from lessen.info import ModelInfo


class PooledClassifier(nn.Module):
    """An encoder, a pooling over real tokens (or image positions), and a classifier.

    The encoder keeps the attribute name that it has in the stock class, so that paths are the same in both.
    """

    def __init__(self, config: Any, info: ModelInfo) -> None:
        from transformers import AutoModel

        super().__init__()
        one = family(info.family)
        encoder = AutoModel.from_config(config, **attention(one), **_without_pooler(one))
        self.base_model_prefix: str = encoder.base_model_prefix
        self.add_module(self.base_model_prefix, encoder)
        self.config = encoder.config
        self.pooling = info.pooling
        self.classifier = _head(hidden_width(encoder), info)

    @property
    def base_model(self) -> nn.Module:
        """The encoder."""
        return self.get_submodule(self.base_model_prefix)

    def forward(
        self, output_hidden_states: bool | None = None, output_attentions: bool | None = None, **inputs: Tensor
    ) -> Any:
        """Return logits [batch, outputs], and hidden states and attentions where asked for."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        wanted = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        out = self.base_model(**inputs, **{k: v for k, v in wanted.items() if v is not None})
        pooled = pool(out.last_hidden_state, inputs.get("attention_mask"), self.pooling)
        return SequenceClassifierOutput(
            logits=self.classifier(pooled),
            hidden_states=out.hidden_states,
            attentions=getattr(out, "attentions", None),
        )


def pool(states: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Return one vector a sample.

    Args:
        states: [batch, tokens, width], or an image's [batch, width, height, width].
        mask: 1 for real tokens, [batch, tokens]; none: all are real.
        how: cls (the first token; images have none and take the mean), mean, max.
    """
    if states.ndim == 4:
        states, how = states.flatten(2).transpose(1, 2), "mean" if how == "cls" else how
    if how == "cls":
        return states[:, 0]
    if mask is None:
        return states.mean(1) if how == "mean" else states.amax(1)
    real = mask.unsqueeze(-1)
    if how == "max":
        return states.masked_fill(real == 0, torch.finfo(states.dtype).min).amax(1)
    real = real.to(states.dtype)
    return (states * real).sum(1) / real.sum(1).clamp(min=1)


def is_stock(info: ModelInfo) -> bool:
    """Whether the head is that of the architecture's own classification class."""
    return info.pooling == "cls" and info.head_width is None


def hidden_width(encoder: nn.Module) -> int:
    """Return the width of an encoder's last states."""
    config: Any = encoder.config
    if hasattr(config, "hidden_sizes"):
        return int(config.hidden_sizes[-1])
    if hasattr(encoder, "conv_1x1"):
        return int(encoder.conv_1x1.convolution.out_channels)  # type: ignore[union-attr, arg-type]
    return int(config.hidden_size)


def attention(one: Family) -> dict[str, str]:
    """Return the keyword that chooses fused attention, for families that have attention."""
    return {"attn_implementation": "sdpa"} if "heads" in one.fields else {}


def _without_pooler(one: Family) -> dict[str, bool]:
    return {"add_pooling_layer": False} if one.pooler_argument else {}


def _head(width: int, info: ModelInfo) -> nn.Sequential:
    if info.head_width is None:
        return nn.Sequential(nn.Dropout(info.dropout), nn.Linear(width, info.logits))
    hidden = nn.Linear(width, info.head_width)
    return nn.Sequential(hidden, nn.ReLU(), nn.Dropout(info.dropout), nn.Linear(info.head_width, info.logits))
