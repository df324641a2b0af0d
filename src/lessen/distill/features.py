"""Feature terms: what is compared beside the answers, between which layers, and how tokens are brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lessen import plugins
from lessen.distill.alignment import Spans, aligner, same_tokens
from lessen.distill.layers import Pairs, pairs
from lessen.distill.outputs import Frozen, Need, Outputs, answer
from lessen.errors import ModelError, RecipeError
from lessen.processors import TextProcessor

if TYPE_CHECKING:
    from lessen.data import Split
    from lessen.data.batches import Encoded
    from lessen.recipe import Distill

EXAMPLES = 128  # training samples that widths are read from and projectors are fitted on


@dataclass(frozen=True)
class Feature:
    """One feature term."""

    name: str
    weight: float
    need: Need
    match: Any  # the file's Match module


@dataclass(frozen=True)
class Features:
    """The feature terms of a run; without any it asks for nothing."""

    terms: tuple[Feature, ...] = ()
    spans: tuple[Sequence[Spans], Sequence[Spans]] | None = None  # (student, teacher) where tokenizers differ
    student_layers: Mapping[Need, frozenset[int]] = field(default_factory=dict)
    teacher_layers: Mapping[Need, frozenset[int]] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is asked of the models beside logits."""
        return tuple(sorted({f.need for f in self.terms}))

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that are trained beside the student."""
        return [f.match for f in self.terms]

    def values(
        self, student: Outputs, teacher: Outputs, inputs: Mapping[str, Tensor], rows: np.ndarray[Any, Any]
    ) -> dict[str, tuple[float, Tensor]]:
        """Return weight and value per sample of each term, padding left out."""
        real = _real(inputs)
        hidden = teacher.hidden
        if self.spans is not None and hidden:
            hidden, real = _aligned(self.spans, hidden, real, rows)
        out = {}
        for f in self.terms:
            ours, theirs = (student.hidden, hidden) if f.need == "hidden" else (student.attentions, teacher.attentions)
            out[f.name] = (f.weight, f.match(ours, theirs, real))
        return out

    def facts(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {
            f.name: {
                "weight": f.weight,
                "layer_pairs": [list(p) for p in f.match.pairs],
                "projector_parameters": sum(p.numel() for p in f.match.parameters()),
                "aligned_by": "character spans" if self.spans is not None else "position",
            }
            for f in self.terms
        }


def build(cfg: Distill, student: nn.Module, teacher: Frozen, own: Encoded, theirs: Encoded, split: Split) -> Features:
    """Make the feature terms of a recipe: check layers and tokenizers, make projectors and fit their start.

    Args:
        own: the student's encoding of the training split.
        theirs: the teacher's encoding of the same rows.
        split: the training split, for the texts behind spans.

    Raises:
        RecipeError, ModelError: a feature does not exist or cannot be compared between these two models.
    """
    wanted = {name: weight for name, weight in sorted(cfg.features.items()) if weight > 0}
    if not wanted:
        return Features()
    images = own.processor.kind == "image"
    files = {name: feature_file(name) for name in wanted}
    spans = None if images or same_tokens(own, theirs) else _spans(files, own, theirs, split)
    needs = tuple(sorted({file.needs(images) for file in files.values()}))
    rows = np.unique(np.linspace(0, len(own) - 1, num=min(EXAMPLES, len(own))).astype(np.int64))
    ours, real, told = _examples(student, teacher, own, theirs, rows, needs)
    hidden, seen = _aligned(spans, told.hidden, real, rows) if spans is not None else (told.hidden, real)
    terms = []
    for name, weight in wanted.items():
        need: Need = files[name].needs(images)
        a, b = (ours.hidden, hidden) if need == "hidden" else (ours.attentions, told.attentions)
        chosen = pairs(cfg.layer_map, max(a), max(b), stages=images, lowest=min(a))
        match = files[name].Match(chosen, a, b, images=images).to(teacher.runtime.device)
        if hasattr(match, "start_"):
            match.start_(a, b, seen)
        terms.append(Feature(name, weight, need, match))
    return Features(tuple(terms), spans, _layers(terms, 0), _layers(terms, 1))


def feature_file(name: str) -> Any:
    """Return the file of a feature.

    Raises:
        RecipeError: there is none of this name, or it compares answers, not features.
    """
    file = plugins.find("distill.objectives", name)
    if not hasattr(file, "Match"):
        files = {n: plugins.find("distill.objectives", n) for n in plugins.names("distill.objectives")}
        known = [n for n, f in files.items() if hasattr(f, "Match")]
        raise RecipeError(f"distill.features has {name!r}, which is no feature", f"choose among {', '.join(known)}")
    return file


def _layers(terms: Sequence[Feature], side: int) -> dict[Need, frozenset[int]]:
    out: dict[Need, frozenset[int]] = {}
    for f in terms:
        chosen: Pairs = f.match.pairs
        out[f.need] = out.get(f.need, frozenset()) | {pair[side] for pair in chosen}
    return out


def _spans(
    files: Mapping[str, Any], own: Encoded, theirs: Encoded, split: Split
) -> tuple[Sequence[Spans], Sequence[Spans]]:
    refused = [name for name, file in files.items() if not file.ALIGNS]
    if refused:
        raise RecipeError(
            f"distill.features has {', '.join(refused)}, but teacher and student cut texts into different tokens",
            "use logits alone or the feature hidden, which is aligned by characters; "
            "or give the student the teacher's tokenizer: student.tokenizer: teacher",
        )
    if not np.array_equal(own.ids, split.ids):
        raise ModelError("the training rows are not those of the split", "train on the whole training split")
    sides = (own.processor, theirs.processor)
    student, teacher = (p.offsets(list(split.inputs)) for p in sides if isinstance(p, TextProcessor))
    return student, teacher


def _aligned(
    spans: tuple[Sequence[Spans], Sequence[Spans]],
    hidden: Mapping[int, Tensor],
    real: Tensor | None,
    rows: np.ndarray[Any, Any],
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the teacher's states averaged over the student's tokens, and which student tokens have any."""
    if real is None:
        raise ModelError("texts without an attention mask cannot be aligned", "use a tokenizer that gives one")
    first = next(iter(hidden.values()))
    student, teacher = ([side[i] for i in rows] for side in spans)
    weights = aligner(student, teacher, (real.shape[1], first.shape[1])).to(first.device)
    with torch.autocast(first.device.type, enabled=False):
        states = {layer: weights @ state.float() for layer, state in hidden.items()}
    return states, real & (weights.sum(dim=2) > 0)


def _real(inputs: Mapping[str, Tensor]) -> Tensor | None:
    mask = inputs.get("attention_mask")
    return None if mask is None else mask.bool()


def _examples(
    student: nn.Module,
    teacher: Frozen,
    own: Encoded,
    theirs: Encoded,
    rows: np.ndarray[Any, Any],
    needs: tuple[Need, ...],
) -> tuple[Outputs, Tensor | None, Outputs]:
    device = teacher.runtime.device
    inputs, others = ({k: torch.from_numpy(v).to(device) for k, v in e.batch(rows).items()} for e in (own, theirs))
    training = student.training
    student.to(device).eval()
    with torch.no_grad(), teacher.runtime.autocast():
        ours = answer(student, inputs, needs)
    student.train(training)
    return ours, _real(inputs), teacher(others, needs)
