"""Stage: train a student on labels and on a frozen teacher's answers; and the control, the same without the teacher."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lessen import models
from lessen.data.rows import rows_of
from lessen.distill.probe import probe
from lessen.distill.sequence_loss import teacher_rows
from lessen.distill.teaching import teaching_loss
from lessen.errors import RecipeError
from lessen.finetune import finetune, work_dir
from lessen.train import Fit, fit

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.models import Model
    from lessen.recipe import Distill
    from lessen.terms import Rows


def distill(
    teacher: Artifact,
    student: Model,
    cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str,
    augment: str = "none",
) -> Artifact:
    """Train the student on the teacher's answers, keep the best epoch of validation, and save.

    Args:
        student: trained in place.
        splits: only train and validation are read.
        out: the artifact's folder; checkpoints lie beside it until it is complete.
        key: digest under which the finished stage is found again.
        augment: none, or the kind of random views of the training images.

    Raises:
        TrainingError: the teacher is useless (see `probe`), or training went wrong.
        RecipeError: the student is not smaller than the teacher and cfg.allow_larger is off, or settings clash.
    """
    found = probe(teacher, splits, cfg, ctx)
    sizes = compare_sizes(teacher, student, cfg, ctx)
    train: Rows = rows_of(splits, "train", student.processor, ctx.cache_dir, augment)
    validation = rows_of(splits, "validation", student.processor, ctx.cache_dir)
    train, texts = teacher_rows(teacher, student, cfg, cfg.train, splits, train, ctx)
    loss, attachments, told = teaching_loss(teacher, student, cfg, cfg.train, splits, train, ctx, augment=augment)
    work = work_dir(out)
    done = fit(
        student, train, validation, loss, cfg.train, ctx, work_dir=work, attachments=attachments, augment=augment
    )
    facts = {
        "teacher": {"digest": teacher.digest, "stage": teacher.manifest.stage, "probe": found},
        "sizes": sizes,
        "distill": {
            **told,
            **texts,
            **learned(loss),
            "shares_of_gradient_norm": loss.shares.facts(),
            **progress(done, cfg),
        },
        "fit": done.facts(),
    }
    entry = {"stage": ctx.stage, "distill": cfg.model_dump(mode="json")}
    artifact = models.save(
        student, out, stage=ctx.stage, key=key, history=(*teacher.manifest.history, entry), facts=facts
    )
    shutil.rmtree(work, ignore_errors=True)
    return artifact


def control(
    teacher: Artifact,
    student: Model,
    cfg: Distill,
    splits: Splits,
    ctx: Context,
    *,
    out: Path,
    key: str,
    augment: str = "none",
) -> Artifact:
    """Train the same student on the same data with the same settings and order of batches, on the labels alone.

    What distillation gained is the difference to this. Arguments as in `distill`; the teacher is used for nothing but
    to compare sizes. Dropout draws other random numbers than in `distill`, as another seed would.
    """
    sizes = compare_sizes(teacher, student, cfg, ctx)
    facts = {"control_of": "distill", "sizes": sizes}
    return finetune(student, cfg.train, splits, ctx, out=out, key=key, augment=augment, facts=facts)


def compare_sizes(teacher: Artifact, student: Model, cfg: Distill, ctx: Context) -> dict[str, Any]:
    """Return the parameters of both models and whether the student is smaller.

    Raises:
        RecipeError: it is not, and cfg.allow_larger is off.
    """
    big, small = _count(models.open_model(teacher).module), _count(student.module)
    larger = small >= big
    if larger and not cfg.allow_larger:
        raise RecipeError(
            f"the student has {small:,} parameters, the teacher {big:,}: it is not smaller",
            "give the student fewer layers or units, or set distill.allow_larger",
        )
    if larger:
        ctx.say(f"the student ({small:,} parameters) is not smaller than the teacher ({big:,})", "warning")
    return {
        "teacher_parameters": big,
        "student_parameters": small,
        "times_smaller": big / small,
        "student_not_smaller": larger,
    }


def learned(loss: object) -> dict[str, Any]:
    """Return what a loss tells once training is done; nothing of most."""
    tell = getattr(loss, "learned", None)
    return dict(tell()) if tell is not None else {}


def progress(done: Fit, cfg: Distill) -> dict[str, Any]:
    """Return what training achieved, as measured: loss of the first, the last and the kept epoch, unweighted soft."""
    first, last = (done.history[0], done.history[-1]) if done.history else ({}, {})
    soft = {"first": first.get("loss_soft"), "final": last.get("loss_soft"), "kept": done.best.get("loss_soft")}
    return {
        "steps": done.steps,
        "soft_loss": {k: None if v is None else v / cfg.alpha for k, v in soft.items()},
        "convergence": {
            "first_loss": first.get("loss_total"),
            "last_loss": last.get("loss_total"),
            "fell": bool(first) and last.get("loss_total", 0.0) < first.get("loss_total", 0.0),
            "best_epoch": done.best.get("epoch"),
            "stopped_early": done.stopped_early,
        },
    }


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
