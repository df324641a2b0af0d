"""What goes wrong in a training without an error: steps that are not finite, a loss that does not move."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lessen.context import Context
from lessen.errors import TrainingError

WINDOW = 50  # steps over which a loss is called stuck
NEAR = 2e-3  # of ln(vocabulary), relative: a model that answers uniformly lies within rounding of it
PATIENCE = 200  # steps at the uniform loss after which training stops


@dataclass
class Failures:
    """Counts optimizer steps that were left out since loss or gradient were not finite."""

    allowed_frac: float
    total: int
    count: int = 0

    def add(self, message: str, ctx: Context) -> None:
        """Count one failed step.

        Raises:
            TrainingError: none is allowed, or more than the allowed share of the steps have failed.
        """
        self.count += 1
        if self.count > self.allowed_frac * self.total:
            told = "" if not self.allowed_frac else (
                f"; {self.count} of {self.total} steps failed, train.max_failed_frac allows {self.allowed_frac:g}"
            )  # fmt: skip
            raise TrainingError(
                f"{ctx.stage}: {message}{told}", "lower the learning rate, use precision fp32, or look at these samples"
            )
        ctx.say(f"step left out ({self.count} so far): {message}", "warning")


@dataclass
class Stall:
    """Watches the cross-entropy of a language model for the value of an answer that says nothing: ln(vocabulary)."""

    vocabulary: int | None
    steps: int = 0  # in a row at the uniform loss
    told: bool = False

    def see(self, cross_entropy: float, ctx: Context) -> None:
        """Take the mean cross-entropy of one step, nats per token.

        Raises:
            TrainingError: it has sat at ln(vocabulary) for 200 steps.
        """
        if self.vocabulary is None:
            return
        uniform = math.log(self.vocabulary)
        self.steps = self.steps + 1 if abs(cross_entropy - uniform) <= NEAR * uniform else 0
        what = f"the loss sits at {cross_entropy:.4f} = ln(vocabulary of {self.vocabulary})"
        if self.steps >= PATIENCE:
            raise TrainingError(
                f"{ctx.stage}: {what} for {self.steps} steps: the model answers uniformly and learns nothing",
                "raise the learning rate; see that logits are not clamped and that the head trains",
            )
        if self.steps >= WINDOW and not self.told:
            self.told = True
            ctx.say(f"{what} for {self.steps} steps: the model answers uniformly", "warning")
