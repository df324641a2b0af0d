"""Where a language teacher's answers come from: the running teacher, or what is stored of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lessen.data.sequences import IGNORE
from lessen.distill.sequences import Said, all_states
from lessen.distill.tokens.linear import DenseTeacher
from lessen.errors import TrainingError
from lessen.models import language

if TYPE_CHECKING:
    from lessen.data.sequences import Blocks, Pairs
    from lessen.distill.tokens.cache import TokenCache
    from lessen.models import Model
    from lessen.runtime import Runtime
    from lessen.terms import Batch

Routing = Callable[[], AbstractContextManager[Any]]


@dataclass
class Live:
    """The teacher reads each batch, without a gradient.

    Attributes:
        routing: which experts speak; entered anew for each pass.
        passes: answers to a batch, to be averaged.
        deep: hidden states are wanted too.
        offload: the teacher lies in the host's memory between steps. It comes to the device for the whole step and
            leaves before the next one's texts are made, never between a forward and its backward pass.
    """

    model: Model
    place: Runtime
    routing: Routing = nullcontext
    passes: int = 1
    deep: bool = False
    offload: bool = False

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the batches as they are."""
        self.model.module.to(self.place.device)
        return list(batches)

    def __call__(self, batch: Batch) -> Said:
        """Return the teacher's last states at the supervised positions, once a pass."""
        chosen = batch.labels != IGNORE
        answers, hidden = [], None
        head = language.head(self.model)
        for _ in range(self.passes):
            with torch.no_grad(), self.place.autocast(), self.routing():
                last, hidden = all_states(self.model.module, batch.inputs, deep=self.deep)
            answers.append(DenseTeacher(last[chosen], head))
        return Said(answers, hidden)

    def after_step(self) -> None:
        """Let the teacher leave the device."""
        if self.offload:
            self.model.module.to("cpu")


@dataclass
class Stored:
    """The teacher's answers, read from disk."""

    cache: TokenCache
    data: Pairs | Blocks
    device: torch.device

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the batches as they are."""
        return list(batches)

    def __call__(self, batch: Batch) -> Said:
        """Return the stored answers of a batch."""
        told = self.cache.targets(self.data, batch.rows, self.device)
        supervised = int((batch.labels != IGNORE).sum())
        if len(told) != supervised:
            raise TrainingError(
                f"the cache has {len(told)} answers for {supervised} supervised tokens of a batch",
                "this is a fault: please report it; distill.cache: off goes on without the cache",
            )
        return Said([told])


class AfterStep(nn.Module):
    """Calls back after every optimizer step; an attachment of `fit` without weights."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self._call = call

    def after_step(self, step: int, total_steps: int, steps_per_epoch: int) -> None:
        """Call back."""
        self._call()
