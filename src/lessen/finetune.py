"""Stage: fit a model on the labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.data.batches import class_weights
from lessen.data.rows import rows_of
from lessen.loss import label_loss
from lessen.train import Batch, Loss, Term, fit

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.models import Model
    from lessen.recipe import Train


def finetune(
    model: Model,
    cfg: Train,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str,
    augment: str = "none",
    facts: dict[str, Any] | None = None,
) -> Artifact:
    """Train on labels, keep the best epoch of validation, and save.

    Args:
        model: trained in place.
        splits: only train and validation are read.
        out: the artifact's folder; checkpoints lie beside it until it is complete.
        key: digest under which the finished stage is found again.
        facts: further facts for the manifest.
    """
    train = rows_of(splits, "train", model.processor, ctx.cache_dir, augment)
    validation = rows_of(splits, "validation", model.processor, ctx.cache_dir)
    work = work_dir(out)
    done = fit(model, train, validation, supervised(model, cfg, splits), cfg, ctx, work_dir=work, augment=augment)
    artifact = models.save(
        model,
        out,
        stage=ctx.stage,
        key=key,
        history=({"stage": ctx.stage, "train": cfg.model_dump(mode="json")},),
        facts={**(facts or {}), "fit": done.facts()},
    )
    shutil.rmtree(work, ignore_errors=True)
    return artifact


def supervised(model: Model, cfg: Train, splits: Splits) -> Loss:
    """Return the loss on labels alone, with one term named "label"."""
    if model.info.generates:
        from lessen.distill.sequences import TokenLoss

        return TokenLoss(model)
    per_sample = label_loss(model.info, cfg, weights(cfg, splits))

    def loss(module: nn.Module, batch: Batch) -> dict[str, Term]:
        return {"label": Term(1.0, per_sample(module(**batch.inputs).logits, batch.labels))}

    return loss


def weights(cfg: Train, splits: Splits) -> torch.Tensor | None:
    """Return the class weights of the training split, or None where they are off."""
    if not cfg.class_weights:
        return None
    return torch.from_numpy(class_weights(splits.train.labels, len(splits.labels), splits.multi_label))


def work_dir(out: Path) -> Path:
    """Return the folder of a stage's checkpoints, beside its artifact."""
    return out.with_name(f".{out.name}.work")
