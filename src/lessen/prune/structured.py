"""Structured pruning: one cut, from scores to a smaller model that is checked against its masked self."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from lessen.context import Context, digest
from lessen.loss import label_loss
from lessen.models.cut import entries
from lessen.models.groups import cut_, groups
from lessen.models.names import matching
from lessen.prune import oracle, refit, tensors
from lessen.prune.calibrate import Calibration, Inputs, recalibrate_batchnorm_
from lessen.prune.choose import Layer, choose
from lessen.prune.cost import costs, flops, parameters
from lessen.prune.units import scorer, unit_scores
from lessen.recipe import Prune, Train

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.models.groups import Group

LISTED = 1024  # kept indices of layers up to this width stand in the facts; a digest stands for longer ones


@dataclass(frozen=True)
class Whole:
    """The model before any pruning: what every share is a share of."""

    units: Mapping[str, int]  # by group name, only groups that may be cut
    parameters: int
    flops: int


@dataclass(frozen=True)
class Bench:
    """What a cut is made with: calibration samples, probe batches for the oracle, the input FLOPs are counted on."""

    batches: Calibration
    probes: Sequence[Inputs]
    sample: Inputs


def ignored_modules(model: Model, cfg: Prune) -> frozenset[str]:
    """Return the modules that cfg.ignore names, and all below them.

    Raises:
        RecipeError: a pattern matches nothing.
    """
    names = [name for name, _ in model.module.named_modules(remove_duplicate=False)] if cfg.ignore else []
    return matching(names, cfg.ignore, "prune.ignore")


def allowed(model: Model, cfg: Prune, ignored: Set[str] = frozenset()) -> list[Group]:
    """Return the groups that cfg.kinds and cfg.layers let pruning cut.

    Args:
        ignored: modules that lose nothing: a group goes whole where any of them makes or reads its units.
    """
    return [g for g in _of_kinds(model, cfg) if not touches(g, ignored)]


def left_alone(model: Model, cfg: Prune, ignored: Set[str]) -> list[Group]:
    """Return the groups that may not be cut only because modules are ignored."""
    return [g for g in _of_kinds(model, cfg) if touches(g, ignored)]


def touches(group: Group, modules: Set[str]) -> bool:
    """Whether one of the modules makes or reads units of a group."""
    return any(cut.module in modules for cut in (*group.producers, *group.consumers))


def _of_kinds(model: Model, cfg: Prune) -> list[Group]:
    parts = {"attention": {"attention"}, "ffn": {"ffn"}}.get(cfg.layers, {"attention", "ffn", "conv", "stream"})
    there = [g for g in groups(model, streams="streams" in cfg.kinds) if g.part in parts]
    return [g for g in there if ("streams" if g.part == "stream" else g.kind) in cfg.kinds]


def whole(model: Model, cfg: Prune, bench: Bench, ignored: Set[str] = frozenset()) -> Whole:
    """Measure the unpruned model."""
    units = {g.name: g.units for g in allowed(model, cfg, ignored)}
    return Whole(units, parameters(model.module), flops(model.module, bench.sample))


def cut_units_(
    model: Model,
    cfg: Prune,
    frac: float,
    base: Whole,
    bench: Bench,
    ctx: Context,
    *,
    ignored: Set[str] = frozenset(),
    required: bool = True,
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Cut units until `frac` of the whole model's is gone, refit what read them, recalibrate BatchNorm; in place.

    Args:
        frac: share of the units, parameters or FLOPs (cfg.of) of the model before any pruning.
        ignored: modules that lose nothing.
        required: removing nothing is an error.

    Returns:
        facts, and the kept units by group name.

    Raises:
        RecipeError: nothing can be removed, or the budget is out of reach.
        ModelError: the cut model does not answer like the masked one.
    """
    there = allowed(model, cfg, ignored)
    worth = scores(model, cfg, there, bench, ctx)
    layers = [Layer(g.name, worth[g.name], g.multiple, base.units[g.name]) for g in there]
    kept = _chosen(model, cfg, frac, base, bench, there, layers, required)
    cut = [g for g in there if len(kept[g.name]) < g.units]
    expected = oracle.silenced_answers(model.module, cut, kept, bench.probes)
    sites, skipped = _consumers(model.module, cut, kept) if cfg.refit else ({}, {})
    changes = refit.solve(model.module, sites, bench.batches) if sites else []
    for group in cut:
        cut_(model, group, kept[group.name])
    error = oracle.check(expected, oracle.answers(model.module, bench.probes))
    refit.apply_(model.module, changes)
    norms = recalibrate_batchnorm_(model.module, bench.batches)
    model.module.eval()
    facts = {
        "oracle_error": error,
        "oracle_tolerance": oracle.TOLERANCE,
        "refit": [c.facts() for c in changes],
        "refit_skipped": skipped,
        "batchnorm_recalibrated": norms,
        "calibration_samples": bench.batches.samples,
    }
    return facts, kept


