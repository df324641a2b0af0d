"""The loss of a student: labels, the teacher's answers, and features on the way to them.

Formula, per sample: (1 − alpha) · label + alpha · soft + Σ weight_i · feature_i.
Distillation, recovery after pruning and quantization-aware training all learn from this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lessen import models, plugins
from lessen.data.batches import encode
from lessen.distill import features as feature_terms
from lessen.distill.alignment import same_tokens
from lessen.distill.cache import Cache, fingerprint, open_cache
from lessen.distill.divergence import standardized
from lessen.distill.features import Features
from lessen.distill.labels import Columns, columns
from lessen.distill.outputs import Frozen, Outputs, answer
from lessen.distill.shares import Shares
from lessen.errors import ModelError, RecipeError, TrainingError
from lessen.finetune import weights
from lessen.loss import LabelLoss, label_loss
from lessen.runtime import Runtime, runtime
from lessen.train import Batch, Term

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.data.batches import Encoded
    from lessen.distill.aligned import AlignedTeaching
    from lessen.distill.sequences import SequenceTeaching
    from lessen.info import Floats, ModelInfo
    from lessen.models import Model
    from lessen.recipe import Distill, Train
    from lessen.terms import Rows

Answers = Callable[[Batch], Outputs]


@dataclass(frozen=True)
class Teaching:
    """The loss; see the module's first lines."""

    cfg: Distill
    sigmoid: bool
    objective: Any  # a soft file of objectives/
    columns: Columns
    label: LabelLoss
    answers: Answers
    features: Features
    shares: Shares

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Term]:
        """Return the terms of a micro-batch: label, soft, and the features by name; terms of weight 0 are absent."""
        ours = answer(module, batch.inputs, self.features.needs, self.features.student_layers)
        told = self.answers(batch)
        terms = {}
        if self.cfg.alpha < 1:
            terms["label"] = Term(1 - self.cfg.alpha, self.label(ours.logits, batch.labels))
        if self.cfg.alpha > 0:
            terms["soft"] = Term(self.cfg.alpha, self.soft(ours.logits, told.logits, batch.labels))
        for name, (weight, values) in self.features.values(ours, told, batch.inputs, batch.rows).items():
            terms[name] = Term(weight, values)
        if self.shares.due(batch.epoch):
            trained = [p for m in (module, *self.features.modules) for p in m.parameters() if p.requires_grad]
            self.shares.measure({n: t.weight * t.values for n, t in terms.items()}, trained, batch.epoch)
        return terms

    def soft(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the soft term of student logits and the teacher's own logits, one value per sample, fp32."""
        teacher = self.columns(teacher.float())
        if self.cfg.standardize:
            student, teacher = standardized(student), standardized(teacher)
        name = getattr(self.objective, "SETTING", None)  # the one setting that this objective takes
        settings = {name: getattr(self.cfg, name)} if name else {}
        values: Tensor = self.objective.loss(
            student, teacher, labels, temperature=self.cfg.temperature, sigmoid=self.sigmoid, **settings
        )
        return values


def teaching_loss(
    teacher: Artifact,
    student: Model,
    cfg: Distill,
    train_cfg: Train,
    splits: Splits,
    train: Rows,
    ctx: Context,
    *,
    augment: str = "none",
) -> tuple[Teaching | SequenceTeaching | AlignedTeaching, list[nn.Module], dict[str, Any]]:
    """Return the loss, the modules to train or checkpoint beside the student, and facts for the manifest.

    Teacher answers come from the disk cache where they are fixed. With random views or features the teacher answers
    live, on the same view of the same sample; an event says so.

    Args:
        train: the student's encoding of the training split.
        augment: none, or the kind of random views that `fit` is going to draw.

    Raises:
        RecipeError: settings that cannot teach or that exclude each other.
        ModelError: label maps, layers or tokens of the two models cannot be brought together.
    """
    if student.info.generates:
        from lessen.distill.sequence_loss import sequence_loss

        return sequence_loss(teacher, student, cfg, train_cfg, splits, train, ctx)
    labelled: Any = train
    return _labels(teacher, student, cfg, train_cfg, splits, labelled, ctx, augment)


def _labels(
    teacher: Artifact,
    student: Model,
    cfg: Distill,
    train_cfg: Train,
    splits: Splits,
    train: Encoded,
    ctx: Context,
    augment: str,
) -> tuple[Teaching, list[nn.Module], dict[str, Any]]:
    """Return what `teaching_loss` does, of models that classify."""
    place = runtime(ctx, train_cfg.precision)
    objective = soft_file(cfg, student.info, train_cfg, place)
    opened = models.open_model(teacher, str(place.device))
    order = columns(opened.info, student.info)
    frozen = Frozen(opened.module, place)
    theirs = _encoding(train, opened, splits, ctx, augment)
    terms = feature_terms.build(cfg, student.module, frozen, train, theirs, splits.train)
    live = _why_live(cfg, terms, augment)
    if live is None:
        answers, source = _cached(teacher, frozen, theirs, place, ctx)
    else:
        ctx.say(f"the teacher answers live: {live}")
        shared = theirs is train and not train_cfg.token_dropout  # the teacher reads every token
        answers, source = _Live(frozen, theirs, shared, terms), {"from": "live", "reason": live}
    names = [n for n, on in (("label", cfg.alpha < 1), ("soft", cfg.alpha > 0)) if on] + [f.name for f in terms.terms]
    shares = Shares(names, [n for n in names if n != "label"], ctx)
    label = label_loss(student.info, train_cfg, weights(train_cfg, splits))
    sigmoid = student.info.output == "sigmoid"
    loss = Teaching(cfg, sigmoid, objective, order, label, answers, terms, shares)
    facts = {
        "objective": cfg.objective,
        "alpha": cfg.alpha,
        "temperature": cfg.temperature if objective.SOFTENS else None,
        "standardize": cfg.standardize,
        "features": terms.facts(),
        "teacher_answers": source,
        "labels_permuted": order.order != tuple(range(len(order.order))),
        "student_dropout": max((m.p for m in student.module.modules() if isinstance(m, nn.Dropout)), default=0.0),
    }
    return loss, [*terms.modules, shares], facts


def soft_file(cfg: Distill, info: ModelInfo, train_cfg: Train, place: Runtime) -> Any:
    """Return the objective's file.

    Raises:
        RecipeError: nothing would be learned from the teacher, or the objective does not fit the outputs or batches.
    """
    if cfg.alpha == 0 and not any(cfg.features.values()):
        raise RecipeError(
            "distill.alpha is 0 and no feature has a weight: nothing would be learned from the teacher",
            "raise distill.alpha, or use distill.control for a run without the teacher",
        )
    file = plugins.find("distill.objectives", cfg.objective)
    if not hasattr(file, "loss"):
        raise RecipeError(
            f"distill.objective is {cfg.objective}, which compares features, not answers",
            f"set distill.objective to kl and give {cfg.objective} a weight in distill.features",
        )
    if info.output == "sigmoid" and not (file.SIGMOID and not cfg.standardize):
        what = f"objective {cfg.objective}" if not file.SIGMOID else "standardize"
        raise RecipeError(
            f"distill.{what} compares classes; these models answer yes or no per label (output: sigmoid)",
            "use objective kl or mse without standardize",
        )
    least = max(file.CLASSES, 3 if cfg.standardize else 2)
    if info.output == "softmax" and len(info.labels) < least:
        what = "standardize" if least > file.CLASSES else f"objective {cfg.objective}"
        raise RecipeError(
            f"distill.{what} needs {least} classes, the data have {len(info.labels)}: with two nothing would be left",
            "use objective kl without standardize",
        )
    if file.PER_BATCH and (train_cfg.accumulate > 1 or place.world > 1):
        raise RecipeError(
            f"distill.objective {cfg.objective} relates the samples of a whole batch; here a batch is cut into "
            f"{train_cfg.accumulate * place.world} parts",
            "set train.accumulate to 1 and use one process, or use objective kl",
        )
    return file


def _encoding(train: Encoded, teacher: Model, splits: Splits, ctx: Context, augment: str) -> Encoded:
    """Return the training split as the teacher reads it; the student's own encoding where that is the same."""
    if teacher.processor.digest == train.processor.digest:
        return train
    theirs = encode(splits.train, teacher.processor, ctx.cache_dir, augment)
    if not np.array_equal(theirs.ids, train.ids):
        raise ModelError("the training rows are not those of the split", "train on the whole training split")
    return train if train.processor.kind == "text" and same_tokens(train, theirs) else theirs


def _why_live(cfg: Distill, terms: Features, augment: str) -> str | None:
    """Return why the teacher must answer live, or None where the cache serves."""
    reason = None
    if augment != "none":
        reason = f"data.augment is {augment}, so a stored answer would belong to another view of the image"
    elif terms.terms:
        reason = f"{', '.join(f.name for f in terms.terms)} compares what only the running teacher gives"
    elif cfg.cache == "off":
        return "distill.cache is off"
    if reason is not None and cfg.cache == "on":
        raise RecipeError(f"distill.cache is on, but {reason}", "set distill.cache to auto or off")
    return reason


@dataclass(frozen=True)
class _Live:
    """The teacher answers the student's batch: the same samples, the same views."""

    frozen: Frozen
    data: Encoded  # the teacher's encoding
    shared: bool  # it is the student's
    terms: Features

    def __call__(self, batch: Batch) -> Outputs:
        inputs = batch.inputs if self.shared else _tensors(self.data, batch.rows, batch.view, self.frozen.runtime)
        return self.frozen(inputs, self.terms.needs, self.terms.teacher_layers)


@dataclass(frozen=True)
class _Stored:
    """The teacher's answers, read once from disk."""

    logits: Tensor  # [rows, outputs]

    def __call__(self, batch: Batch) -> Outputs:
        if batch.view is not None:
            raise TrainingError(
                "the batch holds random views, the teacher's answers are stored", "pass `augment` to teaching_loss"
            )
        return Outputs(self.logits[torch.from_numpy(batch.rows).to(self.logits.device)])


def _cached(
    teacher: Artifact, frozen: Frozen, data: Encoded, place: Runtime, ctx: Context
) -> tuple[Answers, dict[str, Any]]:
    """Return stored answers; one process computes what is missing, the others wait and read."""

    def score(rows: np.ndarray[Any, Any]) -> Floats:
        return frozen(_tensors(data, rows, None, place)).logits.float().cpu().numpy()

    parts = fingerprint(teacher, place.dtype)
    computed = 0
    if place.rank == 0:
        cache = open_cache(ctx.cache_dir, parts, ctx)
        computed = cache.fill(data, score, ctx)
    place.least(0)
    if place.rank != 0:
        cache = open_cache(ctx.cache_dir, parts, ctx)
    worst = cache.verify(data, score, seed=ctx.seed)
    reused = len(data) - computed
    ctx.say(f"teacher answers: {reused} from the cache, {computed} computed (fingerprint {cache.fingerprint[:12]})")
    facts = {
        "from": "cache",
        "rows": len(data),
        "hits": reused,
        "computed": computed,
        "fingerprint": cache.fingerprint,
        "dtype": cache.parts["dtype"],
        "verified_relative_difference": worst,
    }
    return _Stored(_table(cache, data).to(place.device)), facts


def _table(cache: Cache, data: Encoded) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(cache.table(list(data.ids))))


def _tensors(data: Encoded, rows: np.ndarray[Any, Any], view: int | None, place: Runtime) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v).to(place.device) for k, v in data.batch(rows, view).items()}
