"""The layers of a model as the predecessors' pages draw them: nodes and links, from what the files hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

MOST_NODES = 400
STEP = 2.0  # between the columns of the drawing
COLUMN_NODES = 8  # nodes beneath each other
SMALLEST, PER_DECADE = 0.2, 0.1  # of a node's size
NEARLY_ALL = 0.95  # of the weights: the rows of padding, and what rounds to zero, were not cut
FIRST, LAST, CUT, OTHER, LINK = "green", "blue", "red", "yellow", "gray"
Layer = Mapping[str, Any]


def network(layers: Sequence[Layer]) -> dict[str, list[dict[str, Any]]]:
    """Return nodes and links of a model's layers.

    A node is a module that has weights of its own; links follow the order of the modules, not branches of the graph,
    which the files do not tell. Where there are more than 400, neighbours below one parent are drawn as one.

    Args:
        layers: as `Bench.layers` gives them, in the order of the modules.
    """
    chosen = _leaves(layers)
    nodes = [_node(layer, at, len(chosen)) for at, layer in enumerate(chosen)]
    links = [{"source": a["id"], "target": b["id"], "color": LINK} for a, b in itertools.pairwise(nodes)]
    return {"nodes": nodes, "connections": links}


def _leaves(layers: Sequence[Layer]) -> list[Layer]:
    """Return the modules with weights that no other one below them has; higher ones where those are too many."""
    deepest = max((int(layer["depth"]) for layer in layers), default=0)
    for depth in range(deepest, -1, -1):
        there = [layer for layer in layers if int(layer["depth"]) <= depth and layer["parameters"]]
        parents = {layer["parent"] for layer in there}
        found = [layer for layer in there if layer["id"] not in parents]
        if len(found) <= MOST_NODES:
            return found
    return []


def _node(layer: Layer, at: int, total: int) -> dict[str, Any]:
    before, after, parameters, nonzero = (layer[k] for k in ("units_before", "units_after", "parameters", "nonzero"))
    if before and after is not None:
        left, cut = after / before, after < before
    elif nonzero is not None and len(layer["shape"] or ()) > 1:  # biases and norms hold zeros that nobody cut
        left, cut = nonzero / parameters, nonzero < NEARLY_ALL * parameters
    else:
        left, cut = 1.0, False
    column, row = divmod(at, COLUMN_NODES)
    color = FIRST if at == 0 else LAST if at == total - 1 else CUT if cut else OTHER
    return {
        "id": str(layer["id"]),
        "label": str(layer["name"]),
        "kind": str(layer["kind"]),
        "x": STEP * column,
        "y": (COLUMN_NODES - 1) / 2 - row,
        "z": 0.0,
        "size": SMALLEST + PER_DECADE * math.log10(1 + parameters),
        "color": color,
        "opacity": round(max(0.0, min(1.0, left)), 4),
        **{key: layer[key] for key in ("shape", "nonzero", "sparsity", "bits")},
        "parameters": parameters,
        "units_before": before,
        "units_after": after,
    }
