"""Measure one stage's artifact: quality, size, computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lessen.context import Context
from lessen.measure import speed
from lessen.measure.complexity import complexity
from lessen.measure.metric import Metric, Metrics
from lessen.measure.quality import Answers, answer, quality, score
from lessen.measure.size import size

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split
    from lessen.recipe import Measure

TRAIN_SAMPLES = 2000  # of the training split, scored beside to show overfitting
_TRAIN = ("accuracy", "f1_macro", "roc_auc", "nll")


def measure_stage(
    artifact: Artifact,
    test: Split,
    teacher: Answers | None,
    cfg: Measure,
    ctx: Context,
    *,
    source: Mapping[str, Metric] | None = None,
    source_facts: Mapping[str, Any] | None = None,
    train: Split | None = None,
) -> tuple[Metrics, Answers]:
    """Measure the quality, size and computation of the artifact reopened from disk; speed is left for the end.

    Args:
        teacher: the teacher's answers, as returned here for the teacher; none for the teacher itself.
        source: metrics of the fp32 model an exported or quantized artifact was made from, for its FLOPs.
        source_facts: that model's `Answers.facts`.
        train: the training split; the first 2,000 samples are scored beside, as train_*.

    Returns:
        The metrics, and the answers: probabilities, decisions, and facts (confusion matrix, scores per class, bytes
        per file, formulas).
    """
    ctx.check()
    metrics, answers = quality(
        artifact, test, teacher=teacher, bootstrap=cfg.bootstrap, seed=ctx.seed, device=ctx.device
    )
    ctx.check()
    sizes, size_facts = size(artifact)
    work, work_facts = complexity(artifact, test, source, source_facts)
    metrics |= sizes | work | speed.not_yet()
    facts = {**answers.facts, **size_facts, **work_facts}
    if train is not None:
        seen, per_class = _on_train(artifact, train, cfg, ctx)
        metrics |= seen
        facts["train_per_class"] = per_class
    return metrics, replace(answers, facts=facts)


def _on_train(artifact: Artifact, train: Split, cfg: Measure, ctx: Context) -> tuple[Metrics, list[dict[str, Any]]]:
    from lessen.measure.quality import per_class

    part = train.take(range(min(TRAIN_SAMPLES, len(train))))
    answers = answer(artifact, part, ctx.device)
    # no interval: these samples were trained on
    found = score(artifact.info, part.labels, answers, bootstrap=1, seed=ctx.seed)
    metrics = {f"train_{name}": found[name].model_copy(update={"ci95": None}) for name in _TRAIN}
    return metrics, per_class(artifact.info, part.labels, answers)
