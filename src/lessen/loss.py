"""The loss on labels, one value per sample or per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor
from torch.nn import functional

from lessen.data.sequences import IGNORE

if TYPE_CHECKING:
    from lessen.info import ModelInfo
    from lessen.recipe import Train

LabelLoss = Callable[[Tensor, Tensor], Tensor]


def label_loss(info: ModelInfo, cfg: Train, weights: Tensor | None) -> LabelLoss:
    """Return the loss (logits [b, outputs], labels) -> [b], in fp32 nats.

    Models that generate: (logits [b, t, vocabulary], targets int64 [b, t]) -> [n], the cross-entropy of each of the n
    supervised tokens, row by row; the settings of `cfg` do not apply to them.

    Softmax: cross-entropy, labels int64 [b]. One logit: binary cross-entropy on labels 0/1, int64 [b].
    Multi-label: binary cross-entropy averaged over the labels, targets float [b, labels].

    Args:
        info: what the outputs mean.
        cfg: loss (cross_entropy | focal), focal_gamma, label_smoothing.
        weights: class weights [labels], or None. One logit uses weights[1] / weights[0] as the weight of positives.
    """
    if info.generates:
        return token_loss
    gamma = cfg.focal_gamma if cfg.loss == "focal" else 0.0
    smooth = cfg.label_smoothing

    def softmax(logits: Float[Tensor, "b c"], labels: Num[Tensor, " b"]) -> Float[Tensor, " b"]:
        return softmax_loss(logits, labels, weights=weights, smoothing=smooth, gamma=gamma)

    def sigmoid(logits: Float[Tensor, "b c"], labels: Num[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        targets = labels.float().reshape(logits.shape)
        positive = None
        if weights is not None:
            positive = weights[1] / weights[0] if info.one_logit else weights
        return sigmoid_loss(logits, targets, positive=positive, smoothing=smooth, gamma=gamma)

    return sigmoid if info.output == "sigmoid" else softmax


def token_loss(logits: Float[Tensor, "b t v"], targets: Int64[Tensor, "b t"]) -> Float[Tensor, " n"]:
    """Return the cross-entropy of every supervised token, fp32 nats, row by row."""
    said = targets != IGNORE
    return functional.cross_entropy(logits[said].float(), targets[said], reduction="none")


def softmax_loss(
    logits: Float[Tensor, "b c"],
    labels: Num[Tensor, " b"],
    *,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 0.0,
) -> Float[Tensor, " b"]:
    """Return cross-entropy or focal loss per sample.

    Formula: w_y (1 - p_y)^gamma · ((1 - s)(-log p_y) + s · mean_c(-log p_c)); gamma = 0: cross-entropy.
    Source: focal, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5.
    """
    log_p = functional.log_softmax(logits.float(), dim=-1)
    log_p_y = log_p.gather(1, labels.long()[:, None])[:, 0]
    loss = -(1 - smoothing) * log_p_y - smoothing * log_p.mean(dim=1)
    if gamma:
        loss = loss * (1 - log_p_y.exp()).pow(gamma)
    return loss if weights is None else loss * weights.to(loss)[labels.long()]


def sigmoid_loss(
    logits: Float[Tensor, "b c"],
    targets: Float[Tensor, "b c"],
    *,
    positive: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 0.0,
) -> Float[Tensor, " b"]:
    """Return binary cross-entropy or focal loss per sample, averaged over the labels.

    Args:
        positive: weight of positives, a scalar or [c].
        smoothing: moves targets towards one half by this share.
        gamma: focal exponent; 0: cross-entropy.
    """
    z, smoothed = logits.float(), targets * (1 - smoothing) + 0.5 * smoothing
    loss = functional.binary_cross_entropy_with_logits(
        z, smoothed, pos_weight=None if positive is None else positive.to(z), reduction="none"
    )
    if gamma:
        p = torch.sigmoid(z)
        loss = loss * torch.where(targets > 0.5, 1 - p, p).pow(gamma)
    return loss.mean(dim=1)
