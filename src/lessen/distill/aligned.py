"""The loss of a causal student whose teacher cuts texts into other tokens: see tokens/align.py for what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lessen.data.sequences import IGNORE
from lessen.distill.tokens.align import aligned_values
from lessen.distill.tokens.linear import fused_loss
from lessen.models import language
from lessen.terms import Batch, Term

if TYPE_CHECKING:
    from lessen.distill.shares import Shares
    from lessen.distill.tokens.matches import Matches
    from lessen.models import Model
    from lessen.recipe import Distill
    from lessen.runtime import Runtime


@dataclass
class AlignedTeaching:
    """Per supervised token: (1 − alpha) · cross-entropy + alpha · distance at the start of each common span.

    A token at which no span starts adds nothing to the second term.
    """

    cfg: Distill
    model: Model  # the student
    teacher: Model
    matches: Matches
    place: Runtime
    shares: Shares

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Term]:
        """Return the terms label and soft of a micro-batch; a term of weight 0 is absent."""
        alpha, chosen = self.cfg.alpha, batch.labels != IGNORE
        last = language.states(module, batch.inputs)
        terms = {}
        if alpha < 1:
            measured = self.shares.due(batch.epoch)
            made = fused_loss(last[chosen], language.head(self.model), batch.labels[chosen], keep=measured)
            terms["label"] = Term(1 - alpha, made.total)
        if alpha > 0:
            terms["soft"] = Term(alpha, self._soft(last, batch).sum())
        if self.shares.due(batch.epoch):
            trained = [p for p in module.parameters() if p.requires_grad]
            self.shares.measure(_weighed(terms), trained, batch.epoch)
        return terms

    def _soft(self, last: Tensor, batch: Batch) -> Tensor:
        """Return the distance at the start of each common span, [spans]."""
        match, device = self.matches.of(batch.rows), last.device
        at, there = (torch.from_numpy(pairs).to(device) for pairs in (match.student, match.teacher))
        if not len(at):
            return last.sum()[None] * 0
        inputs = {k: torch.from_numpy(v).to(device) for k, v in self.matches.teacher.batch(match.pieces).items()}
        inputs.pop("targets")
        with torch.no_grad(), self.place.autocast():
            told = language.states(self.teacher.module, inputs)
        return aligned_values(
            last[at[:, 0], at[:, 1]], language.head(self.model), told[there[:, 0], there[:, 1]],
            language.head(self.teacher), torch.from_numpy(match.exact).to(device), self.matches.words,
            temperature=self.cfg.temperature, chunk=self.cfg.chunk_tokens,
        )  # fmt: skip


def _weighed(terms: Mapping[str, Term]) -> dict[str, Tensor]:
    return {name: term.weight * term.values for name, term in terms.items()}
