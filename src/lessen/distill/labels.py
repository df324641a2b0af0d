"""The teacher's outputs in the order and form of the student's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lessen.errors import ModelError

if TYPE_CHECKING:
    from lessen.info import ModelInfo


@dataclass(frozen=True)
class Columns:
    """How logits of one model become logits over the outputs of another."""

    order: tuple[int, ...]  # column of the source for each label of the target
    expand: bool  # the source has one logit for two labels
    contract: bool  # the target has one logit for two labels

    def __call__(self, logits: Float[Tensor, "b source"]) -> Float[Tensor, "b target"]:
        """Return the logits in the target's order and form.

        One logit z and the two logits [0, z] give the same probabilities at every temperature; so do [a, b] and b − a.
        """
        wide = torch.cat([torch.zeros_like(logits), logits], dim=1) if self.expand else logits
        if self.order != tuple(range(len(self.order))):
            wide = wide[:, list(self.order)]
        return wide[:, 1:] - wide[:, :1] if self.contract else wide


def columns(source: ModelInfo, target: ModelInfo) -> Columns:
    """Compare two label maps by name.

    Raises:
        ModelError: the label names differ, or one model answers one label and the other several.
    """
    kinds = {True: "any number of labels", False: "one label"}
    if source.multi_label != target.multi_label:
        raise ModelError(
            f"the teacher answers {kinds[source.multi_label]} a row, the student {kinds[target.multi_label]}",
            "give both the same data.label_columns and output",
        )
    for info in (source, target):
        if info.logits == 1 and info.output == "softmax":
            raise ModelError(
                f"{info.source} has one output and softmax: its probability is 1 whatever the input",
                "set output to sigmoid",
            )
    return Columns(by_name(source.labels, target.labels), source.one_logit, target.one_logit)


def by_name(have: tuple[str, ...], want: tuple[str, ...]) -> tuple[int, ...]:
    """Return the position in `have`, the teacher's labels, of every label of `want`.

    Raises:
        ModelError: they do not hold the same names.
    """
    if sorted(have) != sorted(want):
        raise ModelError(
            f"the teacher's labels are {', '.join(have)}; wanted are {', '.join(want)}",
            "use a teacher trained on these labels, or train it: teacher.train",
        )
    return tuple(have.index(name) for name in want)
