"""Training after a cut: from the unpruned model's answers, or from the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lessen.data.rows import rows_of
from lessen.finetune import supervised
from lessen.train import Loss, fit

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.models import Model
    from lessen.recipe import Distill, Prune, Train


def recover(
    model: Model,
    source: Artifact,
    cfg: Prune,
    train_cfg: Train,
    distill_cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    work_dir: Path,
    round_number: int = 1,
    attachments: Sequence[nn.Module] = (),
    select_from: float = 0.0,
    augment: str = "none",
) -> dict[str, Any]:
    """Train a pruned model in place and return what happened.

    The optimizer is made here, after the cut: one made before would update tensors that are the model's no more.

    Args:
        source: the unpruned model, the teacher unless cfg.recover_from is "labels".
        work_dir: checkpoints; found there, they are resumed from.
        round_number: which cut this follows; rounds differ in their order of batches.
        attachments: masks.
        select_from: epoch before which no evaluation may become the best.
    """
    ctx = replace(ctx, seed=ctx.seed + 7919 * (round_number - 1))
    train = rows_of(splits, "train", model.processor, ctx.cache_dir, augment)
    validation = rows_of(splits, "validation", model.processor, ctx.cache_dir)
    teaching: dict[str, Any] = {}
    extra: list[nn.Module] = []
    loss: Loss
    if cfg.recover_from == "unpruned":
        from lessen.distill import teaching_loss

        loss, extra, teaching = teaching_loss(
            source, model, distill_cfg, train_cfg, splits, train, ctx, augment=augment
        )
    else:
        loss = supervised(model, train_cfg, splits)
    done = fit(
        model, train, validation, loss, train_cfg, ctx,
        work_dir=work_dir, attachments=(*extra, *attachments), select_from=select_from, augment=augment,
    )  # fmt: skip
    return {"from": cfg.recover_from, "epochs": train_cfg.epochs, "teaching": teaching, "fit": done.facts()}
