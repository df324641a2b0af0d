"""Layer by layer: weights are pruned on what reaches them from the layers before, which are pruned already.

Linear layers of one transformer layer are pruned together, on the same pass; a pass ends where the last of them has
seen its input. So there are as many passes as layers, each as long as the way to its layer: half of them counted whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.groups import layers
from lessen.prune import tensors
from lessen.prune.calibrate import Enough, each_input

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.prune.calibrate import Calibration
    from lessen.prune.masks import Plan


def prune_(
    model: Model,
    weights: Mapping[str, nn.Parameter],
    method: ModuleType,
    plan: Plan,
    batches: Calibration,
    check: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Prune weights in place; return their masks (True: stays) in their layouts, and a row of facts for each matrix.

    A row's error is what the output of the matrix lost on the calibration rows, as a share of its energy.

    Args:
        method: a file of prune/methods with SIDE "matrix".
        plan: frac or nm of every matrix; one shot.
        check: called before each pass.

    Raises:
        ModelError: a layer is never run.
    """
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    facts: list[dict[str, Any]] = []
    for names in _together(model, _order(model.module, list(weights), batches)):
        check()
        hessians, rows = _hessians(model.module, names, batches)
        for name in names:
            how = tensors.layout(model.module, name)
            parts = zip(
                tensors.pieces(name, weights[name], how),
                tensors.matrices(weights[name].detach(), how),
                tensors.matrices(masks[name], how),
                strict=True,
            )
            for piece, weight, mask in parts:
                error = _prune_matrix_(method, plan, piece, weight, mask, hessians.pop(piece))
                facts.append({"matrix": piece, "error": error, "rows": rows[piece]})
    return masks, facts


def _prune_matrix_(
    method: ModuleType, plan: Plan, name: str, weight: Tensor, mask: Tensor, hessian: Tensor
) -> float | None:
    """Prune one matrix and set its mask, both in place; return the share of its output that is lost."""
    flat = weight.reshape(weight.shape[0], -1)
    target = plan.target({name: flat.shape})
    assert isinstance(target, dict)  # noqa: S101 - rules.refuse lets no global scope through
    new, kept = method.solve(flat, hessian, target[name], plan.nm)
    lost, whole = (float(((w.double() @ hessian) * w.double()).sum()) for w in (flat - new, flat))
    weight.copy_(new.reshape(weight.shape))
    mask.copy_(kept.reshape(mask.shape))
    return lost / whole if whole else None


def _hessians(
    module: nn.Module, names: Sequence[str], batches: Calibration
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the sum of x xᵀ over real rows x that each matrix reads, float64 [in, in], and the number of rows."""
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    waiting: set[str] = set()
    wanted = {
        piece
        for name in names
        for piece in tensors.pieces(name, tensors.tensor(module, name), tensors.layout(module, name))
    }

    def see(name: str, x: Tensor) -> None:
        x = x.double()
        gram = x.T @ x
        sums[name] = sums[name] + gram if name in sums else gram
        rows[name] = rows.get(name, 0) + len(x)
        waiting.discard(name)
        if not waiting:
            raise Enough

    def fresh() -> bool:
        waiting.clear()
        waiting.update(wanted)
        return False

    each_input(module, names, batches, see, fresh)
    return sums, rows


def _order(module: nn.Module, names: Sequence[str], batches: Calibration) -> list[str]:
    """Return names in the order in which a forward pass reaches them."""
    seen: dict[str, None] = {}

    def see(name: str, x: Tensor) -> None:
        seen.setdefault(name.partition("[")[0])

    ran = iter((False, True))
    each_input(module, names, batches, see, lambda: next(ran))
    missing = [name for name in names if name not in seen]
    if missing:
        raise ModelError(f"the forward pass never reached the layer {missing[0]}", "leave it out of pruning")
    return list(seen)


def _together(model: Model, order: Sequence[str]) -> list[list[str]]:
    """Return the names in groups that are pruned on one pass: those of a transformer layer, others one by one."""
    paths = layers(model)
    found: dict[str, list[str]] = {}
    for name in order:
        layer = next((path for path in paths if name.startswith(f"{path}.")), name)
        found.setdefault(layer, []).append(name)
    return list(found.values())
