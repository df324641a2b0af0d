"""How much memory distilling a language model takes, and which settings fit a machine. Trains nothing.

Estimates, not measurements: each part says what it is made of. Activations follow Korthikanti et al. 2022,
Reducing Activation Recomputation, https://arxiv.org/abs/2205.05198, eq. 2 without the attention matrix (fused attention
never stores it): 34 bytes per token, layer and hidden unit in 16 bits, twice that in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lessen import sequence_rules
from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Recipe

FP32 = 4  # bytes; weights are kept in fp32 whatever the autocast precision
TRAINED = 4 * FP32  # a weight, its gradient and two moments of AdamW
ACTIVATION_BYTES = {"fp32": 68, "bf16": 34, "fp16": 34}  # per token, layer and hidden unit
KEPT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}  # of a layer's input, with gradient checkpointing
FORWARD_BYTES = 16  # of a forward pass without gradient, per token and hidden unit: a few tensors alive at a time
LOGIT_COPIES = 3  # logits, probabilities and their gradient of one chunk, fp32
HEADROOM = 0.85  # share of the free memory that a plan may fill
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """What memory depends on, of one model."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int


@dataclass(frozen=True)
class Settings:
    """What can be changed without changing what is learned."""

    micro_batch: int
    accumulate: int
    cached: bool
    checkpointing: bool

    @property
    def batch(self) -> int:
        """Rows of an optimizer step."""
        return self.micro_batch * self.accumulate


@dataclass(frozen=True)
class Need:
    """Bytes by part; `settings` is what they are for."""

    settings: Settings
    teacher: float
    student: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.teacher + self.student + self.activations + self.logits


@dataclass(frozen=True)
class Memory:
    """What was asked for, what would fit, and the machine."""

    teacher: Shape
    student: Shape
    tokens: int  # of a row
    precision: str
    device: str
    free: float  # bytes
    asked: Need
    proposed: Need | None  # None: nothing fits

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        more = {"asked_total": self.asked.total, "fits": self.fits, "headroom": HEADROOM}
        return {**asdict(self), **more, "proposed_total": self.proposed.total if self.proposed else None}

    @property
    def fits(self) -> bool:
        """Whether what was asked for fits."""
        return self.asked.total <= HEADROOM * self.free

    def text(self) -> str:
        """Return the plan for people."""
        lines = [
            f"teacher {self.teacher.parameters / 1e6:,.1f} M weights, student {self.student.parameters / 1e6:,.1f} M; "
            f"{self.tokens} tokens a row, {self.precision}; {self.device} has {self.free / GIB:,.1f} GiB free",
            *_told("as asked", self.asked, self.free),
        ]
        if self.proposed is None:
            lines.append("nothing fits: use a smaller student, shorter rows, or another machine")
        elif self.proposed != self.asked:
            lines += _told("proposed", self.proposed, self.free)
        if self.proposed is not None:
            lines.append("settings: " + " ".join(flags(self.proposed.settings)))
        return "\n".join(lines)


def flags(settings: Settings) -> list[str]:
    """Return the settings of a recipe as flags of `lessen run`."""
    return [
        f"--distill.train.batch_size {settings.batch}",
        f"--distill.train.accumulate {settings.accumulate}",
        f"--distill.train.gradient_checkpointing {str(settings.checkpointing).lower()}",
        f"--distill.cache {'on' if settings.cached else 'auto'}",
    ]


def plan_memory(recipe: Recipe, free: float | None = None) -> Memory:
    """Estimate the memory of a recipe's distillation and propose settings that fit.

    Args:
        recipe: of a task that generates; models are built without weights.
        free: bytes there are; none: those free on the recipe's device now.

    Raises:
        UnavailableError: a model is not on this machine.
        RecipeError: the task does not generate.
    """
    import torch

    from lessen.runtime import has_bf16, pick_device

    if not recipe.generates:
        raise RecipeError(f"task is {recipe.task}", "memory is planned for causal-lm and seq2seq")
    device = pick_device(recipe.device)
    train = recipe.distill.train
    precision = train.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(torch.device(device)) else "fp32"
    live = sequence_rules.live(recipe.distill) is not None or recipe.distill.cache == "off"
    micro = max(1, train.batch_size // train.accumulate)
    settings = Settings(micro, train.accumulate, not live, train.gradient_checkpointing)
    teacher, student = _shape(recipe, recipe.teacher), _shape(recipe, recipe.student)
    tokens = recipe.data.max_length
    there = _free(device) if free is None else free

    def need(chosen: Settings) -> Need:
        return estimate(teacher, student, chosen, tokens, precision, recipe.distill.chunk_tokens)

    may_cache = sequence_rules.live(recipe.distill) is None
    fitting = (need(s) for s in _gentler(settings, may_cache))
    proposed = next((n for n in fitting if n.total <= HEADROOM * there), None)
    return Memory(teacher, student, tokens, precision, device, there, need(settings), proposed)


def estimate(teacher: Shape, student: Shape, settings: Settings, tokens: int, precision: str, chunk: int) -> Need:
    """Return the bytes of one optimizer step at its peak.

    The teacher is resident while it answers; with a cache it has left before the student trains.
    """
    rows = settings.micro_batch * tokens
    inner = ACTIVATION_BYTES[precision] * rows * student.hidden
    kept = KEPT_BYTES[precision] * rows * student.hidden * student.layers + inner
    activations = kept if settings.checkpointing else inner * student.layers
    alive = FORWARD_BYTES * rows * teacher.hidden
    return Need(
        settings,
        teacher=0.0 if settings.cached else FP32 * teacher.parameters + alive,
        student=TRAINED * student.parameters,
        activations=activations,
        logits=LOGIT_COPIES * FP32 * min(chunk, rows) * max(student.vocabulary, teacher.vocabulary),
    )


def _gentler(asked: Settings, may_cache: bool) -> Iterator[Settings]:
    """Yield settings that learn the same, those that cost least time first."""
    cached = [asked.cached] if asked.cached or not may_cache else [False, True]
    for keeps in cached:
        yield replace(asked, cached=keeps)
    keeps, micro = cached[-1], asked.micro_batch
    while micro > 1:
        micro = -(-micro // 2)
        yield replace(asked, cached=keeps, micro_batch=micro, accumulate=-(-asked.batch // micro))
    for rows in sorted({asked.micro_batch, micro}, reverse=True):
        yield replace(
            asked, cached=keeps, micro_batch=rows, accumulate=-(-asked.batch // rows), checkpointing=True
        )  # fmt: skip


def _shape(recipe: Recipe, spec: Any) -> Shape:
    from lessen import models

    found = models.outline(recipe, spec)
    return Shape(found["parameters"], found["layers"], found["hidden_size"], found["vocab_size"])


def _free(device: str) -> float:
    import psutil

    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def _told(name: str, need: Need, free: float) -> list[str]:
    s = need.settings
    how = f"{s.micro_batch} rows x {s.accumulate}" + (", teacher cached" if s.cached else ", teacher live")
    how += ", activations recomputed" if s.checkpointing else ""
    parts = ", ".join(
        f"{part} {getattr(need, part) / GIB:.2f}" for part in ("teacher", "student", "activations", "logits")
    )
    fits = "fits" if need.total <= HEADROOM * free else "does not fit"
    return [f"{name} ({how}): {need.total / GIB:.2f} GiB, {fits} ({parts})"]
