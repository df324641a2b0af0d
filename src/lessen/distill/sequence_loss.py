"""Which teacher side a recipe asks for, and the loss made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lessen import models, plugins
from lessen.data.rows import rows_of
from lessen.data.sequences import IGNORE, Blocks
from lessen.distill import moe
from lessen.distill.aligned import AlignedTeaching
from lessen.distill.generate import OnPolicy
from lessen.distill.layers import pairs
from lessen.distill.sequences import SequenceTeaching, TeacherSide, all_states
from lessen.distill.shares import Shares
from lessen.distill.sides import AfterStep, Live, Routing, Stored
from lessen.distill.teacher_texts import taught, teach_sequences
from lessen.distill.tokens.matches import match
from lessen.distill.tokens.score import stored
from lessen.errors import ModelError, RecipeError
from lessen.models import language
from lessen.runtime import Runtime, runtime

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.data import Splits
    from lessen.models import Model
    from lessen.recipe import Distill, Train
    from lessen.terms import Rows

EXAMPLES = 16  # rows that widths are read from and projectors are fitted on
PROBE_TEXTS = 64  # texts on which two tokenizers must agree


def sequence_loss(
    teacher: Artifact,
    student: Model,
    cfg: Distill,
    train_cfg: Train,
    splits: Splits,
    train: Rows,
    ctx: Context,
) -> tuple[SequenceTeaching | AlignedTeaching, list[nn.Module], dict[str, Any]]:
    """Return the loss, the modules to train or checkpoint beside the student, and facts for the manifest.

    Args:
        train: what is learned from, in the student's tokens.

    Raises:
        RecipeError: settings that cannot teach or that exclude each other.
        ModelError: vocabularies or layers of the two models cannot be brought together.
    """
    place = runtime(ctx, train_cfg.precision)
    opened = models.open_model(teacher, str(place.device))
    if not same_tokenizer(opened, student, splits):
        return _aligned(opened, student, cfg, splits, train, place, ctx)
    made = _Side(teacher, opened, student, cfg, train, place, ctx)
    side, modules, facts = made.side()
    names = [n for n, on in (("label", cfg.alpha < 1), ("soft", cfg.alpha > 0)) if on]
    shares = Shares(names, [n for n in names if n != "label"], ctx)
    weight, match = float(cfg.features.get("hidden", 0.0)), None
    if weight:
        match = matched(opened, student, cfg, train, place)
        modules.append(match)
    told = {
        "objective": cfg.objective,
        "alpha": cfg.alpha,
        "temperature": cfg.temperature,
        "sequences": cfg.sequences,
        "features": {"hidden": weight} if weight else {},
        "router": cfg.router,
        "teacher_answers": facts,
    }
    loss = SequenceTeaching(cfg, student, side, shares, match, weight, made.reports)
    return loss, [*modules, shares], told


def teacher_rows(
    teacher: Artifact, student: Model, cfg: Distill, train_cfg: Train, splits: Splits, train: Rows, ctx: Context
) -> tuple[Rows, dict[str, Any]]:
    """Return what is learned from: the data, or (distill.sequences teacher) what the teacher says to its prompts.

    Raises:
        ModelError: teacher and student have different tokenizers.
    """
    if not student.info.generates or cfg.sequences != "teacher":
        return train, {}
    place = runtime(ctx, train_cfg.precision)
    opened = models.open_model(teacher, str(place.device))
    if not same_tokenizer(opened, student, splits):
        raise ModelError(
            "distill.sequences is teacher, but teacher and student have different tokenizers",
            "give the student the teacher's: student.tokenizer: teacher",
        )
    data: Any = train
    texts = teach_sequences(teacher, opened, data, cfg, place, ctx)
    facts = {"teacher_texts": len(texts), "beams": cfg.beams, "mean_tokens": float(np.mean([len(t) for t in texts]))}
    return taught(data, texts, cfg.prompt_tokens), facts


@dataclass
class _Side:
    """One choice of a teacher's side."""

    teacher: Artifact
    opened: Model
    student: Model
    cfg: Distill
    train: Any  # Pairs or Blocks
    place: Runtime
    ctx: Context
    reports: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)

    def side(self) -> tuple[TeacherSide, list[nn.Module], dict[str, Any]]:
        """Return the side, modules to checkpoint beside the student, and facts."""
        cfg, reason = self.cfg, why_live(self.cfg)
        self.opened.module.eval().requires_grad_(False)
        routing: Routing = nullcontext
        facts: dict[str, Any] = {}
        if cfg.router is not None:
            found, routing = moe.routed(self.opened.module, cfg)
            facts["routers"] = moe.describe(found)
            self.ctx.say(f"router {cfg.router}: {facts['routers']}")
        if reason is None and cfg.router != "sar":
            side, told = self._stored(routing, cfg.router)
            return side, [], {**facts, **told}
        passes = cfg.moe.passes if cfg.router == "ka" else 1
        live = Live(self.opened, self.place, routing, passes, any(cfg.features.values()), cfg.offload_teacher)
        modules: list[nn.Module] = [AfterStep(live.after_step)] if cfg.offload_teacher else []
        made: TeacherSide = live
        if cfg.router == "sar":
            made, sar = self._sar(live, routing)
            modules.append(sar)
            self.reports["routers"] = sar.facts
        if cfg.sequences == "student":
            own = OnPolicy(made, self.train, self.student.processor, self.place, cfg, self.ctx.seed)
            made, self.reports["own_texts"] = own, own.facts
        reason = reason or f"its routers learn for {cfg.moe.freeze_after} steps; then its answers are stored"
        self.ctx.say(f"the teacher answers live: {reason}")
        return made, modules, {**facts, "from": "live", "reason": reason}

    def _stored(self, routing: Routing, router: str | None) -> tuple[Stored, dict[str, Any]]:
        cache, facts = stored(
            self.teacher, self.opened, self.train, self.cfg, self.place, self.ctx, router=router, routing=routing
        )
        return Stored(cache, self.train, self.place.device), facts

    def _sar(self, live: Live, routing: Routing) -> tuple[TeacherSide, moe.Sar]:
        cfg = self.cfg
        sar = moe.Sar(self.opened, cfg.moe, self.place, chunk=cfg.chunk_tokens)

        def frozen(version: str) -> TeacherSide:
            self.ctx.say(f"the routers stay from here on (fingerprint {version[:12]}); their answers are stored")
            return self._stored(routing, f"sar {version}")[0]

        return moe.SarSide(sar, live, language.head(self.student), frozen if cfg.moe.freeze_after else None), sar


