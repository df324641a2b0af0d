"""Dropping whole layers: the ones that change their input least go first."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lessen.errors import ModelError, RecipeError
from lessen.models.groups import drop_layers_, droppable, layers
from lessen.prune import oracle
from lessen.prune.calibrate import block_influence, recalibrate_batchnorm_
from lessen.prune.cost import flops, parameters
from lessen.prune.units import generator

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.prune.structured import Bench
    from lessen.recipe import Prune


def drop_(model: Model, cfg: Prune, bench: Bench, seed: int, ignored: Set[str] = frozenset()) -> dict[str, Any]:
    """Drop layers until the share is gone and return the facts; in place.

    The share is of the layers (cfg.of units), or as many layers as a budget of parameters or FLOPs needs. Layers are
    ranked by block influence; the random method ranks them at random.

    Args:
        ignored: modules that stay, and with them the layers that they are part of.

    Raises:
        RecipeError: no layer can go, or the budget is out of reach.
        ModelError: the model is not a stack of equal layers, or the cut model does not answer like the bypassed one.
    """
    paths = layers(model)
    scores = block_influence(model.module, paths, bench.batches)
    if cfg.method == "random":
        scores = torch.rand(len(scores), generator=generator(seed, "layers")).numpy()
    scores[sorted(set(range(len(paths))) - set(droppable(model)))] = np.inf
    scores[[i for i, path in enumerate(paths) if any(f"{name}.".startswith(f"{path}.") for name in ignored)]] = np.inf
    gone = _chosen(model, cfg, bench, scores)
    keep = [i for i in range(len(scores)) if i not in gone]
    expected = oracle.bypassed_answers(model.module, [paths[i] for i in gone], bench.probes)
    drop_layers_(model, keep)
    model.module.eval()
    error = oracle.check(expected, oracle.answers(model.module, bench.probes))
    return {
        "before": len(scores),
        "after": len(keep),
        "kept": keep,
        "score": "random" if cfg.method == "random" else "block influence: 1 - cosine(input, output)",
        "scores": [float(s) for s in scores],
        "oracle_error": error,
        "oracle_tolerance": oracle.TOLERANCE,
        "batchnorm_recalibrated": recalibrate_batchnorm_(model.module, bench.batches),
    }


def _chosen(model: Model, cfg: Prune, bench: Bench, scores: np.ndarray[Any, Any]) -> list[int]:
    """Return the layers to drop: one after the other on a copy, until the share is gone."""
    trial, there, stuck = copy.deepcopy(model), list(range(len(scores))), 0
    measures: dict[str, Callable[[], int]] = {
        "units": lambda: len(there),
        "parameters": lambda: parameters(trial.module),
        "flops": lambda: flops(trial.module, bench.sample),
    }
    measure, asked = (
        measures[cfg.of],
        f"removing {cfg.remove_frac:g} of the {'layers' if cfg.of == 'units' else cfg.of}",
    )
    aim = (1 - cfg.remove_frac) * measure()
    aim = math.ceil(aim - 0.5) if cfg.of == "units" else aim  # half a layer is rounded to one more that goes
    for index in (int(i) for i in np.argsort(scores, kind="stable")):
        if measure() <= aim or len(there) == 1:
            break
        if not np.isfinite(scores[index]) or not _drop_one_(trial, there, index):
            stuck += 1
    if len(there) == len(scores):
        raise RecipeError(
            f"{asked} drops no layer ({len(there)} layers, {stuck} of which must stay)", "see prune.kinds"
        )
    if measure() > aim and cfg.of != "units":
        raise RecipeError(
            f"{asked} is out of reach: {len(there)} of {len(scores)} layers must stay", "remove a smaller share"
        )
    return [i for i in range(len(scores)) if i not in there]


def renumbered(names: Set[str], before: Sequence[str], after: Sequence[str], kept: Sequence[int]) -> frozenset[str]:
    """Return the names that modules have once layers are gone; those of dropped layers are left out.

    Args:
        names: of modules, before.
        before, after: paths of the layers; after[i] was before[kept[i]].
    """
    paths = dict.fromkeys(before) | {before[old]: after[new] for new, old in enumerate(kept)}
    found = set()
    for name in names:
        inside = next((path for path in before if f"{name}.".startswith(f"{path}.")), None)
        now = name if inside is None else paths[inside]
        if now is not None:
            found.add(name if inside is None else now + name.removeprefix(inside))
    return frozenset(found)


def _drop_one_(trial: Model, there: list[int], index: int) -> bool:
    """Drop one layer of a copy, unless the architecture needs it (the last block of a stage); say whether it went."""
    try:
        drop_layers_(trial, [place for place, layer in enumerate(there) if layer != index])
    except ModelError:
        return False
    there.remove(index)
    return True
