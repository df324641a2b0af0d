"""Lines of progress -> curves that a screen can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Curves = dict[str, dict[str, list[list[float]]]]  # stage -> key -> [[step, value], ...]


def curves(lines: Iterable[dict[str, Any]], keys: Sequence[str], points: int) -> Curves:
    """Return values over steps of Progress lines in order of seq; of one step the newest line wins.

    A later attempt that goes on from an earlier step replaces everything from that step on: a resumed run does not
    bend its curve back.
    """
    out: dict[str, dict[str, dict[int, float]]] = {}
    newest: dict[str, int] = {}
    for line in lines:
        stage, step, attempt = str(line.get("stage")), int(line["step"]), int(line.get("attempt", 1))
        if line.get("unit", "steps") != "steps":
            continue
        mine = out.setdefault(stage, {})
        if attempt > newest.setdefault(stage, attempt):
            newest[stage] = attempt
            for curve in mine.values():
                for old in [s for s in curve if s >= step]:
                    del curve[old]
        values = {"loss": line.get("loss"), **(line.get("values") or {})}
        # The line that ends an epoch holds the epoch's mean losses beside the validation; curves are of single steps.
        epoch = any(name.startswith("val_") for name in values)
        for key in keys:
            if values.get(key) is not None and (not epoch or key.startswith("val_")):
                mine.setdefault(key, {})[step] = float(values[key])
    return {
        stage: {key: _thin(sorted(curve.items()), points) for key, curve in found.items() if curve}
        for stage, found in out.items()
        if any(found.values())
    }


def _thin(curve: list[tuple[int, float]], points: int) -> list[list[float]]:
    """Keep the first and last point, and the smallest and largest of each of points / 2 equal parts."""
    if len(curve) <= max(points, 4):
        return [[step, value] for step, value in curve]
    parts = max(1, (points - 2) // 2)
    inner = curve[1:-1]
    keep = {0, len(curve) - 1}
    for part in range(parts):
        start, end = part * len(inner) // parts, (part + 1) * len(inner) // parts
        if end > start:
            span = range(start + 1, end + 1)
            keep |= {min(span, key=lambda i: curve[i][1]), max(span, key=lambda i: curve[i][1])}
    return [list(curve[i]) for i in sorted(keep)]
