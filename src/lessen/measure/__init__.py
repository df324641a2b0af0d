"""Measure artifacts: quality, size, speed, memory, computation, each from the model reopened from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessen.measure.baseline import score_baseline
    from lessen.measure.machine import environment
    from lessen.measure.metric import Comparison, Metric, Metrics
    from lessen.measure.quality import Answers, chance_metric
    from lessen.measure.sequences import Said
    from lessen.measure.speed import measure_speed
    from lessen.measure.stage import measure_stage
    from lessen.measure.versus import compare_pairs

_HOME = {
    "Answers": "quality",
    "Comparison": "metric",
    "Metric": "metric",
    "Metrics": "metric",
    "Said": "sequences",
    "score_baseline": "baseline",
    "chance_metric": "quality",
    "compare_pairs": "versus",
    "environment": "machine",
    "measure_speed": "speed",
    "measure_stage": "stage",
}
__all__ = [
    "Answers",
    "Comparison",
    "Metric",
    "Metrics",
    "Said",
    "chance_metric",
    "compare_pairs",
    "environment",
    "measure_speed",
    "measure_stage",
    "score_baseline",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'lessen.measure' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"lessen.measure.{_HOME[name]}"), name)
