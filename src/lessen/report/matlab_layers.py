"""What a report knows of single layers, as columns: widths by stage, units cut, weights masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lessen.report.rows import Report


def layers(report: Report) -> dict[str, Any]:
    """Return columns over groups of units: heads, feed-forward units, channels.

    `units` is a matrix, a line a group and a column for each of `stages`; null where that stage's model has no such
    group (a student with fewer layers). `units_before` and `units_after` are those of pruning; of teacher and final
    model where the run cut none.
    """
    stages = [row for row in report.main if (row.facts.get("shape") or {}).get("widths")]
    shapes: list[Mapping[str, int]] = [row.facts["shape"]["widths"] for row in stages]
    pruned = report.row("prune")
    cut = {str(w["name"]): w for w in (pruned.facts.get("widths") or [] if pruned else [])}
    names = list(dict.fromkeys([*(name for shape in shapes for name in shape), *cut]))
    first, last = (shapes[0], shapes[-1]) if shapes else ({}, {})
    before = [cut[n]["before"] if n in cut else None if cut else first.get(n) for n in names]
    after = [cut[n]["after"] if n in cut else None if cut else last.get(n) for n in names]
    out: dict[str, Any] = {
        "name": names,
        "kind": [str(cut[n]["kind"]) if n in cut else _kind(n) for n in names],
        "is_cut": [int(n in cut and cut[n]["after"] < cut[n]["before"]) for n in names],
        "stages": [row.stage for row in stages],
        "units": [[shape.get(n) for shape in shapes] for n in names] if stages else [],
    }
    columns = {"units_before": before, "units_after": after}
    return out | {key: values for key, values in columns.items() if any(v is not None for v in values)}


def masks(report: Report) -> dict[str, Any]:
    """Return columns over the weight matrices that unstructured pruning masked; empty where it masked none."""
    pruned = report.row("prune")
    found = ((pruned.facts.get("masks") or {}).get("layers") or []) if pruned else []
    counts: dict[str, list[float]] = {key: [m[key] for m in found] for key in ("weights", "masked", "zeros")}
    share = [m["zeros"] / m["weights"] if m["weights"] else 0.0 for m in found]
    return {"name": [str(m["module"]) for m in found], **counts, "sparsity": share}


def _kind(name: str) -> str:
    """Return what the units of a group are, from its name: layer.0.heads, stage.1.block.0.conv.0, stream.2."""
    words = [part for part in name.split(".") if part and not part.isdigit()]
    return {"conv": "channels", "stream": "channels", "cross": "heads"}.get(words[-1], words[-1]) if words else name
