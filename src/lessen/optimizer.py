"""What an optimizer step does: AdamW, the learning rate over the steps, and what does not train."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Train


def rate(step: int, total: int, cfg: Train) -> float:
    """Return the learning rate at a step as a share of the peak: linear warm-up, then the schedule down to 0."""
    warm = math.ceil(cfg.warmup_frac * total)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    if cfg.schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if cfg.schedule == "cosine" else 1.0


def optimizer(modules: nn.Module, cfg: Train) -> torch.optim.AdamW:
    """Return fused AdamW; biases, norms and other vectors are not decayed."""
    trained = [p for p in modules.parameters() if p.requires_grad]
    if not trained:
        raise RecipeError("freeze leaves nothing to train", "use freeze: none or embeddings")
    tables = {
        id(m.weight) for name, m in modules.named_modules() if isinstance(m, nn.Embedding) and "position" not in name
    }
    matrices = [p for p in trained if p.ndim >= 2]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in matrices if id(p) not in tables], "weight_decay": cfg.weight_decay, "lr_scale": 1.0},
        {
            "params": [p for p in matrices if id(p) in tables],
            "weight_decay": cfg.weight_decay,
            "lr_scale": cfg.embedding_lr,
        },
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=cfg.lr, fused=True)


def freeze_(module: nn.Module, what: str) -> None:
    """Stop the gradient of what does not train: none, embeddings or encoder; in place."""
    for parameter in _frozen(module, what):
        parameter.requires_grad_(False)


def recompute_(module: nn.Module, on: bool) -> None:
    """Compute activations again in the backward pass instead of keeping them, or keep them; in place.

    Raises:
        RecipeError: the architecture cannot.
    """
    known: Any = module
    if on and not getattr(known, "supports_gradient_checkpointing", False):
        raise RecipeError(f"{type(module).__name__} cannot recompute", "set train.gradient_checkpointing to false")
    if on:
        known.activation_checkpointing_enable()
    elif getattr(known, "is_activation_checkpointing", False):
        known.activation_checkpointing_disable()


def _frozen(module: nn.Module, what: str) -> Iterable[nn.Parameter]:
    if what == "none":
        return ()
    base: nn.Module = getattr(module, "base_model", module)
    if what == "encoder":
        return base.parameters()
    embeddings = getattr(base, "embeddings", None) or getattr(base, "embedder", None)
    return embeddings.parameters() if isinstance(embeddings, nn.Module) else ()
