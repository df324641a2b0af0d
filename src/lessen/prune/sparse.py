"""Unstructured and N:M pruning: which weights are masked, held through recovery, and counted on the saved model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError, RecipeError
from lessen.loss import label_loss
from lessen.models.groups import groups
from lessen.prune import sensitivity, sequential, structured, tensors
from lessen.prune.cost import parameters
from lessen.prune.masks import Masks, Plan, matrix_shapes
from lessen.prune.refit import refittable
from lessen.prune.rules import end_epoch
from lessen.prune.units import generator, needs, saliency, scorer
from lessen.recipe import Prune, Train
from lessen.rules import pattern

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.prune.calibrate import Calibration

WHERE = {
    "all": "Linear, convolution and expert weights of the whole model",
    "encoder": "Linear, convolution and expert weights of the layers, without what stands around them",
    "attention": "Linear weights of the attention layers",
    "ffn": "Linear and expert weights of the feed-forward layers",
}
IGNORED = "prune.ignore names it"


@dataclass(frozen=True)
class Chosen:
    """The weights that may be masked, by name, and those refused with the reason."""

    weights: dict[str, nn.Parameter]
    layouts: dict[str, tensors.Layout]
    refused: dict[str, str]
    denominator: str


def choose_weights(model: Model, cfg: Prune) -> Chosen:
    """Return the weights of linear layers, convolutions and experts that cfg.layers names.

    Embeddings, biases and norms are never among them, nor are routers: which expert a token is sent to would change.

    Raises:
        RecipeError: no weight is left.
    """
    parts = {c.module: g.part for g in groups(model, streams=True) for c in (*g.producers, *g.consumers)}
    alone = structured.ignored_modules(model, cfg)
    embeddings = {id(m.weight) for m in model.module.modules() if isinstance(m, nn.Embedding)}
    whole = scorer(cfg.method).SIDE == "matrix"
    weights: dict[str, nn.Parameter] = {}
    layouts: dict[str, tensors.Layout] = {}
    refused: dict[str, str] = {}
    for name, path, part in tensors.weighted(model.module):
        if not _in(path, part, parts, cfg.layers):
            continue
        weight, how = tensors.tensor(model.module, name), tensors.layout(model.module, name)
        inputs = tensors.matrices(weight, how)[0].shape[1]
        ratio = pattern(cfg.pattern)
        if id(weight) in embeddings:
            refused[name] = "shared with an embedding"
        elif path in alone:
            refused[name] = IGNORED
        elif tensors.is_router(model.module, name):
            refused[name] = "it chooses among experts"
        elif ratio and inputs % ratio[1]:
            refused[name] = f"{inputs} inputs are not a multiple of {ratio[1]}"
        elif whole and how != "experts" and not refittable(part):
            refused[name] = f"{cfg.method} prunes layers that are linear in their inputs"
        else:
            weights[name], layouts[name] = weight, how
    if not weights and IGNORED in refused.values():
        raise RecipeError(
            f"prune.ignore {', '.join(cfg.ignore)} leaves no weight to prune in this {model.info.family} model",
            "name fewer modules",
        )
    if not weights:
        why = f" ({next(iter(refused.values()))})" if refused else ""
        raise RecipeError(
            f"prune.layers {cfg.layers} leaves no weight to prune in this {model.info.family} model{why}",
            "try prune.layers: all",
        )
    denominator = f"{WHERE[cfg.layers]} ({len(weights)} tensors; embeddings, biases and norms are not counted)"
    if IGNORED in refused.values():
        denominator += f", without the {list(refused.values()).count(IGNORED)} that prune.ignore leaves alone"
    return Chosen(weights, layouts, refused, denominator)


def _in(path: str, layer: nn.Module, parts: Mapping[str, str], layers: str) -> bool:
    if layers == "all":
        return True
    part = parts.get(path, "attention" if ".self_attn." in path else None)  # attention whose heads cannot be cut
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


def masks(
    model: Model,
    chosen: Chosen,
    cfg: Prune,
    batches: Calibration,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[Masks, dict[str, Any]]:
    """Return the masks of a model, and facts about them; one-shot masks are applied at once.

    What the method measures (activation norms, gradients) is measured once, on the unpruned model; a growing schedule
    ranks the weights of the moment by it. A method that works on whole matrices goes through the layers in order and
    changes the weights that stay.

    Args:
        check: called now and then; raises where the run is to stop.
    """
    method = scorer(cfg.method)
    if method.SIDE == "matrix":
        kept, rows = sequential.prune_(model, chosen.weights, method, plan(cfg), batches, check)
        held = Masks(chosen.weights, plan(cfg), lambda name, weight: kept[name].to(weight.device), chosen.layouts)
        return held, {"matrices": rows}
    names = list(chosen.weights)
    given = needs(method, model.module, names, batches, label_loss(model.info, cfg.recover or Train(), None), seed)
    idle = _unsent(given, chosen.layouts)

    def score(name: str, weight: Tensor) -> Tensor:
        if "generator" in given[name]:  # the same draw each time
            given[name]["generator"] = generator(seed, name)
        return saliency(method, weight, chosen.layouts[name], given[name])

    return Masks(chosen.weights, plan(cfg), score, chosen.layouts), {"experts_never_sent_to": idle} if idle else {}


def layers(model: Model, chosen: Chosen, cfg: Prune, batches: Calibration, seed: int) -> list[sensitivity.Layer]:
    """Return the weights that may be masked, with the scores that the masks go by."""
    method = scorer(cfg.method)
    loss = label_loss(model.info, cfg.recover or Train(), None)
    given = needs(method, model.module, list(chosen.weights), batches, loss, seed)
    _unsent(given, chosen.layouts)
    return list(sensitivity.of_weights(method, chosen.weights, chosen.layouts, given, seed))


def _unsent(given: Mapping[str, dict[str, Any]], layouts: Mapping[str, tensors.Layout]) -> dict[str, list[int]]:
    """Let experts that no calibration token was sent to be ranked by magnitude, in place, and return them."""
    found = {}
    for name, some in given.items():
        if layouts[name] == "experts" and "norm" in some:
            none = (some["norm"] == 0).all(dim=1)
            some["norm"] = torch.where(none[:, None], 1.0, some["norm"])
            found[name] = none.nonzero()[:, 0].tolist()
    return {name: some for name, some in found.items() if some}


def counts(module: nn.Module, kept: Mapping[str, Tensor], plan: Plan) -> dict[str, Any]:
    """Count the zeros of a (reopened) model and return raw numbers per layer and in all.

    Raises:
        ModelError: a masked weight is not zero, the exact target is missed, or a group of M holds more than N weights.
    """
    rows: list[dict[str, Any]] = []
    layouts = {name: tensors.layout(module, name) for name in kept}
    for name, mask in kept.items():
        weight = tensors.tensor(module, name).detach()
        if bool(weight[~mask.to(weight.device)].any()):
            raise ModelError(
                f"masked weights of {name} are not zero in the saved model", "this is a fault: please report it"
            )
        if plan.nm:
            for piece, part in zip(*_named(name, weight, layouts[name]), strict=True):
                _check_nm(piece, part, plan.nm)
        masked = int((~mask).sum())
        rows.append({"module": name, "weights": weight.numel(), "masked": masked, "zeros": int((weight == 0).sum())})
    _check_target(kept, layouts, plan)
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


def _named(name: str, weight: Tensor, how: tensors.Layout) -> tuple[list[str], tuple[Tensor, ...]]:
    return tensors.pieces(name, weight, how), tensors.matrices(weight, how)


def _check_target(kept: Mapping[str, Tensor], layouts: Mapping[str, tensors.Layout], plan: Plan) -> None:
    shapes = matrix_shapes(kept, layouts)
    target = plan.target(shapes)
    got: dict[str, int] = {}
    for name, mask in kept.items():
        got |= {piece: int((~part).sum()) for piece, part in zip(*_named(name, mask, layouts[name]), strict=True)}
    hit = bool(sum(got.values()) == target if isinstance(target, int) else got == target)
    if not hit:
        want = target if isinstance(target, int) else sum(target.values())
        raise ModelError(
            f"{sum(got.values())} of {sum(map(math.prod, shapes.values()))} weights are masked, the target is {want}",
            "let the schedule end before the recovery training does",
        )
