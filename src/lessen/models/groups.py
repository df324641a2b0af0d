"""Cut units out of a model, exactly; or mask them, to prove that the cut was exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Cut, Group, entries
from lessen.models.family import family

if TYPE_CHECKING:
    from lessen.models import Model

__all__ = ["Cut", "Group", "cut_", "drop_layers_", "droppable", "groups", "layers", "mask_", "settle_", "slice_"]


def groups(model: Model, streams: bool = False) -> list[Group]:
    """Return what can be cut, with the units it has now.

    Args:
        model: any model of a supported family, pruned or not.
        streams: also the residual streams (channels that several layers add up), which cost more quality.
    """
    found = family(model.info.family).groups(model.module)
    return [g for g in found if streams or g.part != "stream"]


def layers(model: Model) -> list[str]:
    """Return the paths of the layers below `model.module`, in order."""
    return family(model.info.family).layers(model.module)


def droppable(model: Model) -> list[int]:
    """Return the layers that may be dropped; those that change the shape must stay."""
    one = family(model.info.family)
    return [i for i in range(len(one.layers(model.module))) if i not in one.fixed(model.module)]


def cut_(model: Model, group: Group, keep: Sequence[int]) -> None:
    """Keep only some units of a group: slice what computes and what reads them; set attributes, configuration, widths.

    Args:
        model: cut in place; gradients and optimizer states of the old parameters do not carry over.
        group: of `groups(model)`, as the model stands now.
        keep: units in 0..group.units-1, in any order, at least one.

    Raises:
        ModelError: `keep` is empty, repeats itself or is out of range, or the group is stale.
    """
    slice_(model.module, group, keep)
    settle_(model)


def slice_(module: nn.Module, group: Group, keep: Sequence[int]) -> None:
    """Slice the parameters of a group, nothing else; `settle_` must follow.

    Raises:
        ModelError: see `cut_`.
    """
    kept = _checked(group, keep)
    for cut in (*group.producers, *group.consumers):
        owner = module.get_submodule(cut.module)
        old: Tensor | None = getattr(owner, cut.leaf)
        if old is None:
            continue
        _matches(group, cut, old)
        index = _index(cut, kept, group).to(old.device)
        new = old.detach().index_select(cut.axis, index).contiguous()
        _replace_(module, owner, cut.leaf, old, new)
        _attributes_(owner)


def mask_(model: Model, group: Group, drop: Iterable[int]) -> None:
    """Zero what reads some units, in place: the reference that a cut must equal.

    Producers stay as they are: a zeroed producer would still leak its bias or its BatchNorm shift.
    """
    dropped = sorted(set(drop))
    with torch.no_grad():
        for cut in group.consumers:
            weight: Any = getattr(model.module.get_submodule(cut.module), cut.leaf)
            weight.index_fill_(cut.axis, _index(cut, dropped, group).to(weight.device), 0.0)


def drop_layers_(model: Model, keep: Sequence[int]) -> None:
    """Keep only some layers, in place, in their order.

    Raises:
        ModelError: none is kept, one does not exist, or one that changes the shape would go.
    """
    one = family(model.info.family)
    count, kept = len(one.layers(model.module)), sorted(set(keep))
    if not kept or kept[0] < 0 or kept[-1] >= count or len(kept) != len(keep):
        raise ModelError(f"layers to keep are {list(keep)}; there are 0..{count - 1}", "keep at least one, once each")
    lost = sorted(one.fixed(model.module) - set(kept))
    if lost:
        raise ModelError(f"layers {lost} of {one.name} must stay: its architecture cannot do without", "keep them")
    if len(kept) < count:
        one.drop_(model.module, kept)
        settle_(model)


def settle_(model: Model) -> None:
    """Make attributes, configuration and `info.widths` agree with the weights."""
    one = family(model.info.family)
    one.sync_(model.module)
    stated = one.units(model.module.config)
    widths = {g.name: g.units for g in one.groups(model.module) if stated[g.name] != g.units}
    if widths != model.info.widths:
        model.info = model.info.model_copy(update={"widths": widths})


def _checked(group: Group, keep: Sequence[int]) -> list[int]:
    kept = sorted(int(k) for k in keep)
    if not kept or len(set(kept)) != len(kept) or kept[0] < 0 or kept[-1] >= group.units:
        raise ModelError(
            f"{group.name}: units to keep are {', '.join(map(str, kept)) or 'none'}; there are 0..{group.units - 1}",
            "keep at least one, once each",
        )
    return kept


def _matches(group: Group, cut: Cut, old: Tensor) -> None:
    if old.shape[cut.axis] != cut.blocks * group.units * cut.width:
        raise ModelError(
            f"{group.name} was made for {group.units} units; {cut.module}.{cut.leaf} has {old.shape[cut.axis]} entries",
            "call groups() again after every cut",
        )


def _index(cut: Cut, units: Sequence[int], group: Group) -> Tensor:
    return torch.as_tensor(entries(cut, units, group.units), dtype=torch.long)


def _replace_(module: nn.Module, owner: nn.Module, leaf: str, old: Tensor, new: Tensor) -> None:
    if not isinstance(old, nn.Parameter):
        setattr(owner, leaf, new)
        return
    parameter = nn.Parameter(new, requires_grad=old.requires_grad)
    for part in module.modules():  # a tied parameter stays one
        for name, value in part._parameters.items():
            if value is old:
                setattr(part, name, parameter)


def _attributes_(part: nn.Module) -> None:
    from transformers.pytorch_utils import Conv1D

    weight: Any = getattr(part, "weight", None)  # fused experts have none
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = weight.shape
    elif isinstance(part, Conv1D):
        part.nx, part.nf = weight.shape
    elif isinstance(part, nn.Embedding):
        part.num_embeddings, part.embedding_dim = weight.shape
    elif isinstance(part, nn.Conv2d):
        part.out_channels = weight.shape[0]
        if part.groups > 1:  # depthwise
            part.groups = part.in_channels = weight.shape[0]
        else:
            part.in_channels = weight.shape[1]
    elif isinstance(part, nn.BatchNorm2d):
        part.num_features = weight.shape[0]