def scores(
    model: Model, cfg: Prune, there: Sequence[Group], bench: Bench, ctx: Context
) -> dict[str, np.ndarray[Any, Any]]:
    """Return what the units of groups are worth by the recipe's method, [units] by group name."""
    loss = label_loss(model.info, cfg.recover or Train(), None)
    return unit_scores(scorer(cfg.method), model.module, there, bench.batches, loss, ctx.seed)


def widths(
    units: Mapping[str, int], origin: Mapping[str, Sequence[int]], there: Sequence[Group]
) -> list[dict[str, Any]]:
    """Return one row per group: units before and after, and which of the original ones stayed."""
    rows = []
    for group in there:
        before, kept = units[group.name], list(origin[group.name])
        row: dict[str, Any] = {"name": group.name, "kind": group.kind, "part": group.part, "layer": group.layer}
        row |= {"before": before, "after": group.units, "kept_digest": digest(kept)}
        rows.append(row | ({"kept": kept} if before <= LISTED else {}))
    return rows


def removed(before: float, after: float, of: str) -> dict[str, Any]:
    """Return how much is gone: counts, the share, and what it is a share of."""
    return {"before": before, "after": after, "fraction": 1 - after / before if before else 0.0, "of": of}


def _chosen(
    model: Model,
    cfg: Prune,
    frac: float,
    base: Whole,
    bench: Bench,
    there: list[Group],
    layers: list[Layer],
    required: bool,
) -> dict[str, list[int]]:
    if cfg.of == "units":
        return choose(layers, frac, scope=cfg.scope, required=required)
    table = costs(model, there, bench.sample)
    cost, total = (table.parameters, base.parameters) if cfg.of == "parameters" else (table.flops, base.flops)
    return choose(layers, frac, scope=cfg.scope, cost=cost, whole=total, required=required)


def _consumers(
    module: nn.Module, cut: Sequence[Group], kept: Mapping[str, list[int]]
) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Return the kept input features of every consumer that can be refitted, and the others with the reason."""
    seen: dict[str, list[list[int]]] = {}
    skipped: dict[str, str] = {}
    for group in cut:
        for c in group.consumers:
            owner = module.get_submodule(c.module)
            name = tensors.name_of(c.module, c.leaf)
            if c.leaf == "weight" and refit.refittable(owner):
                seen.setdefault(name, []).append(entries(c, kept[group.name], group.units))
            elif tensors.is_experts(owner):
                skipped[name] = "fused experts: too few calibration tokens reach each of them"
            else:
                skipped[name] = "not linear in its input features"
    readers = {c.module for group in cut for c in group.producers}  # their outputs are cut too: the old target is gone
    for name in [n for n, features in seen.items() if len(features) > 1 or n in readers]:
        skipped[name] = "it loses outputs too" if name in readers else "it reads units of several groups"
        del seen[name]
    return {name: features[0] for name, features in seen.items()}, skipped
