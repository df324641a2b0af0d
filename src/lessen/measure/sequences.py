"""How well a model of sequences answers: scores of the artifact reopened from disk, on test and held-out texts.

Three kinds of task. Language models: the likelihood of documents. Translation (sequence to sequence): the likelihood of
targets, and texts generated for the first test samples. Classification put into words: decided by which label word the
model finds likeliest after the source, which gives every score that a classifier has; texts are generated beside, and
one that is no label word counts as wrong there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.context import Context
from lessen.data.sequences import Blocks, Pairs
from lessen.measure import nearness, paired, quality, texts, tokens
from lessen.measure.metric import Metrics, measured, missing
from lessen.measure.quality import Answers, device_of
from lessen.measure.texts import Overlap
from lessen.measure.tokens import Scored

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split, Splits
    from lessen.recipe import Measure

EXAMPLES = 5  # generated texts that a report shows
GENERATED = {"generated_tokens": "tokens", "no_label_share": "share"}
TRAIN_DOCUMENTS = 500  # of the training split, scored beside to show overfitting
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, eq=False)
class Said:
    """What a model of sequences said on the test split, in its order: what comparisons need."""

    artifact: Artifact
    scored: Scored
    hypotheses: tuple[str, ...] = ()  # generated for the first test samples
    overlap: Overlap | None = None  # with the references; translation only
    decisions: Answers | None = None  # classification put into words only
    facts: dict[str, Any] = field(default_factory=dict)


def quality_of(
    artifact: Artifact, splits: Splits, teacher: Said | None, cfg: Measure, ctx: Context, *, train: bool = False
) -> tuple[Metrics, Said]:
    """Score an artifact on the test split and every held-out text, and against the teacher.

    Args:
        teacher: what the teacher said, as returned here; none for the teacher itself.
        train: also score the first 500 training documents, as train_*.
    """
    session = artifact.open(device_of(artifact, ctx.device))
    data = encoded(session, artifact, splits, "test", ctx)
    scored = _scored(session, splits, "test", data, ctx)
    metrics = tokens.metrics(scored, bootstrap=cfg.bootstrap, seed=ctx.seed)
    said = Said(artifact, scored)
    if isinstance(data, Pairs):
        found, said = _generated(session, splits, data, said, cfg, ctx)
        metrics |= found
        if splits.labels:
            found, said = _decided(session, splits, data, said, cfg, ctx)
            metrics |= found
    for name in splits.held_out:
        metrics |= _held_out(session, artifact, splits, name, cfg, ctx)
    metrics |= _against(session, artifact, splits, data, teacher, said, cfg, ctx)
    if train:
        metrics |= _on_train(session, artifact, splits, cfg, ctx)
    return metrics, said


def encoded(session: Any, artifact: Artifact, splits: Splits, part: str | Split, ctx: Context) -> Pairs | Blocks:
    """Return a part of the data as the artifact reads it."""
    from lessen.data.encoding import sequences_of

    processor: Any = artifact.processor
    return sequences_of(splits, part, processor, ctx.cache_dir, getattr(session, "start_id", None))


def _scored(
    session: Any, splits: Splits, part: str, data: Pairs | Blocks, ctx: Context, first: int | None = None
) -> Scored:
    split = splits.held_out[part] if part in splits.held_out else getattr(splits, part)
    return tokens.score(session, data, tokens.scored_texts(splits, split, data), documents=first, check=ctx.check)


def _generated(
    session: Any, splits: Splits, data: Pairs, said: Said, cfg: Measure, ctx: Context
) -> tuple[Metrics, Said]:
    rows = np.arange(min(len(data), cfg.generate or len(data)))
    ids = hypotheses(session, data, rows, cfg, ctx)
    spoken = tuple(data.processor.decode(one).strip() for one in ids)
    references = tokens.target_texts(splits, splits.test)[: len(rows)]
    facts = {
        "generation": {"samples": len(rows), "beams": cfg.beams, "max_new_tokens": cfg.max_new_tokens},
        "examples": [
            {"source": _short(source), "reference": _short(reference), "generated": _short(text)}
            for source, reference, text in zip(splits.test.inputs, references, spoken[:EXAMPLES], strict=False)
        ],
    }
    lengths = [len(one) for one in ids]
    found: Metrics = {"generated_tokens": measured(float(np.mean(lengths)), "tokens", n=len(ids))}
    language = (splits.settings.languages or ("", ""))[1]
    overlap = texts.overlap(spoken, references, language)
    scores = texts.metrics(overlap, bootstrap=cfg.bootstrap, seed=ctx.seed)
    if splits.labels:
        known = {word.strip() for word in splits.labels}
        found["exact_match"] = scores["exact_match"]
        found["no_label_share"] = measured(float(np.mean([text not in known for text in spoken])), "share", n=len(ids))
        return found, replace(said, hypotheses=spoken, facts={**said.facts, **facts})
    facts["signatures"] = texts.signatures(language)
    return found | scores, replace(said, hypotheses=spoken, overlap=overlap, facts={**said.facts, **facts})


def hypotheses(session: Any, data: Pairs, rows: Any, cfg: Measure, ctx: Context) -> list[list[int]]:
    """Return the token ids that a model generates for sources, in the order of the rows."""
    from lessen.runtimes import decode

    processor = data.processor
    lengths = np.asarray([len(data.sources[int(r)]) for r in rows])
    order = np.argsort(lengths, kind="stable")
    out: list[list[int]] = [[] for _ in rows]
    for start in range(0, len(order), cfg.batch_size):
        ctx.check()
        at = order[start : start + cfg.batch_size]
        batch = processor.collate([data.sources[int(rows[i])] for i in at])
        said = decode.generate(
            session,
            batch,
            max_new_tokens=cfg.max_new_tokens,
            beams=cfg.beams,
            eos_id=processor.eos_id,
            pad_id=processor.pad_id,
        )
        for i, ids in zip(at, said, strict=True):
            out[int(i)] = list(ids)
    return out


def _decided(session: Any, splits: Splits, data: Pairs, said: Said, cfg: Measure, ctx: Context) -> tuple[Metrics, Said]:
    info, labels = said.artifact.info, splits.test.labels
    answers = decide(session, splits, data, said.artifact, ctx)
    metrics = quality.score(info, labels, answers, bootstrap=cfg.bootstrap, seed=ctx.seed)
    facts = {**said.facts, "decided_by": "the likelihood of each label word after the source"}
    if np.isfinite(answers.logits).all():
        facts |= quality.details(info, labels, answers)
    return metrics, replace(said, decisions=answers, facts=facts)


def decide(
    session: Any, splits: Splits, data: Pairs, artifact: Artifact, ctx: Context, first: int | None = None
) -> Answers:
    """Answer with the label word that the model finds likeliest after each source.

    The logits are the words' log-likelihoods, end token included; probabilities are normalised over the label words.
    """
    n = len(data) if first is None else min(first, len(data))
    logits = np.zeros((n, len(splits.labels)))
    for k, target in enumerate(label_targets(session, artifact, splits, ctx)):
        asked = replace(data, targets=[target] * len(data))
        logits[:, k] = -tokens.score(session, asked, [""] * n, check=ctx.check).nll
    values = logits.astype(np.float32)
    probabilities = artifact.info.probabilities(values) if np.isfinite(values).all() else np.zeros_like(values)
    return Answers(probabilities, artifact.info.decide(probabilities), values)


def label_targets(session: Any, artifact: Artifact, splits: Splits, ctx: Context) -> list[Any]:
    """Return the token ids of each label word, as targets of that label are encoded."""
    one = splits.test.take([0])
    asked = [replace(one, labels=np.asarray([k], dtype=np.int64)) for k in range(len(splits.labels))]
    found = [encoded(session, artifact, splits, split, ctx) for split in asked]
    return [data.targets[0] for data in found if isinstance(data, Pairs)]


def _held_out(session: Any, artifact: Artifact, splits: Splits, name: str, cfg: Measure, ctx: Context) -> Metrics:
    scored = _scored(session, splits, name, encoded(session, artifact, splits, name, ctx), ctx)
    found = tokens.metrics(scored, bootstrap=cfg.bootstrap, seed=ctx.seed)
    return {tokens.of_text(metric, name): value for metric, value in found.items()}


def _against(
    session: Any,
    artifact: Artifact,
    splits: Splits,
    data: Pairs | Blocks,
    teacher: Said | None,
    said: Said,
    cfg: Measure,
    ctx: Context,
) -> Metrics:
    if teacher is None:
        return {name: missing(unit, "this is the teacher") for name, unit in nearness.UNITS.items()} | {
            "agreement_with_teacher": missing("share", "this is the teacher")
        }
    out = paired.against_teacher(splits.test.labels, teacher, said, bootstrap=cfg.bootstrap, seed=ctx.seed)
    other = teacher.artifact
    first = other.open(device_of(other, ctx.device))
    reason = nearness.incomparable(data, encoded(first, other, splits, "test", ctx))
    if reason:
        near: Metrics = {name: missing(unit, reason) for name, unit in nearness.UNITS.items()}
    else:
        near = nearness.nearness(first, session, data, cfg, ctx)
    # decisions where there are any, else tokens
    return {"agreement_with_teacher": near["token_agreement"], **near, **out}


def _on_train(session: Any, artifact: Artifact, splits: Splits, cfg: Measure, ctx: Context) -> Metrics:
    """Score the first training documents; no interval, since these were trained on."""
    data = encoded(session, artifact, splits, "train", ctx)
    first = min(TRAIN_DOCUMENTS, len(splits.train))
    found = tokens.metrics(_scored(session, splits, "train", data, ctx, first), bootstrap=1, seed=ctx.seed)
    names = ["nll_per_token", "perplexity", "token_accuracy"]
    if splits.labels and isinstance(data, Pairs):
        few = replace(
            data,
            sources=data.sources[:first],
            targets=data.targets[:first],
            ids=data.ids[:first],
            labels=data.labels[:first],
        )
        answers = decide(session, splits, few, artifact, ctx)
        found |= quality.score(artifact.info, splits.train.labels[:first], answers, bootstrap=1, seed=ctx.seed)
        names += ["accuracy", "f1_macro", "roc_auc", "nll"]
    return {f"train_{name}": found[name].model_copy(update={"ci95": None}) for name in names}


def _short(text: str) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else flat[: _SHOWN_CHARACTERS - 1] + "…"
