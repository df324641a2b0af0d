"""How numbers are spread: the same bins for two sets, and the grid that codes stand on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lessen.bench.stored import Stored

Array = np.ndarray[Any, Any]
SAMPLED = 48  # rows, and columns, of a matrix that are shown one by one


def spread(weights: Sequence[Stored], against: Sequence[Stored], bins: int) -> dict[str, Any]:
    """Return the histogram of some weights; another set is counted in the same bins.

    Returns:
        edges [bins + 1], counts [bins], against_counts [bins] or None, n, min, max, mean, std, zeros, quant, rows,
        remarks.
    """
    values, other = _joined(weights), _joined(against)
    remarks = []
    broken = sum(int(np.count_nonzero(~np.isfinite(w.values))) for w in weights)
    if broken:
        remarks.append(f"{broken} weights are not finite and are left out")
    both = np.concatenate([values, other]) if other.size else values
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    return {
        "edges": edges.tolist(),
        "counts": np.histogram(values, edges)[0].tolist(),
        "against_counts": np.histogram(other, edges)[0].tolist() if other.size else None,
        "n": int(values.size),
        "min": float(values.min()) if values.size else 0.0,
        "max": float(values.max()) if values.size else 0.0,
        "mean": float(values.mean(dtype=np.float64)) if values.size else 0.0,
        "std": float(values.std(dtype=np.float64)) if values.size else 0.0,
        "zeros": sum(w.size - w.nonzero for w in weights),
        "quant": _quant(weights),
        "rows": _rows(weights),
        "remarks": remarks,
    }


def _rows(weights: Sequence[Stored]) -> dict[str, Any] | None:
    """Return numbers of the largest matrix at even distances; None where there is none, or one of them is broken."""
    matrices = [w for w in weights if w.values.ndim > 1]
    if not matrices:
        return None
    values = max(matrices, key=lambda w: w.size).values
    flat = values.reshape(values.shape[0], -1)
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, SAMPLED)).astype(int)) for n in flat.shape)
    sample = flat[np.ix_(rows, columns)]
    if not np.isfinite(sample).all():
        return None
    return {"of": list(flat.shape), "values": [[float(f"{v:.6g}") for v in row] for row in sample]}


def _joined(weights: Sequence[Stored]) -> Array:
    if not weights:
        return np.zeros(0, dtype=np.float32)
    flat = np.concatenate([w.values.ravel() for w in weights])
    finite = np.isfinite(flat)
    return flat if finite.all() else flat[finite]


def _quant(weights: Sequence[Stored]) -> dict[str, Any] | None:
    """Return the grid of the largest quantized weight; None where none is."""
    packed = [w for w in weights if w.grid is not None]
    if not packed:
        return None
    largest = max(packed, key=lambda w: w.size)
    grid = largest.grid
    if grid is None:
        return None
    values, scale, zero = grid.values()
    many = sum(w.grid.scale.size for w in packed if w.grid)
    return {
        "bits": grid.bits, "scale": scale, "zero_point": zero, "scales": many, "grid": values,
        "error_mean_square": None,
    }  # fmt: skip
