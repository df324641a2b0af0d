"""Stage: make a model smaller by cutting units out, or zero single weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.prune.rules import refuse

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.recipe import Distill, Prune

__all__ = ["control", "prune", "refuse"]


def prune(
    source: Artifact,
    cfg: Prune,
    distill_cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str,
    augment: str = "none",
) -> Artifact:
    """Prune a model, train it again where cfg.recover says so, and save it.

    Each finished round of a structured schedule lies beside `out` until the stage is complete, so that a killed run
    continues there and ends with the same weights.

    Args:
        source: the unpruned model; recovery distils from it unless cfg.recover_from is "labels".
        distill_cfg: objective, temperature and features of that distillation.
        splits: only train and validation are read.
        key: digest under which the finished stage is found again.
        augment: random views of the training images in recovery.

    Raises:
        RecipeError: settings that cannot be carried out on this model.
        ModelError: the pruned model is not what was asked for; nothing is written.
    """
    from lessen.prune.stage import Stage

    refuse(cfg)
    stage = Stage(source, cfg, distill_cfg, splits, ctx, out, key, augment)
    return stage.cut() if cfg.pattern == "structured" else stage.mask()


def control(
    source: Artifact,
    cfg: Prune,
    distill_cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str,
    **more: Any,
) -> Artifact:
    """Prune at random with the same budget, pattern, schedule and recovery: what any criterion has to beat."""
    random = cfg.model_copy(update={"method": "random", "sensitivity": ()})
    return prune(source, random, distill_cfg, splits, ctx, out=out, key=key, **more)
