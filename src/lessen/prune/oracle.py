"""The check behind every structured cut: the smaller model must answer like the unpruned one with those units silenced.

Silencing means zeroing what the *consumers* read of a unit, not what its producers write: a bias or a BatchNorm shift
leaks through a zeroed producer. Both sides are computed in float64, so that the tolerance tests the cut, not rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import entries
from lessen.models.modes import evaluating
from lessen.prune.calibrate import Inputs, batch_of

if TYPE_CHECKING:
    from lessen.models.groups import Group
    from lessen.terms import Rows

TOLERANCE = 1e-5  # of the largest logit


def probes(data: Rows, device: torch.device) -> list[Inputs]:
    """Return two small batches: one sample alone, and the shortest with the longest, so that there is padding."""
    order = sorted(range(len(data)), key=lambda i: (int(data.lengths[i]), i))
    rows = sorted({order[0], order[len(order) // 3], order[-1]})
    import numpy as np

    batches = [np.array([order[len(order) // 2]]), np.array(rows)]
    return [batch_of(data, b, device)[0] for b in batches]


def answers(module: nn.Module, batches: Sequence[Inputs]) -> list[Tensor]:
    """Return the logits of each batch in float64; the module is copied, not changed."""
    double = copy.deepcopy(module).double()
    return _run(double, batches)


def silenced_answers(
    module: nn.Module, groups: Sequence[Group], kept: Mapping[str, Sequence[int]], batches: Sequence[Inputs]
) -> list[Tensor]:
    """Return the logits of the unpruned module, float64, with the consumers' entries of removed units set to zero."""
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        for group in groups:
            gone = sorted(set(range(group.units)) - set(kept.get(group.name, range(group.units))))
            for cut in group.consumers:
                tensor = getattr(double.get_submodule(cut.module), cut.leaf)
                index = torch.tensor(entries(cut, gone, group.units), dtype=torch.long, device=tensor.device)
                tensor.index_fill_(cut.axis, index, 0.0)
    return _run(double, batches)


def bypassed_answers(module: nn.Module, layers: Sequence[str], batches: Sequence[Inputs]) -> list[Tensor]:
    """Return the logits of the unpruned module, float64, with the named layers passing their input on unchanged."""
    double = copy.deepcopy(module).double()

    def skip(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        entering = args[0] if args else kwargs["hidden_states"]
        return (entering, *out[1:]) if isinstance(out, tuple) else entering

    for name in layers:
        double.get_submodule(name).register_forward_hook(skip, with_kwargs=True)
    return _run(double, batches)


def check(want: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Return the largest difference of a logit as a share of the largest logit.

    Raises:
        ModelError: it is above the tolerance, or not a number: the cut did not do what it says.
    """
    scale = max(float(w.abs().max()) for w in want) or 1.0
    error = max(float((w - g).abs().max()) for w, g in zip(want, got, strict=True)) / scale
    if not error <= TOLERANCE:
        raise ModelError(
            f"the cut model differs from the masked one by {error:.2e} of the largest logit (allowed {TOLERANCE:g})",
            "this is a fault in the model family's groups; the unpruned model is untouched: please report it",
        )
    return error


def _run(module: nn.Module, batches: Sequence[Inputs]) -> list[Tensor]:
    with evaluating(module), torch.no_grad():
        return [module(**{k: v.double() if v.is_floating_point() else v for k, v in b.items()}).logits for b in batches]