def why_live(cfg: Distill) -> str | None:
    """Return why the teacher must answer live, or None where what it says is stored."""
    from lessen.sequence_rules import live

    reason = live(cfg)
    if reason is None and cfg.cache == "off":
        return "distill.cache is off"
    if reason is None and cfg.targets == "dense":
        return "distill.targets is dense: whole distributions are not stored"
    if reason is None and not hasattr(plugins.find("distill.objectives", cfg.objective), "between"):
        return f"distill.objective {cfg.objective} compares logits, of which stored targets hold only a part"
    return reason


def same_tokenizer(teacher: Model, student: Model, splits: Splits) -> bool:
    """Whether both models read and say the same tokens."""
    ours, theirs = student.processor, teacher.processor
    if ours.digest == theirs.digest:
        return True
    texts = list(splits.train.inputs[:PROBE_TEXTS])
    return _vocabulary(ours) == _vocabulary(theirs) and all(
        np.array_equal(a, b) for a, b in zip(ours.encode(texts), theirs.encode(texts), strict=True)
    )


def _aligned(
    teacher: Model, student: Model, cfg: Distill, splits: Splits, train: Rows, place: Runtime, ctx: Context
) -> tuple[AlignedTeaching, list[nn.Module], dict[str, Any]]:
    """Return the loss of two tokenizers.

    Raises:
        ModelError: it is not asked for, or cannot work; says why.
    """
    sizes = f"teacher ({len(_vocabulary(teacher.processor))} tokens), student ({len(_vocabulary(student.processor))})"
    if cfg.cross_tokenizer == "refuse":
        raise ModelError(
            f"{sizes}: different tokenizers, so their distributions are over different things",
            "give the student the teacher's (student.tokenizer: teacher), or set distill.cross_tokenizer to align",
        )
    plain: dict[str, Any] = {"router": None, "sequences": "data", "cache": "auto", "features": {}, "objective": "kl"}
    for name, usual in plain.items():
        given = getattr(cfg, name)
        if given not in (usual, "off"):
            raise RecipeError(
                f"distill.{name} is {given}, but the tokenizers differ: {sizes}",
                "across tokenizers there is objective kl on the data's texts",
            )
    theirs = rows_of(splits, "train", teacher.processor, ctx.cache_dir)
    if not isinstance(train, Blocks) or not isinstance(theirs, Blocks):
        raise ModelError(f"{sizes}: tokenizers are brought together for causal-lm only", "use one tokenizer")
    matches = match(train, theirs, list(splits.train.inputs))
    teacher.module.eval().requires_grad_(False)
    ctx.say(
        f"the teacher answers live: {sizes} differ; {matches.facts['student_tokens_compared']:.0%} of the tokens meet"
    )
    shares = Shares([n for n, on in (("label", cfg.alpha < 1), ("soft", cfg.alpha > 0)) if on], ["soft"], ctx)
    facts = {"from": "live", "reason": "different tokenizers", "alignment": matches.facts}
    told = {"objective": "kl / sorted", "alpha": cfg.alpha, "temperature": cfg.temperature, "teacher_answers": facts}
    return AlignedTeaching(cfg, student, teacher, matches, place, shares), [shares], told


def _vocabulary(processor: Any) -> Mapping[str, int]:
    found: Mapping[str, int] = processor.tokenizer.get_vocab(with_added_tokens=True)
    return found


def matched(teacher: Model, student: Model, cfg: Distill, train: Rows, place: Runtime) -> nn.Module:
    """Return the module that compares hidden states of both models, its projectors fitted on training rows."""
    file: Any = plugins.find("distill.objectives", "hidden")
    rows = np.unique(np.linspace(0, len(train) - 1, num=min(EXAMPLES, len(train))).astype(np.int64))
    inputs = {k: torch.from_numpy(v).to(place.device) for k, v in train.batch(rows).items()}
    real = inputs.pop("targets") != IGNORE
    student.module.to(place.device).eval()
    with torch.no_grad(), place.autocast():
        _, ours = all_states(student.module, inputs, deep=True)
        _, theirs = all_states(teacher.module, inputs, deep=True)
    if ours is None or theirs is None:
        raise ModelError(f"{student.info.family} gives no hidden states", "leave hidden out of distill.features")
    chosen = pairs(cfg.layer_map, max(ours), max(theirs), stages=False, lowest=min(ours))
    match: nn.Module = file.Match(chosen, ours, theirs, images=False).to(place.device)
    start: Any = match
    start.start_(ours, theirs, real)
    return match
