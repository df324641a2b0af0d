"""Student-aware routing: before each step of the student, the teacher's routers learn to teach it (SAR).

With all experts active, p the teacher, q the student, m_e the tokens that the model's own top-k would send to expert e
of a layer (counted, no gradient), P_e the sum of its probability over tokens, CV = standard deviation / mean::

    L = mean over target tokens of KL(p ‖ q)
        + balance · Σ_layers (CV(m)² + CV(P)²)
        + anchor · Σ_layers mean (W − W₀)²
        − entropy · Σ_layers mean over tokens of H(softmax(logits))

Source: Kim et al. 2025, Every Expert Matters, https://arxiv.org/abs/2502.12947, eq. 9, algorithm 2; anchor and entropy
are ours, off by default. The standard deviation is of the population. Stock routers have no W_noise: W alone learns.
CV(m) is reported and has no gradient. Padding counts nowhere. Sums over layers, tokens, micro-batches and processes are
of the whole step: how it is cut changes nothing but rounding.

The authors' code updates in training mode, for the noise of its gate. Here the teacher stays in evaluation mode: there
is no such noise, and dropout would give the gradient of another teacher than the one that then answers. The student is
in evaluation mode too while q is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from lessen.data.sequences import IGNORE
from lessen.distill.divergence import cross_entropy, wide
from lessen.distill.moe.routers import Router, hashed, refuse_unchangeable, routers
from lessen.distill.moe.routing import routing
from lessen.distill.tokens.linear import DenseTeacher, fused_loss
from lessen.errors import RecipeError, TrainingError
from lessen.models import language
from lessen.models.modes import evaluating
from lessen.models.moe import real

if TYPE_CHECKING:
    from lessen.distill.sequences import Said, TeacherSide
    from lessen.models import Model
    from lessen.models.language import Head
    from lessen.recipe import Moe
    from lessen.runtime import Runtime
    from lessen.terms import Batch

# What the fused loss must compute where the teacher's states are those with a gradient.
SWAPPED = {"kl": "reverse_kl", "reverse_kl": "kl"}
LIFT = 1024.0  # of the loss under fp16, whose gradients are small; taken out again
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class _Sums:
    """Of the real tokens of a step at each router: probability and tokens sent [experts], float64."""

    probability: dict[str, Tensor]
    sent: dict[str, Tensor]
    entropy: float  # nats, summed over tokens and routers
    tokens: float


class Sar(nn.Module):
    """The routers of a teacher, and the AdamW that trains them: an attachment of `fit`.

    Everything that a checkpoint must hold is a buffer: `fit` trains parameters, and these are not the student's. The
    weights are kept in fp32, whatever the teacher's precision, and written into the teacher after each update and
    after a checkpoint was read.
    """

    updates: Tensor

    def __init__(
        self,
        teacher: Model,
        cfg: Moe,
        place: Runtime,
        *,
        objective: str = "kl",
        chunk: int = 256,
        found: Sequence[Router] | None = None,
    ) -> None:
        """Freeze the teacher and take up its routers.

        Args:
            teacher: a mixture of experts; all of its parameters stop requiring gradients.
            cfg: weights, learning rate, bound of the gradient, steps.
            objective: kl: KL(teacher ‖ student), as in the paper; reverse_kl.
            chunk: tokens whose logits exist at a time.
            found: its routers; looked up where absent.

        Raises:
            RecipeError: there is no such objective.
            ModelError: the teacher has no routers, or their choice cannot be changed.
        """
        super().__init__()
        if objective not in SWAPPED:
            raise RecipeError(f"the routers' objective is {objective}", f"use {' or '.join(SWAPPED)}")
        self.teacher, self.cfg, self.place = teacher, cfg, place
        self.objective, self.chunk = objective, chunk
        self.found = list(routers(teacher.module) if found is None else found)
        refuse_unchangeable(self.found, "sar")
        teacher.module.requires_grad_(False)
        teacher.module.eval()
        self.parameters_: dict[str, nn.Parameter] = {n: p for r in self.found for n, p in r.parameters.items()}
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=place.device))
        for at, parameter in enumerate(self.parameters_.values()):
            value = parameter.detach().to(place.device, torch.float32, copy=True)
            self.register_buffer(f"weight{at}", value)
            self.register_buffer(f"first{at}", value.clone(), persistent=False)  # the artifact has it
            self.register_buffer(f"mean{at}", torch.zeros_like(value))
            self.register_buffer(f"square{at}", torch.zeros_like(value))
        self.register_load_state_dict_post_hook(lambda module, keys: module.write_())  # type: ignore[no-untyped-call]

    @property
    def frozen(self) -> bool:
        """Whether the routers have learned all they will: moe.freeze_after updates."""
        return self.cfg.freeze_after is not None and int(self.updates) >= self.cfg.freeze_after

    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) of the routers as they are now, for the cache of their answers."""
        return hashed(dict(zip(self.parameters_, self._kept("weight"), strict=True)))

    def facts(self) -> dict[str, Any]:
        """Return updates, fingerprint, and how far each router moved: |W − W₀| / |W₀|."""
        moved = zip(self.parameters_, self._kept("weight"), self._kept("first"), strict=True)
        return {
            "updates": int(self.updates),
            "fingerprint": self.fingerprint(),
            "moved": {n: float((w - first).norm() / first.norm().clamp(min=1e-12)) for n, w, first in moved},
        }

    def update(self, student: nn.Module, head: Head, batches: Sequence[Batch]) -> dict[str, float]:
        """Let the routers take one step on the texts of an optimizer step; the student and all else stay.

        Args:
            student: its module.
            head: of the student, over the teacher's vocabulary.
            batches: the step's micro-batches, on the teacher's device.

        Returns:
            kl per token, balance, entropy and anchor without their weights, the norm of the gradient before its bound.

        Raises:
            TrainingError: something is not finite; names it, and nothing has changed.
        """
        gradients, values = self.gradients(student, head, batches)
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        values["grad_norm"] = float(norm)
        bad = [name for name, value in values.items() if value != value or abs(value) == float("inf")]
        if bad:
            raise TrainingError(
                f"router update {int(self.updates) + 1}: {', '.join(bad)} is not finite",
                "lower distill.moe.router_lr, or use precision fp32",
            )
        if self.cfg.clip_norm and float(norm) > self.cfg.clip_norm:
            gradients = [g * (self.cfg.clip_norm / norm) for g in gradients]
        steps = [self.updates.float().cpu() for _ in gradients]
        with torch.no_grad():
            adamw(
                self._kept("weight"), gradients, self._kept("mean"), self._kept("square"), [], steps,
                foreach=False, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=self.cfg.router_lr, weight_decay=0.0,
                eps=EPSILON, maximize=False,
            )  # fmt: skip
            self.updates += 1
        self.write_()
        return values

    def gradients(
        self, student: nn.Module, head: Head, batches: Sequence[Batch]
    ) -> tuple[list[Tensor], dict[str, float]]:
        """Return the gradient of the loss for each router parameter, fp32, and the values of its terms."""
        count = self.place.sum(self._number(sum(int((b.labels != IGNORE).sum()) for b in batches)))
        cut = len(batches) > 1 or self.place.world > 1
        sums = self._summed(batches) if cut else None
        whole = [torch.zeros_like(w) for w in self._kept("weight")]
        kl = self._number(0.0)
        lift = LIFT if self.place.dtype == torch.float16 else 1.0
        with evaluating(self.teacher.module), evaluating(student), self._learning() as learning:
            for batch in batches:
                said, seen = self._divergence(student, head, batch)
                mine = self._sums(seen) if sums is None else sums
                loss = said / count.clamp(min=1).float() + self._regular(seen, mine)
                kl += said.detach()
                parts = torch.autograd.grad(loss * lift, learning, allow_unused=True)
                for total, part in zip(whole, parts, strict=True):
                    total += 0 if part is None else part.float() / lift
                sums = mine
        flat = self.place.sum(torch.cat([g.reshape(-1) for g in whole]))
        parted = torch.split(flat, [w.numel() for w in whole])
        whole = [g.view_as(w) for g, w in zip(parted, whole, strict=True)]
        values = {"kl": float(self.place.sum(kl) / count.clamp(min=1)), **self._values(sums)}
        return self._anchored(whole), values

    def write_(self) -> None:
        """Write the kept weights into the teacher, in its precision."""
        with torch.no_grad():
            for parameter, weight in zip(self.parameters_.values(), self._kept("weight"), strict=True):
                parameter.copy_(weight)

    def _kept(self, name: str) -> list[Tensor]:
        return [self.get_buffer(f"{name}{at}") for at in range(len(self.parameters_))]

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.place.device)

    @contextmanager
    def _learning(self) -> Iterator[list[nn.Parameter]]:
        """Let the routers' parameters, and nothing else of the teacher, require gradients."""
        made = list(self.parameters_.values())
        try:
            for parameter in made:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                yield made
        finally:
            for parameter in made:
                parameter.requires_grad_(False)

    def _pass(self, batch: Batch) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return the last states with all experts active; logits and own choice of each router at real tokens."""
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        there = real(batch.inputs)

        def see(router: Router, logits: Tensor, chosen: Tensor) -> None:
            keep = slice(None) if there is None else there
            seen[router.path] = (wide(logits)[keep], chosen[keep])

        with self.place.autocast(), routing(self.teacher.module, "all", found=self.found, see=see):
            last = language.states(self.teacher.module, batch.inputs)
        return last, seen

    def _divergence(
        self, student: nn.Module, head: Head, batch: Batch
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Return the divergence summed over the target tokens of a batch, and what the routers did."""
        chosen = batch.labels != IGNORE
        with torch.no_grad(), self.place.autocast():
            theirs = language.states(student, batch.inputs)[chosen]
        last, seen = self._pass(batch)
        with self.place.autocast():
            made = fused_loss(
                last[chosen], language.head(self.teacher), batch.labels[chosen], objective=SWAPPED[self.objective],
                alpha=1.0, temperature=1.0, teacher=DenseTeacher(theirs, head), chunk=self.chunk,
            )  # fmt: skip
        return made.total, seen

    def _sums(self, seen: dict[str, tuple[Tensor, Tensor]]) -> _Sums:
        probability, sent, entropy, tokens = {}, {}, 0.0, 0
        for path, (logits, chosen) in seen.items():
            log_p = logits.detach().log_softmax(dim=-1)
            probability[path] = log_p.exp().double().sum(dim=0)
            sent[path] = torch.bincount(chosen.reshape(-1), minlength=logits.shape[1]).double()
            entropy += float(cross_entropy(log_p, log_p).sum())
            tokens = len(logits)
        return _Sums(probability, sent, entropy, float(tokens))

    def _summed(self, batches: Sequence[Batch]) -> _Sums:
        """Return the sums of the whole step, of all micro-batches and processes."""
        with torch.no_grad(), evaluating(self.teacher.module):
            found = [self._sums(self._pass(batch)[1]) for batch in batches]

        def add(router: Router, values: Sequence[Tensor]) -> Tensor:
            none = torch.zeros(router.experts, dtype=torch.float64, device=self.place.device)
            return self.place.sum(torch.stack([none, *values]).sum(dim=0))

        return _Sums(
            {r.path: add(r, [s.probability[r.path] for s in found]) for r in self.found},
            {r.path: add(r, [s.sent[r.path] for s in found]) for r in self.found},
            float(self.place.sum(self._number(sum(s.entropy for s in found)))),
            float(self.place.sum(self._number(sum(s.tokens for s in found)))),
        )

    def _regular(self, seen: dict[str, tuple[Tensor, Tensor]], sums: _Sums) -> Tensor:
        """Return what has the gradient of balance and entropy; of the step's sums, these are a part."""
        total = torch.zeros((), device=self.place.device)
        for path, (logits, _) in seen.items():
            log_p = logits.log_softmax(dim=-1)
            if self.cfg.balance:
                slope = _slope(sums.probability[path]).to(log_p.dtype)
                total = total + self.cfg.balance * (log_p.exp().sum(dim=0) * slope).sum()
            if self.cfg.entropy:
                total = total - self.cfg.entropy * cross_entropy(log_p, log_p).sum() / max(sums.tokens, 1.0)
        return total

    def _anchored(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return gradients with that of the anchor, anchor · 2 (W − W₀) / size."""
        pairs = zip(gradients, self._kept("weight"), self._kept("first"), strict=True)
        return [g + self.cfg.anchor * 2 * (w - first) / w.numel() for g, w, first in pairs]

    def _values(self, sums: _Sums | None) -> dict[str, float]:
        """Return balance, entropy (nats a token) and anchor before the update, each summed over routers."""
        pairs = zip(self._kept("weight"), self._kept("first"), strict=True)
        anchor = sum(float((w - first).square().mean()) for w, first in pairs)
        if sums is None:
            return {"anchor": anchor}
        both = [float(uneven(values)) for values in (*sums.sent.values(), *sums.probability.values())]
        return {"balance": sum(both), "entropy": sums.entropy / max(sums.tokens, 1.0), "anchor": anchor}


@dataclass
class SarSide:
    """A teacher's side whose routers learn before each step, and which may answer from a cache once they are frozen.

    Attributes:
        live: the running teacher with all experts (`routing` all).
        head: of the student.
        stored: what makes the side that answers from a cache, of the routers' fingerprint; none: the teacher stays.
        last: what the last update reported.
    """

    sar: Sar
    live: TeacherSide
    head: Head
    stored: Callable[[str], TeacherSide] | None = None
    last: dict[str, float] | None = None
    _then: TeacherSide | None = None

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Update the routers on the texts of a step, and return these."""
        if self.sar.frozen and self.stored is not None:
            self._then = self._then or self.stored(self.sar.fingerprint())
            return self._then.prepare(module, batches, step)
        given = self.live.prepare(module, batches, step)  # an offloaded teacher comes to the device
        if not self.sar.frozen:
            self.last = self.sar.update(module, self.head, given)
        return given

    def __call__(self, batch: Batch) -> Said:
        """Return what the teacher says to a batch."""
        return (self._then or self.live)(batch)


def uneven(values: Tensor) -> Tensor:
    """Return the squared coefficient of variation, (standard deviation of the population / mean)²; 0 of nothing."""
    mean = values.mean()
    return (values - mean).square().mean() / mean.square().clamp(min=torch.finfo(values.dtype).tiny)


def _slope(probability: Tensor) -> Tensor:
    """Return the gradient of `uneven` at some sums."""
    with torch.enable_grad():
        leaf = probability.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(uneven(leaf), leaf)
    return slope
