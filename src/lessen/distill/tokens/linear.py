"""The loss of a language model's head without its logits: scored chunk by chunk, gradients at once.

One forward product and two for the gradients per chunk; between them the rows of logits are turned into their own
gradient, some at a time (rows.py), so that no tensor of more than `chunk` rows of the vocabulary exists. What comes in
from above scales the gradients when the graph runs backward. Positions without a label cost nothing.

Precision: products in the dtype of autocast (else the weight's), softmax, sums and the weight's gradient in fp32. fp16
needs a device that accumulates half products in fp32; on a CPU the head is computed in fp32 there. The scaler of the
loss comes too late for gradients taken in the forward pass: fp16 ones are kept times 1024 between the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lessen import plugins
from lessen.data.sequences import IGNORE
from lessen.distill.divergence import wide
from lessen.distill.tokens.rows import Weighing, against_dense_, against_sparse_
from lessen.distill.tokens.targets import SparseTargets, refuse_targets
from lessen.errors import ModelError, RecipeError, TrainingError

if TYPE_CHECKING:
    from lessen.models.language import Head

SPAN = 8192  # columns of the weight's gradient whose half-precision product exists at a time
CELLS = 2**20  # numbers that a CPU turns from logits into gradients at a time: about what its second cache holds
LIFT = 1024.0  # fp16 holds 6e-8 to 65504; gradients of logits are 1e-8 to about 10


@dataclass(frozen=True, eq=False)
class DenseTeacher:
    """A teacher's last states [n, its width] at the student's positions, and its head over the same vocabulary."""

    states: Tensor
    head: Head


@dataclass(frozen=True, eq=False)
class FusedLoss:
    """Sums over the supervised tokens: total = (1 − alpha) · ce + alpha · soft with a graph, the parts without.

    `tokens` is how many there were: what the sums of a whole optimizer step are divided by.
    """

    total: Tensor
    ce: Tensor
    soft: Tensor
    tokens: int


def fused_loss(
    states: Tensor,
    head: Head,
    labels: Tensor,
    *,
    objective: str = "kl",
    alpha: float = 0.0,
    temperature: float = 1.0,
    teacher: SparseTargets | DenseTeacher | None = None,
    chunk: int = 256,
    beta: float = 0.5,
    skew: float = 0.1,
    keep: bool = False,
) -> FusedLoss:
    """Return the loss of last states; gradients of states, head.weight and head.bias are computed with it.

    Where the values alone are wanted (no_grad, or nothing that requires a gradient) these are left out.

    Args:
        states: after the final norm, [n, width].
        head: of the student; see models/language.py.
        labels: the token each position predicts (already shifted), int64 [n]; IGNORE: not supervised.
        objective: a file of objectives/ that states TOKENS.
        alpha: weight of the soft term, 0 to 1; 0: labels alone, the teacher is not asked.
        temperature: T > 0 of the soft term; targets.py says what it means of truncated targets.
        teacher: answers at the n positions, or at the supervised ones in their order.
        chunk: positions whose logits exist at a time.
        beta, skew: settings of the objectives that take them.
        keep: allow more than one backward pass (retain_graph), each of which copies the gradients; otherwise the first
            is handed what there is.

    Raises:
        RecipeError: the objective does not fit tokens or these targets.
        ModelError: shapes or vocabularies do not fit each other.
    """
    how = _weighing(objective, alpha, temperature, teacher, {"beta": beta, "skew": skew})
    if how.file is None:
        teacher = None
    if states.shape[:1] != labels.shape or states.dim() != 2:
        raise ModelError(
            f"states {tuple(states.shape)}, labels {tuple(labels.shape)}", "give states [n, width] and labels [n]"
        )
    if isinstance(teacher, DenseTeacher) and teacher.head.vocab != head.vocab:
        raise ModelError(
            f"the teacher's vocabulary has {teacher.head.vocab} tokens, the student's {head.vocab}",
            "use models of one tokenizer, or distill.cross_tokenizer: align",
        )
    (at,) = torch.nonzero(labels != IGNORE, as_tuple=True)
    supervised = len(at)
    if teacher is not None:
        teacher = _supervised(teacher, at, len(labels))
    if supervised < len(labels):
        states, labels = states[at], labels[at]
    _refuse_unknown(labels, teacher, head.vocab)
    job = _Job(head, labels, teacher, how, max(1, chunk), keep)
    total, ce, soft = _Fused.apply(states, head.weight, head.bias, job)  # type: ignore[no-untyped-call]
    return FusedLoss(total, ce, soft, supervised)


@dataclass(frozen=True, eq=False)
class _Job:
    """What the sum is taken of; the tensors that get gradients are passed beside it."""

    head: Head
    labels: Tensor
    teacher: SparseTargets | DenseTeacher | None
    how: Weighing
    chunk: int
    keep: bool


class _Scorer:
    """Logits of a head. The weight is brought to the dtype of the products once, padding rows left out."""

    def __init__(self, head: Head, states: Tensor) -> None:
        self.head = head
        self.kind = _kind(states, head.weight)
        self.weight = head.weight.detach()[: head.vocab].to(self.kind)
        self.bias = None if head.bias is None else head.bias.detach()[: head.vocab].to(self.kind)
        self.rows = max(1, CELLS // head.vocab) if states.device.type == "cpu" else 2**31

    def __call__(self, states: Tensor) -> Tensor:
        """Return states @ weightᵀ + bias, [rows, vocab], in the dtype of the products."""
        with torch.autocast(states.device.type, enabled=False):
            return torch.nn.functional.linear(states.detach().to(self.kind), self.weight, self.bias)

    def shaped_(self, z: Tensor) -> Tensor:
        """Scale and cap what `__call__` gave, in place."""
        if self.head.scale != 1:
            z.mul_(self.head.scale)
        if self.head.softcap is not None:
            z.div_(self.head.softcap).tanh_().mul_(self.head.softcap)
        return z

    def slope(self, z: Tensor) -> Tensor | None:
        """Return the derivative of shaped logits z with respect to what they were made of; none: scale alone."""
        if self.head.softcap is None:
            return None
        return (z / self.head.softcap).square_().neg_().add_(1.0)


class _Fused(torch.autograd.Function):
    """Sums whose gradients are there before backward asks for them."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> tuple[Tensor, ...]:
        """Return total, ce, soft."""
        run = _Run(job, states, ctx.needs_input_grad[:3])
        for part in _parts(len(states), job.chunk):
            run.chunk(part)
        ctx.grads = run.gradients(states.dtype, weight.dtype)
        ctx.keep = job.keep
        ctx.mark_non_differentiable(run.ce, run.soft)
        return job.how.hard * run.ce + job.how.soft * run.soft, run.ce, run.soft

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients times the incoming one."""
        if ctx.grads is None:
            raise TrainingError(
                "the fused loss was run backward twice; its gradients are handed over the first time",
                "call fused_loss with keep=True",
            )
        if ctx.keep:
            return (*(None if grad is None else grad * scale for grad in ctx.grads), None)
        grads, ctx.grads = ctx.grads, None  # so that autograd takes them over without a copy
        if scale.device.type != "cpu" or float(scale) != 1:
            for grad in grads:
                if grad is not None:
                    grad.mul_(scale)
        return (*grads, None)


class _Run:
    """Sums and gradients so far."""

    def __init__(self, job: _Job, states: Tensor, wanted: tuple[bool, ...]) -> None:
        self.job, self.states = job, states.detach()
        self.scorer = _Scorer(job.head, states)
        self.teacher = _Scorer(job.teacher.head, job.teacher.states) if isinstance(job.teacher, DenseTeacher) else None
        full = wide(states[:0]).dtype if self.scorer.kind != torch.float64 else torch.float64
        self.lift = LIFT if self.scorer.kind == torch.float16 else 1.0
        self.ce = torch.zeros((), dtype=full, device=states.device)
        self.soft = torch.zeros_like(self.ce)
        self.any = any(wanted)
        weight, bias = job.head.weight, job.head.bias
        self.to_states = torch.zeros_like(self.states) if wanted[0] else None
        self.to_weight = torch.zeros_like(weight, dtype=full) if wanted[1] else None
        self.to_bias = torch.zeros_like(bias, dtype=full) if bias is not None and wanted[2] else None

    def chunk(self, part: slice) -> None:
        """Add the sums and gradients of some positions."""
        states = self.states[part]
        raw = self.scorer(states)
        theirs = None
        if self.teacher is not None and isinstance(self.job.teacher, DenseTeacher):
            theirs = self.teacher(self.job.teacher.states[part])
        for rows in _parts(len(raw), self.scorer.rows):
            self._rows(raw[rows], range(part.start, part.stop)[rows], None if theirs is None else theirs[rows])
        if not self.any:
            return
        with torch.autocast(states.device.type, enabled=False):
            half = states.to(self.scorer.kind)
            if self.to_states is not None:
                self.to_states[part] = _product(raw, self.scorer.weight).div_(self.lift)
            if self.to_weight is not None:
                _add_product_(self.to_weight[: self.job.head.vocab], raw, half, 1 / self.lift)

    def _rows(self, raw: Tensor, at: range, theirs: Tensor | None) -> None:
        """Add the sums of some rows of logits; the logits become their gradient."""
        scorer, job, at_rows = self.scorer, self.job, slice(at.start, at.stop)
        z = scorer.shaped_(wide(raw))
        slope = scorer.slope(z) if self.any else None
        labels = job.labels[at_rows]
        if theirs is not None and self.teacher is not None:
            ce, soft = against_dense_(z, labels, self.teacher.shaped_(wide(theirs)), job.how)
        else:
            told = job.teacher.rows(at_rows) if isinstance(job.teacher, SparseTargets) else None
            ce, soft = against_sparse_(z, labels, told, job.how)
        self.ce += ce.sum()
        self.soft += soft.sum()
        if not self.any:
            return
        if slope is not None:
            z.mul_(slope)
        if scorer.head.scale != 1:
            z.mul_(scorer.head.scale)
        if self.to_bias is not None:
            self.to_bias[: job.head.vocab] += z.sum(dim=0)
        if self.lift != 1:
            z.mul_(self.lift)
        if z.data_ptr() != raw.data_ptr():
            raw.copy_(z)

    def gradients(self, states: torch.dtype, weight: torch.dtype) -> tuple[Tensor | None, ...]:
        """Return the gradients of states, weight and bias in the dtypes of these."""
        kinds = (states, weight, weight)
        grads = (self.to_states, self.to_weight, self.to_bias)
        return tuple(None if g is None else g.to(kind) for g, kind in zip(grads, kinds, strict=True))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b; fp32 of half-precision factors where the device has it."""
    if a.is_cuda and a.dtype in (torch.float16, torch.bfloat16):
        return torch.mm(a, b, out_dtype=torch.float32)
    return a @ b


