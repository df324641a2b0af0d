"""A dense student of a mixture of experts: everything but the experts copied, one feed-forward part made of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from lessen.errors import ModelError
from lessen.models import Model
from lessen.models.build import known_fields, module_of
from lessen.models.family import family
from lessen.models.groups import groups, layers, settle_, slice_
from lessen.models.moe import Usage, blocks
from lessen.models.students import NOT_SHAPE

DENSE = {"mixtral": "mistral", "qwen3_moe": "qwen3"}
REASONS = {
    "olmoe": "its query and key norms run over all heads together, and no dense family here has such norms",
    "qwen2_moe": "each token weighs its shared expert by a gate, which no dense layer has",
}
LATENT = "its attention through a latent exists in no dense family"
PARTS = ("gate_proj", "up_proj", "down_proj")


def dense_from_experts(
    model: Model, usage: Mapping[int, Usage], how: Literal["top", "average", "concatenate"], count: int = 2
) -> Model:
    """Return a dense student of the matching family: attention, norms and embeddings copied, experts made one part.

    Output of the new part, for experts of mean weight a_e (over all tokens, 0 where a token was not sent):
        top: (sum of a) x the expert of largest a
        average: (sum of a) x an expert whose weights are the average, weighted by a
        concatenate: sum of a_e x expert e, over the `count` experts of largest a; its units stand side by side

    The teacher's sum of weights is one where it is normalised. Averages mix units that need not correspond.

    Args:
        usage: of `observe(model, ...)`, on training data.
        count: experts to be joined; `how: concatenate` only.

    Raises:
        ModelError: there is no dense family that the rest of the model fits, or there are fewer experts.
    """
    parts, name = blocks(model), model.info.family
    if name not in DENSE:
        raise ModelError(f"{name} has no dense student: {REASONS.get(name, LATENT)}", f"use one of {', '.join(DENSE)}")
    if set(usage) != set(parts):
        raise ModelError(f"usage is of layers {sorted(usage)}; experts are in {sorted(parts)}", "observe this model")
    least = min(len(u.gates) for u in usage.values())
    if not 1 <= count <= least:
        raise ModelError(f"{count} experts are to be joined; there are {least}", f"give 1 to {least}")
    taken = {i: _ranked(u.gates, count if how == "concatenate" else 1) for i, u in usage.items()}
    made = {i: _joined(parts[i], usage[i], how, taken[i]) for i in parts}
    student = _random(model, {f"layer.{i}.ffn": down.shape[1] for i, (_, _, down) in made.items()})
    own, source = student.module.state_dict(), model.module.state_dict()
    tensors = {key: source[key] for key in own if key in source}
    for i, path in enumerate(layers(student)):
        tensors |= {f"{path}.mlp.{n}.weight": part for n, part in zip(PARTS, made.get(i, ()), strict=False)}
    student.module.load_state_dict(tensors, strict=True)
    student.facts |= {"experts": how, "experts_taken": {str(i): chosen for i, chosen in taken.items()}}
    return student


def _joined(part: Any, usage: Usage, how: str, chosen: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of gate, up and down of one feed-forward part made of experts."""
    fused, down = part.experts.gate_up_proj.detach().double(), part.experts.down_proj.detach().double()
    gate, up = fused.chunk(2, dim=1)
    mean = (usage.gates / usage.tokens).to(down.device)
    if how == "average":
        gate, up, down = (torch.tensordot(mean / mean.sum(), t, dims=1) for t in (gate, up, down))
        down = down * mean.sum()
    else:
        scale = mean[chosen] if how == "concatenate" else mean.sum()[None]
        gate, up = (torch.cat([t[e] for e in chosen]) for t in (gate, up))
        down = torch.cat([down[e] * s for e, s in zip(chosen, scale, strict=True)], dim=1)
    dtype = part.experts.down_proj.dtype
    return gate.to(dtype), up.to(dtype), down.to(dtype)


def _random(model: Model, joined: Mapping[str, int]) -> Model:
    """Return a model of the dense family with the teacher's heads, feed-forward parts as wide as told."""
    from transformers import AutoConfig

    kind = DENSE[model.info.family]
    old: Any = model.module.config
    now = {g.name: g.units for g in groups(model)}
    wanted = {name: joined.get(name, now.get(name, 0)) for name in _names(model)}
    known = known_fields(kind) - NOT_SHAPE
    values: dict[str, Any] = {k: copy.deepcopy(v) for k, v in old.to_dict().items() if k in known}
    values["head_dim"] = family(model.info.family).shape(model.module)["head_dim"]
    values["intermediate_size"] = max(units for name, units in wanted.items() if name.endswith(".ffn"))
    if "layer_types" in known:  # a mixture has one window for all layers
        windowed = "sliding_attention" if old.sliding_window is not None else "full_attention"
        values["layer_types"] = [windowed] * len(layers(model))
    info = model.info.model_copy(update={"family": kind, "source": "teacher", "widths": {}, "masks": {}})
    module = module_of(AutoConfig.for_model(kind, **values), info)
    student = Model(module.eval(), model.processor, info, {"source": "teacher", "weights": "teacher"})
    for group in groups(student):
        if wanted[group.name] < group.units:
            slice_(module, group, range(wanted[group.name]))
    settle_(student)
    return student


def _names(model: Model) -> list[str]:
    return [f"layer.{i}.{part}" for i in range(len(layers(model))) for part in ("heads", "ffn")]


def _ranked(values: Tensor, count: int) -> list[int]:
    order: list[int] = torch.argsort(values, descending=True, stable=True).tolist()
    return order[:count]
