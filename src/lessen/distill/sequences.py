"""The loss of models that generate: the next token, and the teacher's distribution over it.

Formula, per supervised token: (1 − alpha) · cross-entropy + alpha · objective + weight · hidden; summed, and divided by
the supervised tokens of the whole optimizer step. The head and the divergence are computed in chunks of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from lessen.data.sequences import IGNORE
from lessen.distill.moe.routers import Router, routers
from lessen.distill.moe.routing import routing
from lessen.distill.tokens.linear import DenseTeacher, FusedLoss, fused_loss
from lessen.models import language
from lessen.models.moe import real
from lessen.terms import Batch, Term

if TYPE_CHECKING:
    from lessen.distill.shares import Shares
    from lessen.distill.tokens.targets import SparseTargets
    from lessen.models import Model
    from lessen.recipe import Distill

SHARE_TOKENS = 128  # tokens on which the terms' shares of the gradient are measured


@dataclass(frozen=True)
class Said:
    """What the teacher says to a batch: its answers at the supervised positions, and its hidden states by layer."""

    answers: Sequence[SparseTargets | DenseTeacher]  # several are averaged
    hidden: Mapping[int, Tensor] | None = None  # [b, t, width]


class TeacherSide(Protocol):
    """Where the teacher's answers come from."""

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the batches to learn from; called once a step, before its first micro-batch."""
        ...

    def __call__(self, batch: Batch) -> Said:
        """Return what the teacher says to a batch."""
        ...


class TokenLoss:
    """Cross-entropy of the next token; of a mixture of experts also that its experts are used alike.

    The term balance is that of the architecture, weighed by its own router_aux_loss_coef: N Σ_e f_e P_e with f_e the
    share of choices that fall on expert e and P_e its mean probability, the mean over layers.
    Source: Fedus et al. 2022, Switch Transformers, https://arxiv.org/abs/2101.03961, eq. 4.
    """

    def __init__(self, model: Model, chunk: int = 256) -> None:
        self.model, self.chunk = model, chunk
        self.weight = float(getattr(model.module.config, "router_aux_loss_coef", None) or 0.0)
        self.found = routers(model.module) if self.weight else []

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Term]:
        """Return the terms label and, of a mixture of experts, balance."""
        seen: list[Tensor] = []
        there = real(batch.inputs) if self.found else None

        def see(router: Router, logits: Tensor, chosen: Tensor) -> None:
            seen.append(uneven_use(logits, chosen, there))

        with routing(module, "frozen", found=self.found, see=see) if self.found else nullcontext():
            states, labels = supervised_states(module, batch)
        made = fused_loss(states, language.head(self.model), labels, chunk=self.chunk)
        terms = {"label": Term(1.0, made.total)}
        if seen:
            terms["balance"] = Term(self.weight, torch.stack(seen).mean() * made.tokens)
        return terms


def uneven_use(logits: Tensor, chosen: Tensor, real: Tensor | None) -> Tensor:
    """Return N Σ_e f_e P_e of one router: 1 where all experts are used alike, N where one has all.

    Args:
        logits: [tokens, N]; chosen: experts of each token, [tokens, k].
        real: bool [b, t], which tokens count; none: all.
    """
    if real is not None:
        logits, chosen = logits[real.reshape(-1)], chosen[real.reshape(-1)]
    experts = logits.shape[1]
    share = torch.bincount(chosen.reshape(-1), minlength=experts).float() / max(1, chosen.numel())
    return experts * (share * logits.float().softmax(dim=-1).mean(dim=0)).sum()


@dataclass
class SequenceTeaching:
    """The loss; see the module's first lines."""

    cfg: Distill
    model: Model  # the student
    teacher: TeacherSide
    shares: Shares
    match: nn.Module | None = None  # of hidden states
    weight: float = 0.0  # of hidden states
    reports: Mapping[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)

    def learned(self) -> dict[str, Any]:
        """Return what the teacher's side tells once training is done: routers, the student's own texts."""
        return {name: told() for name, told in self.reports.items()}

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the batches to learn from: the data's, or the student's own texts."""
        return self.teacher.prepare(module, batches, step)

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Term]:
        """Return the terms label, soft and hidden of a micro-batch; a term of weight 0 is absent."""
        alpha, chosen = self.cfg.alpha, batch.labels != IGNORE
        last, hidden = all_states(module, batch.inputs, deep=self.match is not None)
        states, labels = last[chosen], batch.labels[chosen]
        told = self.teacher(batch)
        made = [self._loss(states, labels, answer, alpha) for answer in told.answers]
        total = torch.stack([m.total for m in made]).mean()
        hard = made[0].ce  # the same whatever the teacher says
        terms = {}
        if alpha < 1:
            terms["label"] = Term(1 - alpha, hard if alpha else total)
        if alpha > 0:  # the whole gradient runs through this one: its value is the soft term's
            terms["soft"] = Term(alpha, (total - (1 - alpha) * hard) / alpha)
        if self.match is not None:
            terms["hidden"] = Term(self.weight, self.match(hidden, told.hidden, chosen) * chosen.sum(dim=1))
        if self.shares.due(batch.epoch) and len(labels):
            self._share(last, batch, told)
        return terms

    def _loss(self, states: Tensor, labels: Tensor, told: SparseTargets | DenseTeacher, alpha: float) -> FusedLoss:
        cfg = self.cfg
        return fused_loss(
            states, language.head(self.model), labels, objective=cfg.objective, alpha=alpha,
            temperature=cfg.temperature, teacher=told, chunk=cfg.chunk_tokens, beta=cfg.beta, skew=cfg.skew,
        )  # fmt: skip

    def _share(self, last: Tensor, batch: Batch, told: Said) -> None:
        """Measure each term's share of the gradient of the last states, on the first tokens of the batch."""
        few, chosen = slice(0, SHARE_TOKENS), batch.labels != IGNORE
        answer = told.answers[0]
        part = DenseTeacher(answer.states[few], answer.head) if isinstance(answer, DenseTeacher) else answer.rows(few)
        inner = last[chosen][few].detach().requires_grad_(True)
        labels, values = batch.labels[chosen][few], {}
        for name, weight, alpha in (("label", 1 - self.cfg.alpha, 0.0), ("soft", self.cfg.alpha, 1.0)):
            if weight:
                values[name] = weight * self._loss(inner, labels, part, alpha).total
        self.shares.measure(values, [inner], batch.epoch)


def all_states(
    module: nn.Module, inputs: Mapping[str, Tensor], *, deep: bool
) -> tuple[Tensor, dict[int, Tensor] | None]:
    """Return the last states [b, t, width] and, where asked for, those of every layer (0: what enters the first)."""
    if not deep:
        return language.states(module, inputs), None
    base: Any = getattr(module, "base_model", module)
    out = base(**inputs, use_cache=False, output_hidden_states=True)
    return out.last_hidden_state, dict(enumerate(out.hidden_states))


def supervised_states(module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the last states [n, width] and targets [n] of the supervised positions of a batch, row by row."""
    states = language.states(module, batch.inputs)
    chosen = batch.labels != IGNORE
    return states[chosen], batch.labels[chosen]