def _add_product_(sums: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """Add scale · aᵀ @ b; a product in another dtype than the sums' exists SPAN rows at a time."""
    if a.dtype == sums.dtype:
        sums.addmm_(a.T, b, alpha=scale)
        return
    for span in _parts(len(sums), SPAN):
        sums[span].add_(_product(a[:, span].T, b), alpha=scale)


def _kind(states: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of the products."""
    device = states.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    if states.dtype == torch.float64:
        return torch.float64
    return torch.float32 if kind == torch.float16 and device == "cpu" else kind


def _parts(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _refuse_unknown(labels: Tensor, teacher: object, vocab: int) -> None:
    """Raise ModelError where a label or a kept token is none of the head's."""
    ids = {"a label": labels, "a token of the teacher": teacher.index if isinstance(teacher, SparseTargets) else labels}
    for what, given in ids.items():
        if given.numel() and int(given.max()) >= vocab:
            raise ModelError(
                f"{what} is {int(given.max())}, the vocabulary has {vocab} tokens", "use the tokenizer of the model"
            )


def _weighing(
    objective: str, alpha: float, temperature: float, teacher: object, settings: dict[str, float]
) -> Weighing:
    """Return what the terms weigh and are.

    Raises:
        RecipeError: the objective does not compare tokens, or there is nobody to compare with.
    """
    if alpha == 0:
        return Weighing(1.0, 0.0, None, {}, temperature)
    if teacher is None:
        raise RecipeError(f"distill.alpha is {alpha:g}, but there is no teacher", "give `teacher`, or set alpha to 0")
    file = plugins.find("distill.objectives", objective)
    if not getattr(file, "TOKENS", False):
        raise RecipeError(
            f"distill.objective is {objective}, which does not compare distributions over tokens",
            f"choose one of {', '.join(token_objectives())}",
        )
    if isinstance(teacher, SparseTargets):
        refuse_targets(teacher, objective, file, temperature)
    name = getattr(file, "SETTING", None)
    return Weighing(1 - alpha, alpha, file, {name: settings[name]} if name else {}, temperature)


def token_objectives() -> tuple[str, ...]:
    """List the objectives that compare distributions over tokens; nothing is imported."""
    folder = "distill.objectives"
    return tuple(name for name in plugins.names(folder) if plugins.stated(folder, name).get("TOKENS"))


def _supervised(teacher: SparseTargets | DenseTeacher, at: Tensor, positions: int) -> SparseTargets | DenseTeacher:
    """Return the answers at the supervised positions.

    Raises:
        ModelError: there are as many answers as neither positions nor supervised positions.
    """
    count = len(teacher) if isinstance(teacher, SparseTargets) else len(teacher.states)
    if count not in (positions, len(at)):
        raise ModelError(
            f"the teacher answers at {count} positions, the student at {positions}, of which {len(at)} are supervised",
            "give an answer for each position, or for each supervised one in their order",
        )
    if count == len(at):
        return teacher
    if isinstance(teacher, SparseTargets):
        return teacher.rows(at)
    return DenseTeacher(teacher.states[at], teacher.head)
