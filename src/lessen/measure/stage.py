"""Measure one stage's artifact: quality, size, computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lessen.context import Context
from lessen.info import generates
from lessen.measure import speed
from lessen.measure.complexity import complexity
from lessen.measure.metric import Metric, Metrics
from lessen.measure.quality import Answers, answer, quality, score
from lessen.measure.size import size

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split, Splits
    from lessen.measure.sequences import Said
    from lessen.recipe import Measure

TRAIN_SAMPLES = 2000  # of the training split, scored beside to show overfitting
_TRAIN = ("accuracy", "f1_macro", "roc_auc", "nll")


def measure_stage(
    artifact: Artifact,
    splits: Splits,
    teacher: Answers | Said | None,
    cfg: Measure,
    ctx: Context,
    *,
    source: Mapping[str, Metric] | None = None,
    source_facts: Mapping[str, Any] | None = None,
    train: bool = False,
) -> tuple[Metrics, Answers | Said]:
    """Measure the quality, size and computation of the artifact reopened from disk; speed is left for the end.

    Args:
        splits: the test split is scored, and every held-out text.
        teacher: the teacher's answers, as returned here for the teacher; none for the teacher itself.
        source: metrics of the fp32 model an exported or quantized artifact was made from, for its FLOPs.
        source_facts: that model's `facts`.
        train: also score the first samples of the training split, as train_*.

    Returns:
        The metrics, and the answers: what comparisons need, and facts (confusion matrix, scores per class, generated
        texts, bytes per file, formulas).
    """
    ctx.check()
    metrics, answers = (_sequences if generates(splits.task) else _classes)(
        artifact, splits, teacher, cfg, ctx, train=train
    )
    ctx.check()
    sizes, size_facts = size(artifact)
    work, work_facts = complexity(artifact, splits, source, source_facts)
    metrics |= sizes | work | speed.not_yet(kind=artifact.info.task)
    return metrics, replace(answers, facts={**answers.facts, **size_facts, **work_facts})


def _sequences(
    artifact: Artifact, splits: Splits, teacher: Any, cfg: Measure, ctx: Context, *, train: bool
) -> tuple[Metrics, Answers | Said]:
    from lessen.measure import sequences

    return sequences.quality_of(artifact, splits, teacher, cfg, ctx, train=train)


def _classes(
    artifact: Artifact, splits: Splits, teacher: Any, cfg: Measure, ctx: Context, *, train: bool
) -> tuple[Metrics, Answers | Said]:
    metrics, answers = quality(
        artifact, splits.test, teacher=teacher, bootstrap=cfg.bootstrap, seed=ctx.seed, device=ctx.device
    )
    if train:
        seen, per_class = _on_train(artifact, splits.train, cfg, ctx)
        metrics |= seen
        answers = replace(answers, facts={**answers.facts, "train_per_class": per_class})
    return metrics, answers


def _on_train(artifact: Artifact, train: Split, cfg: Measure, ctx: Context) -> tuple[Metrics, list[dict[str, Any]]]:
    from lessen.measure.quality import per_class

    part = train.take(range(min(TRAIN_SAMPLES, len(train))))
    answers = answer(artifact, part, ctx.device)
    # no interval: these samples were trained on
    found = score(artifact.info, part.labels, answers, bootstrap=1, seed=ctx.seed)
    metrics = {f"train_{name}": found[name].model_copy(update={"ci95": None}) for name in _TRAIN}
    return metrics, per_class(artifact.info, part.labels, answers)
