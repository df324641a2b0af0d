"""Unstructured and N:M pruning: which weights are masked, held through recovery, and counted on the saved model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError, RecipeError
from lessen.loss import label_loss
from lessen.models.groups import groups
from lessen.prune.cost import WEIGHTED, parameters
from lessen.prune.masks import Masks, Plan
from lessen.prune.rules import end_epoch
from lessen.prune.units import generator, needs, scorer
from lessen.recipe import Prune, Train
from lessen.rules import pattern

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.prune.calibrate import Calibration

WHERE = {
    "all": "Linear and convolution weights of the whole model",
    "encoder": "Linear and convolution weights of the encoder",
    "attention": "Linear weights of the attention layers",
    "ffn": "Linear weights of the feed-forward layers",
}


@dataclass(frozen=True)
class Chosen:
    """The weights that may be masked, by module name, and those refused with the reason."""

    weights: dict[str, nn.Parameter]
    refused: dict[str, str]
    denominator: str


def choose_weights(model: Model, cfg: Prune) -> Chosen:
    """Return the weights of Linear and convolution layers that cfg.layers names; embeddings, biases and norms never.

    Raises:
        RecipeError: no weight is left.
    """
    ratio = pattern(cfg.pattern)
    parts = {c.module: g.part for g in groups(model, streams=True) for c in (*g.producers, *g.consumers)}
    embeddings = {id(m.weight) for m in model.module.modules() if isinstance(m, nn.Embedding)}
    weights: dict[str, nn.Parameter] = {}
    refused: dict[str, str] = {}
    for name, part in model.module.named_modules():
        if not isinstance(part, WEIGHTED) or not _in(name, part, parts, cfg.layers):
            continue
        layer: Any = part
        if id(layer.weight) in embeddings:
            refused[name] = "shared with an embedding"
        elif ratio and layer.weight.shape[1] % ratio[1]:
            refused[name] = f"{layer.weight.shape[1]} inputs are not a multiple of {ratio[1]}"
        else:
            weights[name] = layer.weight
    if not weights:
        why = f" ({next(iter(refused.values()))})" if refused else ""
        raise RecipeError(
            f"prune.layers {cfg.layers} leaves no weight to prune in this {model.info.family} model{why}",
            "try prune.layers: all",
        )
    denominator = f"{WHERE[cfg.layers]} ({len(weights)} tensors; embeddings, biases and norms are not counted)"
    return Chosen(weights, refused, denominator)


def _in(name: str, layer: nn.Module, parts: Mapping[str, str], layers: str) -> bool:
    if layers == "all":
        return True
    part = parts.get(name)
    if layers == "encoder":
        return part in ("attention", "ffn") or isinstance(layer, nn.modules.conv._ConvNd)
    return part == layers


def plan(cfg: Prune) -> Plan:
    """Return how the masks of this recipe are chosen and when."""
    ratio = pattern(cfg.pattern)
    compare = "row" if cfg.method == "wanda" else {"per_layer": "layer", "global": "all"}[cfg.scope]
    return Plan(
        frac=1 - ratio[0] / ratio[1] if ratio else cfg.remove_frac,
        compare=compare,
        nm=ratio,
        schedule=cfg.schedule,
        start_epoch=cfg.start_epoch,
        end_epoch=end_epoch(cfg),
        frequency=cfg.frequency,
    )


def masks(model: Model, chosen: Chosen, cfg: Prune, batches: Calibration, seed: int) -> Masks:
    """Return the masks of a model; one-shot ones are applied at once.

    What the method measures (activation norms, gradients) is measured once, on the unpruned model; a growing schedule
    ranks the weights of the moment by it.
    """
    method = scorer(cfg.method)
    names = list(chosen.weights)
    given = needs(method, model.module, names, batches, label_loss(model.info, cfg.recover or Train(), None), seed)

    def score(name: str, weight: Tensor) -> Tensor:
        if "generator" in given[name]:  # the same draw each time
            given[name]["generator"] = generator(seed, name)
        scores: Tensor = method.saliency(weight, **given[name])
        return scores

    return Masks(chosen.weights, plan(cfg), score)


def counts(module: nn.Module, kept: Mapping[str, Tensor], plan: Plan) -> dict[str, Any]:
    """Count the zeros of a (reopened) model and return raw numbers per layer and in all.

    Raises:
        ModelError: a masked weight is not zero, the exact target is missed, or a group of M holds more than N weights.
    """
    rows: list[dict[str, Any]] = []
    for name, mask in kept.items():
        layer: Any = module.get_submodule(name)
        weight: Tensor = layer.weight.detach()
        if bool(weight[~mask.to(weight.device)].any()):
            raise ModelError(
                f"masked weights of {name} are not zero in the saved model", "this is a fault: please report it"
            )
        if plan.nm:
            _check_nm(name, weight, plan.nm)
        masked = int((~mask).sum())
        rows.append({"module": name, "weights": weight.numel(), "masked": masked, "zeros": int((weight == 0).sum())})
    _check_target(rows, {name: mask.shape for name, mask in kept.items()}, plan)
    weights, masked = sum(r["weights"] for r in rows), sum(r["masked"] for r in rows)
    total = parameters(module)
    zeros = sum(int((p == 0).sum()) for p in module.parameters())
    return {
        "weights": weights,
        "masked": masked,
        "fraction": masked / weights,
        "parameters": total,
        "zero_parameters": zeros,
        "fraction_of_parameters": zeros / total,
        "layers": rows,
    }


def _check_nm(name: str, weight: Tensor, nm: tuple[int, int]) -> None:
    most = int((weight.movedim(1, -1).reshape(-1, nm[1]) != 0).sum(dim=1).max())
    if most > nm[0]:
        raise ModelError(
            f"{name} holds {most} weights in a group of {nm[1]}, allowed {nm[0]}", "this is a fault: please report it"
        )


def _check_target(rows: list[dict[str, Any]], shapes: Mapping[str, torch.Size], plan: Plan) -> None:
    target = plan.target(shapes)
    got = {row["module"]: row["masked"] for row in rows}
    hit = bool(sum(got.values()) == target if isinstance(target, int) else got == target)
    if not hit:
        want = target if isinstance(target, int) else sum(target.values())
        raise ModelError(
            f"{sum(got.values())} of {sum(map(math.prod, shapes.values()))} weights are masked, the target is {want}",
            "let the schedule end before the recovery training does",
        )
